package fill_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/ocicache/ocicache/internal/fill"
)

// lazy starts a fill for a lazy reader, and counts how often it is wanted.
func (r *rig) lazy(wanted *atomic.Int32) *fill.Reader {
	r.cfg.Wanted = func() {
		r.f.Progress() // a callback may ask
		wanted.Add(1)
	}
	return fill.NewReader(r.start(), fill.Options{Own: true, Lazy: true, Again: r.again})
}

// What a lazy reader reads is committed once somebody wants it.
func TestLazy(t *testing.T) {
	for name, want := range map[string]func(*rig, *fill.Reader){
		"by itself": func(_ *rig, rd *fill.Reader) { rd.Want(); rd.Want() },
		"by another reader": func(r *rig, _ *fill.Reader) {
			other := r.join(t)
			readN(t, other, 1)
			other.Close()
		},
		"by one that waits": func(r *rig, _ *fill.Reader) {
			ref := r.f.Join()
			if err := ref.Wait(context.Background()); err != nil {
				t.Error(err)
			}
			ref.Leave()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(content(100))
				var wanted atomic.Int32
				rd := r.lazy(&wanted)
				read := make(chan error)
				go func() {
					out, err := drain(rd, 30)
					if string(out) != string(r.content) {
						t.Errorf("got %d bytes, want %d", len(out), len(r.content))
					}
					read <- err
				}()
				synctest.Wait()
				r.wantCommits(t, 0)
				if r.isEnded() || wanted.Load() != 0 {
					t.Error("lazy reading was taken for wanting")
				}
				want(r, rd)
				if err := <-read; err != io.EOF {
					t.Errorf("got %v, want EOF", err)
				}
				r.wantCommits(t, 1)
				if got := wanted.Load(); got != 1 {
					t.Errorf("Wanted was called %d times, want once", got)
				}
				rd.Close()
				r.finish(t)
			})
		})
	}
}

// A lazy reader that leaves leaves nothing behind.
func TestLazyLeaves(t *testing.T) {
	for _, gate := range []int{50, -1} {
		bubble(t, func(t *testing.T) {
			r := newRig(content(100))
			r.origin.gate = gate
			var wanted atomic.Int32
			rd := r.lazy(&wanted)
			readN(t, rd, 50)
			synctest.Wait()
			rd.Close()
			if !r.isEnded() {
				t.Error("the fill goes on")
			}
			r.finish(t)
			r.wantCommits(t, 0)
		})
	}
}
