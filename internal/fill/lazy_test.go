package fill_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"

	"github.com/ocicache/ocicache/internal/fill"
)

// A lazy fill opens its origin, and does nothing more until somebody reads.
func TestLazy(t *testing.T) {
	for name, want := range map[string]func(*rig){
		"a reader": func(r *rig) {
			other := r.join(t)
			readN(t, other, 1)
			other.Close()
		},
		"one that waits": func(r *rig) {
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
				r.cfg.Lazy, r.cfg.Slots = true, fill.NewSlots(1)
				rd := r.own()
				synctest.Wait()
				if r.f.Progress() != 0 || r.opens.Load() != 1 {
					t.Errorf("%d bytes were read of %d opened origins before anybody read", r.f.Progress(), r.opens.Load())
				}
				want(r)
				out, err := drain(rd, 30)
				if string(out) != string(r.content) || err != io.EOF {
					t.Errorf("got %d bytes, %v, want %d", len(out), err, len(r.content))
				}
				r.wantCommits(t, 1)
				rd.Close()
				r.finish(t)
			})
		})
	}
}

// Lazy fills that nobody reads hold no slot.
func TestLazyHoldsNoSlot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slots := fill.NewSlots(1)
		idle, busy := newRig(content(100)), newRig(content(100))
		for _, r := range []*rig{idle, busy} {
			r.cfg.Lazy, r.cfg.Slots = true, slots
		}
		waiting := idle.own()
		rd := busy.own()
		if out, err := drain(rd, 30); string(out) != string(busy.content) || err != io.EOF {
			t.Errorf("got %d bytes, %v", len(out), err)
		}
		rd.Close()
		busy.finish(t)
		waiting.Close()
		idle.finish(t)
		idle.wantCommits(t, 0)
	})
}
