package layout_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/ocicache/ocicache/layout"
)

// roles are what the test binary does when it is run as another process. It
// says "ready" when it holds what it is to hold, and ends with its input.
var roles = map[string]func(t *testing.T, dir, arg string){
	"lock":    lockRole,
	"ingest":  ingestRole,
	"hammer":  hammerRole,
	"endless": endlessRole,
}

const roleVar = "OCICACHE_TEST_ROLE"

// TestRole is the body of the other processes, and nothing in this one.
func TestRole(t *testing.T) {
	role, arg, _ := strings.Cut(os.Getenv(roleVar), " ")
	if run := roles[role]; run != nil {
		dir, arg, _ := strings.Cut(arg, " ")
		run(t, dir, arg)
	}
}

// A process is the test binary, run again in a role.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	out   strings.Builder
}

func start(t *testing.T, role, dir, arg string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^TestRole$", "-test.v")}
	p.cmd.Env = append(os.Environ(), roleVar+"="+role+" "+dir+" "+arg)
	p.cmd.Stderr = os.Stderr
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
	for p.lines.Scan() {
		if p.lines.Text() == "ready" {
			return p
		}
		p.out.WriteString(p.lines.Text() + "\n")
	}
	t.Fatalf("%s: %v: %s", role, p.cmd.Wait(), &p.out)
	return nil
}

// end lets a process end, and reports its failure.
func (p *process) end(t *testing.T) {
	t.Helper()
	p.in.Close()
	for p.lines.Scan() {
		p.out.WriteString(p.lines.Text() + "\n")
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, &p.out)
	}
}

// kill ends a process in the middle of what it does.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err == nil {
		t.Error("killed, and it ended well")
	}
}

// ready is called by a role; it returns when the process is to end.
func ready() {
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func lockRole(t *testing.T, dir, name string) {
	lock := flock.New(filepath.Join(dir, ".ocicache", name))
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ready()
	lock.Close()
}

func ingestRole(t *testing.T, dir, data string) {
	h := open(t, dir)
	in, err := h.Ingest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, data); err != nil {
		t.Fatal(err)
	}
	ready()
	err = h.Update(t.Context(), func(tx *layout.Tx) error {
		_, err := tx.Commit(in, digestOf(data))
		return err
	})
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
}

// hammerRole appends and checkpoints as fast as it can.
func hammerRole(t *testing.T, dir, name string) {
	l, err := layout.Open(dir, layout.Options{LockTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := &handle{Layout: l, t: t, r: &replica{}}
	if err := l.Load(h.r); err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 20 {
			if err := l.Checkpoint(context.Background(), h.r.encode); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range hammered {
		h.add(name + strconv.Itoa(i))
	}
	wg.Wait()
}

// endlessRole appends and checkpoints until it is killed.
func endlessRole(t *testing.T, dir, name string) {
	h := open(t, dir)
	fmt.Println("ready")
	for i := 0; ; i++ {
		h.add(name + strconv.Itoa(i))
		if i%10 == 9 {
			h.fold()
		}
	}
}

const hammered = 200 // records a process

// Several processes append and checkpoint at once: every record is there at
// the end, and none of them met an error.
func TestProcessesHammer(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	var want []string
	var ps []*process
	for _, name := range []string{"a", "b", "c"} {
		for i := range hammered {
			want = append(want, name+strconv.Itoa(i))
		}
		ps = append(ps, start(t, "hammer", dir, name))
	}
	for i := range 50 {
		name := "mine" + strconv.Itoa(i)
		want = append(want, name)
		h.add(name)
	}
	for _, p := range ps {
		p.end(t)
	}
	h.want(want...)
	open(t, dir).want(want...)
	h.fold()
	open(t, dir).want(want...)
}

// A process is killed while it appends and checkpoints. What it appended
// before its last word is there, and others go on.
func TestProcessKilled(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	for i := range 5 {
		name := "killed" + strconv.Itoa(i) + "-"
		p := start(t, "endless", dir, name)
		mine := "mine" + strconv.Itoa(i)
		h.add(mine)
		p.kill(t)
		h.catchUp()
		want := h.r.state().Names
		open(t, dir).want(want...)
		h.fold()
		h.want(want...)
		open(t, dir).want(want...)
	}
}

func TestProcessIngest(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	live := start(t, "ingest", dir, "live")
	dead := start(t, "ingest", dir, "dead")
	open(t, dir)
	if got := ingests(t, h); len(got) != 4 {
		t.Errorf("while two write: got %q, want two files and their locks", got)
	}
	dead.kill(t)
	open(t, dir)
	if got := ingests(t, h); len(got) != 2 {
		t.Errorf("after one was killed: got %q, want the other's", got)
	}
	live.end(t)
	wantBlob(t, h, digestOf("live"), "live")
}

// A lock that another process holds is waited for, but not for ever, and the
// error says which it is.
func TestProcessHoldsLock(t *testing.T) {
	dir := t.TempDir()
	h := openWith(t, dir, layout.Options{LockTimeout: 30 * time.Millisecond})
	patient := openWith(t, dir, layout.Options{LockTimeout: time.Minute})
	h.add("a")
	calls := map[string]func(context.Context, *handle) error{
		"lock": func(ctx context.Context, h *handle) error {
			return h.Update(ctx, func(*layout.Tx) error { t.Error("the update ran"); return nil })
		},
		"checkpoint.lock": func(ctx context.Context, h *handle) error {
			return h.Checkpoint(ctx, func(layout.Checkpoint, io.Writer) error { t.Error("the checkpoint ran"); return nil })
		},
	}
	for name, call := range calls {
		p := start(t, "lock", dir, name)
		if err := call(t.Context(), h); !errors.Is(err, layout.ErrLocked) || !strings.Contains(err.Error(), filepath.Join(dir, ".ocicache", name)) {
			t.Errorf("%s: got %v, want ErrLocked and the file's name", name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error)
		go func() { errs <- call(ctx, patient) }()
		cancel()
		if err := <-errs; !errors.Is(err, layout.ErrLocked) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want ErrLocked and context.Canceled", name, err)
		}
		h.want("a") // readers take no lock
		p.end(t)
	}
	h.add("b")
	h.fold()
	patient.want("a", "b")
}

// A lock that is free is had even if the context has ended: what is done at
// the end of a process's work still counts.
func TestUpdateCancelled(t *testing.T) {
	h := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 50 {
		err := h.Update(ctx, func(tx *layout.Tx) error { return tx.Append(records("a")...) })
		if err != nil {
			t.Fatalf("update %d: %v", i, err)
		}
	}
	h.want("a")
}

// The lock is let go when the update fails or panics.
func TestUpdateFails(t *testing.T) {
	h := openWith(t, t.TempDir(), layout.Options{LockTimeout: time.Minute})
	broken := errors.New("broken")
	if err := h.Update(t.Context(), func(*layout.Tx) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want its own error", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = h.Update(t.Context(), func(*layout.Tx) error { panic("broken") })
	}()
	h.add("a")
	open(t, h.Dir()).add("b")
	h.want("a", "b")
}
