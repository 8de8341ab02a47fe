package fill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/ocicache/ocicache/internal/fill"
)

// closedError is ErrStopped in other words, as the cache's is.
type closedError struct{}

func (closedError) Error() string        { return "closed" }
func (closedError) Is(target error) bool { return target == fill.ErrStopped }

// When the context ends with ErrStopped, all readers get it, wherever they
// are, and nobody falls back; also if the origin does not let go.
func TestStop(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		for _, cause := range []error{fill.ErrStopped, closedError{}, fmt.Errorf("wrapped: %w", fill.ErrStopped)} {
			bubble(t, func(t *testing.T) { testStop(t, deaf, cause) })
		}
	}
}

func testStop(t *testing.T, deaf bool, cause error) {
	ctx, stop := context.WithCancelCause(t.Context())
	r := newRig(content(100))
	r.origin.gate, r.origin.deaf = 50, deaf
	own := fill.NewReader(r.startIn(ctx), fill.Options{Own: true, Again: r.again})
	readers := []*fill.Reader{own, r.join(t), r.join(t)}
	waiter := r.f.Join()
	var blocked sync.WaitGroup
	for i, rd := range readers[:2] {
		blocked.Go(func() {
			out, err := drain(rd, 7+i)
			if err != cause || !bytes.Equal(out, r.content[:50]) {
				t.Errorf("deaf %v: got %d bytes and %v, want 50 and %v", deaf, len(out), err, cause)
			}
		})
	}
	synctest.Wait()
	stop(cause)
	blocked.Wait()
	if out, err := drain(readers[2], 9); err != cause || !bytes.HasPrefix(r.content, out) {
		t.Errorf("deaf %v: got %d bytes and %v, want %v", deaf, len(out), err, cause)
	}
	if r.f.Join() != nil {
		t.Error("a stopped fill was joined")
	}
	for _, rd := range readers {
		rd.Close()
	}
	r.origin.release(-1)
	if err := waiter.Wait(t.Context()); err != cause {
		t.Errorf("Wait: got %v, want %v", err, cause)
	}
	waiter.Leave()
	r.finish(t)
	r.wantCommits(t, 0)
	if len(r.fresh) != 0 {
		t.Error("a reader of a stopped fill fell back")
	}
}

// So do those who wait for an origin to be opened, also if that takes long,
// and whatever comes of it.
func TestStopWhileOpening(t *testing.T) {
	for _, failing := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			ctx, stop := context.WithCancelCause(t.Context())
			r := newRig(content(100))
			opening := make(chan struct{})
			r.cfg.Open = func(ctx context.Context) (io.ReadCloser, error) {
				<-opening
				if failing {
					return nil, ctx.Err()
				}
				r.opens.Add(1)
				return r.origin, nil
			}
			ref := r.startIn(ctx)
			opened := make(chan error)
			go func() { opened <- ref.Opened(false) }()
			synctest.Wait()
			stop(closedError{})
			if err := <-opened; err != (closedError{}) {
				t.Errorf("Opened: got %v, want %v", err, closedError{})
			}
			close(opening)
			<-r.done
			rd := fill.NewReader(ref, fill.Options{Own: true, Again: r.again})
			if _, err := drain(rd, 10); err != (closedError{}) {
				t.Errorf("got %v, want %v", err, closedError{})
			}
			rd.Close()
			r.finish(t)
		})
	}
}

// A fill that starts after its context has ended opens nothing that counts.
func TestStartStopped(t *testing.T) {
	for _, bounded := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			ctx, stop := context.WithCancelCause(t.Context())
			stop(fill.ErrStopped)
			r := newRig(content(100))
			if bounded {
				r.cfg.Slots = fill.NewSlots(1)
			}
			rd := fill.NewReader(r.startIn(ctx), fill.Options{Own: true, Again: r.again})
			if _, err := drain(rd, 10); err != fill.ErrStopped {
				t.Errorf("got %v, want %v", err, fill.ErrStopped)
			}
			rd.Close()
			r.finish(t)
			r.wantCommits(t, 0)
		})
	}
}

// What is committed can be read on after a stop.
func TestStopAfterCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, stop := context.WithCancelCause(t.Context())
		r := newRig(content(100))
		rd := bare(r.startIn(ctx))
		prefix := readN(t, rd, 10)
		synctest.Wait()
		stop(fill.ErrStopped)
		r.wantAll(t, rd, prefix, 10)
		rd.Close()
		r.finish(t)
		r.wantCommits(t, 1)
	})
}

func TestCloseWhileReading(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		r.origin.gate = 50
		own, joined := r.own(), r.join(t)
		read := make(chan error)
		for _, rd := range []*fill.Reader{own, joined} {
			go func() {
				_, err := drain(rd, 60)
				read <- err
			}()
		}
		synctest.Wait()
		own.Close()
		if err := <-read; err == nil || err == io.EOF {
			t.Errorf("got %v, want an error", err)
		}
		synctest.Wait()
		r.origin.release(-1)
		if err := <-read; err != io.EOF {
			t.Errorf("the other reader: got %v, want EOF", err)
		}
		joined.Close()
		r.finish(t)
		r.wantCommits(t, 1)
		if len(r.fresh) != 0 || r.faulted() != 0 {
			t.Error("a closed reader fell back, or was the cache's fault")
		}
	})
}

func TestReadAfterClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		rd := r.own()
		r.wantAll(t, rd, nil, 10)
		for range 3 {
			if err := rd.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			for _, p := range [][]byte{nil, make([]byte, 1)} {
				if n, err := rd.Read(p); n != 0 || err == nil || err == io.EOF {
					t.Errorf("got %d, %v, want an error", n, err)
				}
			}
		}
		if n, err := rd.WriteTo(io.Discard); n != 0 || err == nil {
			t.Errorf("WriteTo: got %d, %v, want an error", n, err)
		}
		r.finish(t)
	})
}

// The file may be closed under a Read: that is nobody's fault.
type closingFile struct {
	*file
	rd *fill.Reader
}

func (f *closingFile) ReadAt(p []byte, off int64) (int, error) {
	f.rd.Close()
	return f.file.ReadAt(p, off)
}

func TestCloseWhileReadingFile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		f := &closingFile{file: r.file}
		r.cfg.Create = func() (fill.File, error) {
			r.creates.Add(1)
			return f, nil
		}
		ref := r.start()
		wait := r.f.Join()
		if err := wait.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait.Leave()
		f.rd = fill.NewReader(ref, fill.Options{Own: true, Again: r.again})
		if n, err := f.rd.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("got %d, %v, want an error", n, err)
		}
		r.finish(t)
		if len(r.fresh) != 0 || r.faulted() != 0 {
			t.Errorf("a closed reader fell back %d times, with faults %v", len(r.fresh), r.faults)
		}
	})
}

// Close and Read at the same time, for the race detector.
func TestConcurrentClose(t *testing.T) {
	for i := range 200 {
		r := newRig(content(1000))
		r.cfg.Once, r.origin.step = i%2 == 0, 10
		if i%4 < 2 {
			r.file.failWrite = 1 + i%10
		}
		refs := []*fill.Ref{r.start(), r.f.Join(), r.f.Join()}
		var all sync.WaitGroup
		for k, ref := range refs {
			if ref == nil { // the file has failed already
				continue
			}
			o := fill.Options{Own: k == 0}
			if !r.cfg.Once {
				o.Again = r.again
			}
			rd := fill.NewReader(ref, o)
			all.Go(func() {
				out, err := drain(rd, 1+i)
				if !bytes.HasPrefix(r.content, out) || k == 0 && err != io.EOF {
					t.Errorf("reader %d: got %d bytes and %v", k, len(out), err)
				}
				rd.Close()
			})
			if k == 0 {
				continue
			}
			for range 2 {
				all.Go(func() {
					if err := rd.Close(); err != nil && !errors.Is(err, errDisk) {
						t.Errorf("Close: %v", err)
					}
				})
			}
		}
		all.Wait()
		r.finish(t)
	}
}
