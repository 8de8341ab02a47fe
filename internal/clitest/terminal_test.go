//go:build linux || darwin

package clitest_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A session is a command at a terminal.
type session struct {
	t    *testing.T
	cmd  *exec.Cmd
	keys *os.File // to type on
	over chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	printed []byte // guarded by mu
	ended   bool   // guarded by mu
}

// start starts a command, whose standard output is at the terminal too if none
// is given.
func start(t *testing.T, stdout *bytes.Buffer, env []string, command string, args ...string) *session {
	t.Helper()
	s := &session{t: t, cmd: exec.CommandContext(t.Context(), command, args...), over: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	s.cmd.Env = append(os.Environ(), append([]string{"TERM=xterm", "NO_COLOR=", "DOCKER_CONFIG=/none"}, env...)...)
	if stdout != nil {
		s.cmd.Stdout = stdout
	}
	var err error
	if s.keys, err = pty.StartWithSize(s.cmd, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.keys.Close() })
	go s.read()
	return s
}

// read reads to the end, which is an error on Linux.
func (s *session) read() {
	defer close(s.over)
	for b := make([]byte, 4096); ; {
		n, err := s.keys.Read(b)
		s.mu.Lock()
		s.printed = append(s.printed, b[:n]...)
		s.ended = err != nil
		s.mu.Unlock()
		s.changed.Broadcast()
		if err != nil {
			return
		}
	}
}

// await waits until a text was printed.
func (s *session) await(text string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !bytes.Contains(s.printed, []byte(text)) {
		if s.ended {
			s.t.Fatalf("never printed %q, but %q", text, s.printed)
		}
		s.changed.Wait()
	}
}

// end waits for the command, and returns what it printed and its exit code.
func (s *session) end() (printed string, code int) {
	s.t.Helper()
	<-s.over
	var exit *exec.ExitError
	if err := s.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return string(s.printed), s.cmd.ProcessState.ExitCode()
}

// atTerminal runs ocicache at a terminal.
func atTerminal(t *testing.T, args ...string) (printed string, code int) {
	t.Helper()
	return start(t, nil, nil, "ocicache", args...).end()
}

// piped runs ocicache with pipes.
func piped(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ocicache", args...)
	cmd.Env = append(os.Environ(), "TERM=xterm", "DOCKER_CONFIG=/none")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ocicache %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Nothing that a command prints is wider than the terminal, whatever is in the
// cache. A pipe gets all of it.
func TestWidth(t *testing.T) {
	dir, host := filepath.Join(t.TempDir(), "cache"), serve(t, newRegistry())
	long := strings.Repeat("very-long-", 10)
	image := host + "/" + long + ":1"
	a, b := gzipped(t, long+"/"+long, 999_999), gzipped(t, "b", 100_000)
	push(t, image, imageOf(t, a, b))
	digest, diffID := hashes(t, a)
	setup := [][]string{{"pull", "--both", image}, {"pin", long, diffID.Hex, digest.Hex}}
	at := func(args []string) []string { return append(args, "--dir", dir) }
	for _, args := range setup {
		piped(t, at(args)...)
	}
	build(t, dir, long)
	for _, tt := range []struct {
		args  string
		piped string // what is in the output to a pipe
		code  int
	}{
		{"pull " + image, image + "@sha256:", 0},
		{"pull --both " + image, image + "@sha256:", 0},
		{"ls", " now", 0},
		{"ls -q", digest.String(), 0},
		{"du", "remakable", 0},
		{"inspect " + digest.Hex, "/" + strings.TrimSuffix(long, "-"), 0},
		{"inspect --files " + digest.Hex, long + "/" + long, 0},
		{"pin " + long + " " + digest.Hex, long, 0},
		{"pins", long, 0},
		{"keys ls", long, 0},
		{"prune --all --dry-run", "can be made again from sha256:", 0},
		{"verify", "all is well", 0},
		{"version", "ocicache", 0},
		{"unpin " + long, "", 0},
		{"keys rm " + long, "", 0},
		{"rm " + digest.Hex, "", 0},
		{"prune --all", "", 0},
	} {
		args := at(strings.Fields(tt.args))
		if tt.piped != "" {
			if got := piped(t, args...); !strings.Contains(got, tt.piped) || strings.ContainsAny(got, "…\x1b") {
				t.Errorf("%s: a pipe gets %q, want all of %q", tt.args, got, tt.piped)
			}
		}
		printed, code := atTerminal(t, args...)
		s := show(t, printed)
		if code != tt.code || len(s.wrapped) > 0 || s.String() == "" {
			t.Errorf("%s: got %d, want %d, and these lines are too wide: %q in\n%s", tt.args, code, tt.code, s.wrapped, s)
		}
	}
}

// A reason that fits is whole.
func TestReasonFits(t *testing.T) {
	dir, host, l := filepath.Join(t.TempDir(), "cache"), serve(t, newRegistry()), gzipped(t, "a", 100_000)
	push(t, host+"/a", imageOf(t, l))
	piped(t, "pull", "--both", "--dir", dir, host+"/a")
	printed, code := atTerminal(t, "prune", "--dir", dir, "--dry-run", "--filter", "form==uncompressed")
	if want := "can be made again from sha256:" + hexOf(t, l)[:12]; code != 0 || !strings.Contains(printed, want) {
		t.Errorf("got %d, want %q in\n%s", code, want, printed)
	}
}

func hexOf(t *testing.T, l v1.Layer) string {
	t.Helper()
	digest, _ := hashes(t, l)
	return digest.Hex
}

// What verify finds is one line each. The command that it names is to be copied.
func TestWidthOfFindings(t *testing.T) {
	dir, host := filepath.Join(t.TempDir(), "cache"), serve(t, newRegistry())
	l := gzipped(t, "a", 1000)
	push(t, host+"/a", imageOf(t, l))
	piped(t, "pull", "--dir", dir, host+"/a")
	blob := filepath.Join(dir, "blobs", "sha256", hexOf(t, l))
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, []byte("rotten"), 0o600); err != nil {
		t.Fatal(err)
	}
	printed, code := atTerminal(t, "verify", "--dir", dir)
	s := show(t, printed)
	wide := slices.DeleteFunc(s.wrapped, func(line string) bool { return strings.HasPrefix(line, "to put it right, run ") })
	if code != 3 || len(wide) > 0 || strings.Index(s.String(), "to put it right") != strings.Index(s.String(), "not repaired\n")+len("not repaired\n") {
		t.Errorf("got %d, too wide are %q in\n%s", code, wide, s)
	}
}

// There is a bar while something goes on, and none in the end; and colours,
// unless they are not wanted.
func TestLooks(t *testing.T) {
	host := serve(t, newRegistry())
	push(t, host+"/a", imageOf(t, gzipped(t, "a", 1000)))
	for _, tt := range []struct {
		env             string
		colours, cursor bool
	}{
		{"TERM=xterm", true, true},
		{"NO_COLOR=1", false, true},
		{"TERM=dumb", false, false},
		{"TERM=", false, false},
	} {
		printed, code := start(t, nil, []string{tt.env}, "ocicache", "pull", "--dir", t.TempDir(), host+"/a").end()
		screen := show(t, printed).String()
		if code != 0 || !strings.HasPrefix(screen, "LAYER") || strings.ContainsAny(screen, "█░") {
			t.Errorf("%s: got %d\n%s", tt.env, code, screen)
		}
		if got := strings.Contains(printed, "█"); got != tt.cursor {
			t.Errorf("%s: a bar: %v, want %v: %q", tt.env, got, tt.cursor, printed)
		}
		if got := strings.Contains(printed, "\x1b[1m"); got != tt.colours {
			t.Errorf("%s: colours: %v, want %v: %q", tt.env, got, tt.colours, printed)
		}
		if got := strings.Contains(printed, "\x1b"); got != tt.cursor {
			t.Errorf("%s: escapes: %v, want %v: %q", tt.env, got, tt.cursor, printed)
		}
	}
}

// A pipe gets the result and nothing else, while the terminal has the bar.
func TestHalfPiped(t *testing.T) {
	host := serve(t, newRegistry())
	push(t, host+"/a", imageOf(t, gzipped(t, "a", 1000)))
	var stdout bytes.Buffer
	printed, code := start(t, &stdout, nil, "ocicache", "pull", "--dir", t.TempDir(), host+"/a").end()
	if code != 0 || !strings.HasPrefix(stdout.String(), "LAYER") || strings.ContainsAny(stdout.String(), "\x1b█") {
		t.Errorf("got %d, and piped %q", code, &stdout)
	}
	if !strings.Contains(printed, "█") || show(t, printed).String() != "" {
		t.Errorf("the terminal got %q, want a bar that is gone", printed)
	}
}

// A terminal is no place for a layer; a pipe is.
func TestCatAtTerminal(t *testing.T) {
	dir, host, l := t.TempDir(), serve(t, newRegistry()), gzipped(t, "a", 1000)
	push(t, host+"/a", imageOf(t, l))
	piped(t, "pull", "--dir", dir, host+"/a")
	printed, code := atTerminal(t, "cat", "--dir", dir, hexOf(t, l))
	if code != 2 || strings.Count(printed, "\n") != 1 || !strings.Contains(printed, "redirect it, or pipe it") {
		t.Errorf("got %d, %q", code, printed)
	}
	var stdout bytes.Buffer
	printed, code = start(t, &stdout, nil, "ocicache", "cat", "--dir", dir, hexOf(t, l)).end()
	if size, err := l.Size(); code != 0 || int64(stdout.Len()) != size || err != nil || printed != "" {
		t.Errorf("got %d, %q, and %d bytes, want %d, %v", code, printed, stdout.Len(), size, err)
	}
}

// Ctrl-C ends a download that hangs, keeps what is complete, and the next run
// goes on from there.
func TestInterrupt(t *testing.T) {
	command := filepath.Join(t.TempDir(), "ocicache")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", command, "github.com/ocicache/ocicache/cmd/ocicache").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	layers := []v1.Layer{gzipped(t, "slow", 500_000)}
	for i := range 9 {
		layers = append(layers, gzipped(t, fmt.Sprint(i), 12_000))
	}
	dir, host := t.TempDir(), serve(t, hangOnce(newRegistry(), hexOf(t, layers[0])))
	push(t, host+"/a", imageOf(t, layers...))

	s := start(t, nil, nil, command, "pull", "--dir", dir, host+"/a")
	s.await("pulled 9 of 10 layers")
	if _, err := s.keys.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	printed, code := s.end()
	const want = "ocicache: interrupted; what is complete stays, the next run goes on from there"
	if got := show(t, printed).String(); code != 130 || got != want {
		t.Errorf("got %d\n%s\nwant\n%s", code, got, want)
	}
	if got := strings.Count(piped(t, "ls", "-q", "--dir", dir, "present"), "\n"); got != 9 {
		t.Errorf("kept %d layers, want 9", got)
	}
	got := piped(t, "pull", "--dir", dir, host+"/a")
	if strings.Count(got, "cached\n") != 9 || strings.Count(got, "pulled\n") != 1 {
		t.Errorf("the next run: got\n%s", got)
	}
}

// hangOnce never answers the first GET of a blob.
func hangOnce(h http.Handler, hex string) http.Handler {
	var once sync.Once
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, hex) {
			once.Do(func() { <-r.Context().Done() })
		}
		h.ServeHTTP(w, r)
	})
}
