package fill_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocicache/ocicache/internal/fill"
)

// once makes the rig's origin one that can be read only once.
func once(size, failWrite int) *rig {
	r := newRig(content(size))
	r.cfg.Once, r.cfg.Size = true, -1
	r.origin.step, r.origin.gate = 3, 0
	r.file.failWrite = failWrite
	return r
}

// bare returns a reader that has nothing to fall back on.
func bare(ref *fill.Ref) *fill.Reader { return fill.NewReader(ref, fill.Options{Own: true}) }

// Whenever the file fails, one, two or three readers of different speeds get
// all; so they do if more leave early, or never read and then leave.
func TestOnceFileFailsAtEachWrite(t *testing.T) {
	const size = 30
	for n := 1; n <= 3; n++ {
		for _, quitters := range []bool{false, true} {
			bubble(t, func(t *testing.T) {
				for i := 1; i <= size/3+1; i++ {
					testOnce(t, once(size, i), n, quitters)
				}
			})
		}
	}
}

func testOnce(t *testing.T, r *rig, n int, quitters bool) {
	refs := []*fill.Ref{r.start()}
	for range n - 1 {
		refs = append(refs, r.f.Join())
	}
	var readers sync.WaitGroup
	for k, ref := range refs {
		rd := bare(ref)
		readers.Go(func() {
			defer rd.Close()
			p := make([]byte, 1+k)
			var out []byte
			for {
				m, err := rd.Read(p)
				out = append(out, p[:m]...)
				if err == io.EOF && string(out) == string(r.content) {
					return
				}
				if err != nil {
					t.Errorf("write %d: reader %d of %d got %d bytes and %v", r.file.failWrite, k, n, len(out), err)
					return
				}
				time.Sleep(time.Duration(k) * time.Millisecond)
			}
		})
	}
	if quitters {
		early, never, unused := bare(r.f.Join()), bare(r.f.Join()), r.f.Join()
		readers.Go(func() {
			readN(t, early, 2)
			time.Sleep(10 * time.Millisecond)
			early.Close()
		})
		readers.Go(func() {
			time.Sleep(20 * time.Millisecond)
			never.Close()
			unused.Leave()
		})
	}
	r.origin.release(-1)
	readers.Wait()
	r.finish(t)
	if r.file.broken {
		r.wantCommits(t, 0)
	} else {
		r.wantCommits(t, 1)
	}
}

// A reader that knows how much there is and does not read on to see EOF does
// not hold the others.
func TestOnceReaderStopsAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := once(6, 1)
		a, b := bare(r.start()), bare(r.f.Join())
		r.origin.release(-1)
		var got [][]byte
		for range 2 {
			got = append(got, readN(t, a, 3), readN(t, b, 3))
		}
		if string(got[0])+string(got[2]) != string(r.content) || string(got[1])+string(got[3]) != string(r.content) {
			t.Error("got wrong bytes")
		}
		synctest.Wait()
		select {
		case <-r.f.Ended():
		default:
			t.Error("the fill waits for readers that have all")
		}
		a.Close()
		b.Close()
		r.finish(t)
	})
}

// Nobody can join bytes that go from hand to hand.
func TestOnceJoinWhileHandingOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := once(30, 2)
		rd := bare(r.start())
		r.origin.release(-1)
		prefix := readN(t, rd, 4) // the second write's first byte
		synctest.Wait()
		if r.f.Join() != nil {
			t.Error("joined while handing over")
		}
		r.wantAll(t, rd, prefix, 1)
		if r.f.Join() != nil {
			t.Error("joined what cannot be kept")
		}
		rd.Close()
		r.finish(t)
	})
}

// Who waits for the end reads nothing, and holds nobody who does.
func TestOnceWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := once(30, 2)
		rd, ref := bare(r.start()), r.f.Join()
		r.origin.release(-1)
		waited := make(chan error)
		go func() { waited <- ref.Wait(context.Background()) }()
		r.wantAll(t, rd, nil, 4)
		if err := <-waited; err != nil {
			t.Errorf("Wait: %v", err)
		}
		ref.Leave()
		rd.Close()
		r.finish(t)
	})
}

func TestOnceLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := once(30, 0)
		r.cfg.Limit = func(n int64) error {
			if n > 10 {
				return errDisk
			}
			return nil
		}
		rd := bare(r.start())
		r.origin.release(-1)
		r.wantAll(t, rd, nil, 4)
		rd.Close()
		r.finish(t)
		r.wantCommits(t, 0)
		if r.faulted() != 1 {
			t.Errorf("got faults %v, want one", r.faults)
		}
	})
}

// Errors of the origin and of Check reach the readers while handing over.
func TestOnceErrorsWhileHandingOver(t *testing.T) {
	for name, test := range map[string]struct {
		set  func(*rig)
		want error
	}{
		"origin": {func(r *rig) { r.origin.data, r.origin.err = r.content[:20], errOrigin }, errOrigin},
		"EOF":    {func(r *rig) { r.origin.data, r.origin.err = r.content[:20], io.ErrUnexpectedEOF }, io.ErrUnexpectedEOF},
		"check":  {func(r *rig) { r.cfg.Check = func([]byte, int64) error { return errMismatch } }, errMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := once(30, 2)
				test.set(r)
				a, b := bare(r.start()), bare(r.f.Join())
				r.origin.release(-1)
				var readers sync.WaitGroup
				for _, rd := range []*fill.Reader{a, b} {
					readers.Go(func() {
						if _, err := drain(rd, 2); err != test.want {
							t.Errorf("got %v, want %v", err, test.want)
						}
						rd.Close()
					})
				}
				readers.Wait()
				r.finish(t)
				r.wantCommits(t, 0)
			})
		})
	}
}

// All readers leave, or the cache stops, while bytes go from hand to hand.
func TestOnceEndsWhileHandingOver(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			ctx, stop := context.WithCancelCause(t.Context())
			r := once(30, 2)
			a, b := bare(r.startIn(ctx)), bare(r.f.Join())
			r.origin.release(6)
			readN(t, a, 4)
			readN(t, b, 1)
			synctest.Wait()
			if stopped {
				stop(fill.ErrStopped)
				for _, rd := range []*fill.Reader{a, b} {
					if _, err := drain(rd, 7); err != fill.ErrStopped {
						t.Errorf("got %v, want %v", err, fill.ErrStopped)
					}
				}
			}
			a.Close()
			b.Close()
			r.finish(t)
			r.wantCommits(t, 0)
			stop(nil)
		})
	}
}
