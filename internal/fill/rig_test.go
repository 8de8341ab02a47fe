package fill_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/ocicache/ocicache/internal/fill"
)

var (
	errOrigin   = errors.New("origin broke")
	errDisk     = errors.New("disk broke")
	errMismatch = errors.New("mismatch")
	errShut     = errors.New("read of a closed origin")
)

// content returns n bytes that repeat nowhere.
func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// An origin gives data, at most step bytes at a time and no further than
// gate, then err. Close makes reads fail, unless it is deaf.
type origin struct {
	data []byte
	err  error // after the data; nil is io.EOF
	with bool  // err comes together with the last bytes
	step int   // 0 is no limit
	deaf bool

	mu     sync.Mutex
	moved  *sync.Cond // on mu
	gate   int        // guarded by mu: what was released, -1 all
	off    int        // guarded by mu
	closes int        // guarded by mu
}

func newOrigin(data []byte) *origin {
	o := &origin{data: data, gate: -1}
	o.moved = sync.NewCond(&o.mu)
	return o
}

// release lets n bytes through; the last release must be of all, with -1.
func (o *origin) release(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n < 0 {
		o.gate = -1
	} else if o.gate >= 0 {
		o.gate += n
	}
	o.moved.Broadcast()
}

func (o *origin) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.gate >= 0 && o.off >= o.gate && (o.closes == 0 || o.deaf) {
		o.moved.Wait()
	}
	if o.closes > 0 && !o.deaf {
		return 0, errShut
	}
	end := o.err
	if end == nil {
		end = io.EOF
	}
	if o.step > 0 && len(p) > o.step {
		p = p[:o.step]
	}
	if o.gate >= 0 && len(p) > o.gate-o.off {
		p = p[:o.gate-o.off]
	}
	n := copy(p, o.data[o.off:])
	o.off += n
	if n == 0 || o.with && o.off == len(o.data) {
		return n, end
	}
	return n, nil
}

func (o *origin) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closes++
	o.moved.Broadcast()
	return nil
}

func (o *origin) closed() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closes
}

// A file is in memory. Its failWrite-th Write writes half and fails, as does
// its failRead-th ReadAt.
type file struct {
	failWrite, failRead int
	closeErr            error

	mu            sync.Mutex
	data          []byte // guarded by mu, as is all below
	writes, reads int
	broken        bool
	misused       bool // used after it was closed, or written after it failed
	closes        int
}

func (f *file) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.misused = f.misused || f.broken || f.closes > 0
	f.writes++
	if f.writes == f.failWrite {
		f.broken = true
		f.data = append(f.data, p[:len(p)/2]...)
		return len(p) / 2, errDisk
	}
	f.data = append(f.data, p...)
	return len(p), nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closes > 0 {
		return 0, os.ErrClosed
	}
	f.reads++
	if f.reads == f.failRead {
		return 0, errDisk
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closes++
	return f.closeErr
}

// A rig is a fill of some content, with doubles all around it. Its fields may
// be changed until start.
type rig struct {
	content []byte
	origin  *origin
	file    *file
	cfg     fill.Config

	f    *fill.Fill
	done chan struct{}

	opens, creates, commits, fallbacks atomic.Int32

	mu     sync.Mutex
	faults []error   // guarded by mu
	agains []*origin // guarded by mu
}

func newRig(data []byte) *rig {
	r := &rig{content: data, origin: newOrigin(data), file: &file{}, done: make(chan struct{})}
	want := sha256.Sum256(data)
	r.cfg = fill.Config{
		Open: func(context.Context) (io.ReadCloser, error) {
			r.opens.Add(1)
			return r.origin, nil
		},
		Create: func() (fill.File, error) {
			r.creates.Add(1)
			return r.file, nil
		},
		Hash:  sha256.New(),
		Size:  int64(len(data)),
		Limit: func(int64) error { return nil },
		Check: func(sum []byte, n int64) error {
			if !bytes.Equal(sum, want[:]) || n != int64(len(data)) {
				return errMismatch
			}
			return nil
		},
		Commit: func(sum []byte, n int64) error {
			r.commits.Add(1)
			r.file.mu.Lock()
			defer r.file.mu.Unlock()
			if r.file.closes > 0 || !bytes.Equal(r.file.data, data) || !bytes.Equal(sum, want[:]) || n != int64(len(data)) {
				panic("something else than the content was committed")
			}
			return nil
		},
		Fault: func(err error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.faults = append(r.faults, err)
		},
		Done: func() { close(r.done) },
	}
	return r
}

// again is an Options.Again that reads the content.
func (r *rig) again() (io.ReadCloser, error) {
	o := newOrigin(r.content)
	o.step = 3
	r.mu.Lock()
	defer r.mu.Unlock()
	r.agains = append(r.agains, o)
	return o, nil
}

func (r *rig) start() *fill.Ref { return r.startIn(context.Background()) }

func (r *rig) startIn(ctx context.Context) (ref *fill.Ref) {
	r.f, ref = fill.Start(ctx, r.cfg)
	return ref
}

// own returns the reader that the fill is started for.
func (r *rig) own() *fill.Reader { return fill.NewReader(r.start(), fill.Options{Own: true, Again: r.again}) }

// join returns another reader.
func (r *rig) join(t testing.TB) *fill.Reader {
	t.Helper()
	ref := r.f.Join()
	if ref == nil {
		t.Fatal("the fill cannot be joined")
	}
	return fill.NewReader(ref, fill.Options{
		Again:    r.again,
		Fallback: func(error) { r.fallbacks.Add(1) },
	})
}

// finish waits for the end of a fill that has no readers any more, and looks
// that all was given back.
func (r *rig) finish(t testing.TB) {
	t.Helper()
	<-r.done
	<-r.f.Ended()
	if got := r.origin.closed(); got != int(r.opens.Load()) {
		t.Errorf("the origin was opened %d times and closed %d times", r.opens.Load(), got)
	}
	r.file.mu.Lock()
	defer r.file.mu.Unlock()
	if got := r.file.closes; got != int(r.creates.Load()) {
		t.Errorf("the file was created %d times and closed %d times", r.creates.Load(), got)
	}
	if r.file.misused {
		t.Error("the file was written after it failed or was closed")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, o := range r.agains {
		if got := o.closed(); got != 1 {
			t.Errorf("own origin %d of %d was closed %d times", i, len(r.agains), got)
		}
	}
}

func (r *rig) faulted() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.faults)
}

// wantCommits fails the test unless the fill committed n times.
func (r *rig) wantCommits(t testing.TB, n int32) {
	t.Helper()
	if got := r.commits.Load(); got != n {
		t.Errorf("got %d commits, want %d", got, n)
	}
}

// drain reads to the end, size bytes at a time, with the bare Read.
func drain(rd io.Reader, size int) ([]byte, error) {
	var out []byte
	p := make([]byte, size)
	for {
		n, err := rd.Read(p)
		out = append(out, p[:n]...)
		if err != nil {
			return out, err
		}
	}
}

// wantAll fails the test unless the rest of rd, after prefix, makes the
// content complete.
func (r *rig) wantAll(t testing.TB, rd io.Reader, prefix []byte, size int) {
	t.Helper()
	out, err := drain(rd, size)
	if got := append(bytes.Clone(prefix), out...); err != io.EOF || !bytes.Equal(got, r.content) {
		t.Errorf("got %d bytes and %v, want the %d bytes and EOF", len(got), err, len(r.content))
	}
}

// readN reads n bytes.
func readN(t testing.TB, rd io.Reader, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if _, err := io.ReadFull(rd, p); err != nil {
		t.Fatalf("reading %d bytes: %v", n, err)
	}
	return p
}

func bubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}
