package cache_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// roles are what the test binary does when it is run as another process. It
// says what it has done on lines of their own.
var roles = map[string]func(t *testing.T, dir, arg string){
	"serve": serveRole,
	"storm": stormRole,
	"crash": crashRole,
	"busy":  busyRole,
}

// TestRole is the body of the other processes, and nothing in this one.
func TestRole(t *testing.T) {
	if args := flag.Args(); len(args) == 3 && roles[args[0]] != nil {
		roles[args[0]](t, args[1], args[2])
	}
}

// say writes a line at once: what is killed next has said it.
func say(format string, args ...any) { must(fmt.Fprintf(os.Stdout, format+"\n", args...)) }

// command returns the test binary in a role.
func command(role, dir, arg string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestRole$", role, dir, arg)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE")) // the default is a second
	return cmd
}

// A process is the test binary, run again in a role.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func start(t *testing.T, role, dir, arg string) *process {
	t.Helper()
	p := &process{t: t, cmd: command(role, dir, arg)}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // one that a failed test left
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	p.want("ready")
	return p
}

// tell sends a command, and want waits for one of the answers.
func (p *process) tell(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) want(answers ...string) (got string) {
	p.t.Helper()
	if !p.lines.Scan() {
		p.t.Fatalf("the process ended, want %q", answers)
	}
	if got = p.lines.Text(); !slices.Contains(answers, got) {
		p.t.Fatalf("got %q, want %q\n%s", got, answers, strings.Join(p.rest(), "\n"))
	}
	return got
}

func (p *process) do(command, answer string) {
	p.t.Helper()
	p.tell("%s", command)
	p.want(answer)
}

// rest lets a process end, and returns what it says until then.
func (p *process) rest() (lines []string) {
	p.in.Close()
	for p.lines.Scan() {
		lines = append(lines, p.lines.Text())
	}
	return lines
}

// end lets a process end, and reports its failure.
func (p *process) end() {
	p.t.Helper()
	lines := p.rest()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%v: %s", err, strings.Join(lines, "\n"))
	}
}

// kill ends a process in the middle of what it does, and returns what it had
// said until then.
func (p *process) kill() []string {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	lines := p.rest()
	if err := p.cmd.Wait(); err == nil {
		p.t.Error("killed, and it ended well")
	}
	return lines
}

// small returns the layer of a number.
func small(n uint64) content { return makeLayer(n, 1000) }

// A server is a process that does what it is told, a command a line.
type server struct {
	c    *cache.Cache
	in   *bufio.Scanner
	gate atomic.Pointer[string] // the operation before which it stops and asks
	bad  int64                  // how many blobs it was told to repair
}

func serveRole(t *testing.T, dir, _ string) {
	s := &server{in: bufio.NewScanner(os.Stdin)}
	var err error
	if s.c, err = cache.Open(dir, cache.WithHook(s.hook), cache.WithLockTimeout(time.Minute), toStderr); err != nil {
		t.Fatal(err)
	}
	say("ready")
	for s.in.Scan() {
		answer, err := s.do(s.in.Text())
		if st := s.c.Stats(); err == nil && st.WriteFaults+st.Fallbacks+st.Repairs > s.bad {
			err = fmt.Errorf("something failed: %+v", st)
		}
		if err != nil {
			answer = "error: " + err.Error()
		}
		say("%s", answer)
	}
	if err := s.c.Close(); err != nil {
		t.Fatal(err)
	}
}

func (s *server) hook(op, name string) error {
	if gate := s.gate.Load(); gate != nil && strings.HasPrefix(op+" "+name, *gate) && s.gate.CompareAndSwap(gate, nil) {
		say("stopped")
		s.in.Scan() // only this goroutine reads: the one of the command waits for it
		if s.in.Text() == "again" {
			s.gate.Store(gate)
		}
	}
	return nil
}

func (s *server) do(command string) (answer string, err error) {
	if gate, ok := strings.CutPrefix(command, "stop before "); ok {
		s.gate.Store(&gate)
		return "done", nil
	}
	var verb string
	var n, round uint64
	_, _ = fmt.Sscan(command, &verb, &n, &round)
	want := small(n)
	switch verb {
	case "compressed", "uncompressed":
		return read(s.c, want, verb)
	case "read":
		return read(s.c, want, "compressed", "uncompressed")
	case "repair":
		s.bad++
		return read(s.c, want, "compressed")
	case "get":
		blob, err := lookUp(s.c, want.digest(), want)
		tar, terr := lookUp(s.c, want.diffID(), want)
		return blob + " " + tar, errors.Join(err, terr)
	case "delete":
		return "done", errors.Join(s.c.Delete(want.digest()), s.c.Delete(want.diffID()))
	case "pin":
		_, err := s.c.Pin(want.digest())
		return "pinned", err
	case "build":
		_, err := s.c.Build(context.Background(), fmt.Sprint("key ", n), func(context.Context) (v1.Layer, error) { return fake(want), nil })
		return "built", err
	case "building": // until it is told to go on
		_, err := s.c.Build(context.Background(), fmt.Sprint("key ", n), func(context.Context) (v1.Layer, error) {
			say("building")
			s.in.Scan()
			return fake(want), nil
		})
		return "built", err
	case "prune":
		r, err := s.c.Prune(context.Background(), cache.PrunePolicy{All: true})
		return fmt.Sprintf("removed %d", len(r.Removals)), err
	case "flush":
		return "done", s.c.Flush()
	case "work":
		return "done", work(s.c, n, round)
	}
	return "", errors.New("unknown command: " + command)
}

// read reads a layer through the cache in the forms, and tells whether its
// origin was opened.
func read(c *cache.Cache, want content, forms ...string) (answer string, err error) {
	l := fake(want)
	for _, form := range forms {
		open, b := c.Layer(l).Compressed, want.blob
		if form == "uncompressed" {
			open, b = c.Layer(l).Uncompressed, want.tar
		}
		got, err := tryRead(open)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(got, b) {
			return "", fmt.Errorf("%s: got %d bytes %s, want %d bytes %s", form, len(got), digestOf(got), len(b), digestOf(b))
		}
	}
	if l.opens.Load() > 0 {
		return "fetched", nil
	}
	return "cached", nil
}

// lookUp looks a layer up by its digest or its diffID. What is found must be
// right in both forms. A tar whose blob is gone may have none, or another one.
func lookUp(c *cache.Cache, h v1.Hash, want content) (answer string, err error) {
	l, err := c.Get(h)
	if errors.Is(err, cache.ErrNotFound) {
		return "missing", nil
	}
	if err != nil {
		return "", err
	}
	tar, err := tryRead(l.Uncompressed)
	if err != nil {
		return "", err
	}
	blob, err := tryRead(l.Compressed)
	if errors.Is(err, cache.ErrNotFound) && h != want.digest() && bytes.Equal(tar, want.tar) {
		return "tar", nil
	}
	if err != nil {
		return "", err
	}
	digest, err := l.Digest()
	if err != nil {
		return "", err
	}
	if !bytes.Equal(tar, want.tar) || digestOf(blob) != digest || h == want.digest() && h != digest || !bytes.Equal(gunzipped(blob), tar) {
		return "", fmt.Errorf("%s is found with a tar %s and a blob %s that says it is %s", h, digestOf(tar), digestOf(blob), digest)
	}
	return "found", nil
}

func gunzipped(b []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(b))
	must(err)
	tar, err := io.ReadAll(r)
	must(err)
	return tar
}
