package fill_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/ocicache/ocicache/internal/fill"
)

func TestSlots(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n, fills = 2, 5
		slots := fill.NewSlots(n)
		var rigs []*rig
		var readers []*fill.Reader
		var mu sync.Mutex
		var order []int
		for range fills {
			rigs = append(rigs, newRig(content(100)))
		}
		for i, r := range rigs {
			r.cfg.Slots, r.origin.gate = slots, 0
			open := r.cfg.Open
			r.cfg.Open = func(ctx context.Context) (io.ReadCloser, error) {
				mu.Lock()
				defer mu.Unlock()
				reading := 0
				for _, k := range order {
					reading += 1 - rigs[k].origin.closed()
				}
				if reading >= n {
					t.Errorf("fill %d is one of %d that read, want at most %d", i, reading+1, n)
				}
				order = append(order, i)
				return open(ctx)
			}
			readers = append(readers, r.own())
		}
		opened := func() []int {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return order
		}
		for k := range fills {
			got := opened()
			if want := min(k+n, fills); len(got) != want {
				t.Fatalf("%d fills were opened, want %d", len(got), want)
			}
			rigs[got[k]].origin.release(-1)
			synctest.Wait()
		}
		for i, r := range rigs {
			r.wantAll(t, readers[i], nil, 30)
			readers[i].Close()
			r.finish(t)
			r.wantCommits(t, 1)
		}
	})
}

// Every way in which a fill can end gives its slot back.
func TestSlotIsGivenBack(t *testing.T) {
	for name, set := range map[string]func(*rig){
		"committed": func(*rig) {},
		"create":    func(r *rig) { r.cfg.Create = func() (fill.File, error) { return nil, errDisk } },
		"open":      func(r *rig) { r.cfg.Open = func(context.Context) (io.ReadCloser, error) { return nil, errOrigin } },
		"origin":    func(r *rig) { r.origin.data, r.origin.err = r.content[:10], errOrigin },
		"write":     func(r *rig) { r.file.failWrite = 1 },
		"check":     func(r *rig) { r.cfg.Check = func([]byte, int64) error { return errMismatch } },
		"commit":    func(r *rig) { r.cfg.Commit = func([]byte, int64) error { return errDisk } },
		"handover":  func(r *rig) { r.cfg.Once, r.file.failWrite = true, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				slots := fill.NewSlots(1)
				r := newRig(content(100))
				r.cfg.Slots = slots
				set(r)
				rd := r.own()
				_, _ = drain(rd, 10)

				next := newRig(content(100))
				next.cfg.Slots = slots
				other := next.own()
				next.wantAll(t, other, nil, 10)
				other.Close()
				next.finish(t)
				rd.Close()
				r.finish(t)
			})
		})
	}
}

// A fill that is abandoned, or stopped, while it waits for a slot opens
// nothing.
func TestLeaveWhileWaitingForSlot(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			ctx, stop := context.WithCancelCause(t.Context())
			slots := fill.NewSlots(1)
			holder := newRig(content(100))
			holder.cfg.Slots, holder.origin.gate = slots, 0
			held := holder.own()
			synctest.Wait()

			r := newRig(content(100))
			r.cfg.Slots = slots
			ref := r.startIn(ctx)
			opened := make(chan error)
			go func() { opened <- ref.Opened(false) }()
			synctest.Wait()
			if stopped {
				stop(fill.ErrStopped)
				if err := <-opened; err != fill.ErrStopped {
					t.Errorf("Opened: got %v, want %v", err, fill.ErrStopped)
				}
				ref.Leave()
			} else {
				ref.Leave()
				if err := <-opened; err == nil {
					t.Error("Opened: got no error")
				}
			}
			r.finish(t)
			if r.opens.Load()+r.creates.Load() != 0 {
				t.Error("an abandoned fill opened its origin or made a file")
			}
			holder.origin.release(-1)
			holder.wantAll(t, held, nil, 10)
			held.Close()
			holder.finish(t)
			stop(nil)
		})
	}
}

// An origin may read through the cache itself, and so wait for a fill that
// waits for the slot that it has.
func TestSlotOfNestedOrigin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slots := fill.NewSlots(1)
		outer, inner := newRig(content(100)), newRig(content(100))
		inner.cfg.Slots, outer.cfg.Slots = slots, slots
		open := outer.cfg.Open
		outer.cfg.Open = func(ctx context.Context) (io.ReadCloser, error) {
			rd := inner.own()
			defer rd.Close()
			inner.wantAll(t, rd, nil, 30)
			return open(ctx)
		}
		rd := outer.own()
		outer.wantAll(t, rd, nil, 30)
		rd.Close()
		for _, r := range []*rig{inner, outer} {
			r.finish(t)
			r.wantCommits(t, 1)
		}
	})
}

// One that joins a fill whose origin waits for the joiner itself goes its own
// way after a while.
func TestJoinedOriginNeverOpens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		open := r.cfg.Open
		r.cfg.Open = func(ctx context.Context) (io.ReadCloser, error) {
			ref := r.f.Join()
			defer ref.Leave()
			var oerr *fill.OriginError
			if err := ref.Opened(true); err == nil || errors.As(err, &oerr) {
				t.Errorf("got %v, want an error that is not the origin's", err)
			}
			return open(ctx)
		}
		rd := r.own()
		r.wantAll(t, rd, nil, 30)
		rd.Close()
		r.finish(t)
	})
}
