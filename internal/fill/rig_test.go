package fill_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
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
	fresh  []*origin // guarded by mu
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
	r.fresh = append(r.fresh, o)
	return o, nil
}

func (r *rig) start() *fill.Ref { return r.startIn(context.Background()) }

func (r *rig) startIn(ctx context.Context) (ref *fill.Ref) {
	r.f, ref = fill.Start(ctx, r.cfg)
	return ref
}

// own returns the reader that the fill is started for.
func (r *rig) own() *fill.Reader {
	return fill.NewReader(r.start(), fill.Options{Own: true, Again: r.again})
}

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
	if got := r.file.released; got != int(r.creates.Load()) {
		t.Errorf("the file was created %d times and released %d times", r.creates.Load(), got)
	}
	if r.file.misused {
		t.Error("the file was used in an order that it must not be")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, o := range r.fresh {
		if got := o.closed(); got != 1 {
			t.Errorf("own origin %d of %d was closed %d times", i, len(r.fresh), got)
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
