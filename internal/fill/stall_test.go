package fill_test

import (
	"io"
	"testing"
	"time"
)

// The origin of the reader that the fill began for stalls: those that joined
// go on from their own, and the one that waits for it keeps waiting. When
// that one leaves, nothing is left.
func TestStalled(t *testing.T) {
	for _, at := range []int{0, 40} {
		bubble(t, func(t *testing.T) {
			r := newRig(content(100))
			r.origin.gate = at
			own, other, third := r.own(), r.join(t), r.join(t)
			prefix := readN(t, other, at/2)
			begun := time.Now()
			r.wantAll(t, other, prefix, 7)
			r.wantAll(t, third, nil, 100)
			if waited := time.Since(begun); waited < 30*time.Second || waited > 2*time.Minute {
				t.Errorf("they waited %v", waited)
			}
			if got := r.fallbacks.Load(); got != 2 {
				t.Errorf("got %d fallbacks, want 2", got)
			}
			go r.origin.release(-1)
			r.wantAll(t, own, nil, 7)
			for _, rd := range []io.Closer{own, other, third} {
				rd.Close()
			}
			r.finish(t)
			r.wantCommits(t, 1)
		})
	}
}

// A slow origin is not a stalled one.
func TestSlow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		r.origin.gate = 0
		own, other := r.own(), r.join(t)
		go func() {
			for range 100 {
				time.Sleep(25 * time.Second)
				r.origin.release(1)
			}
			r.origin.release(-1)
		}()
		r.wantAll(t, other, nil, 7)
		r.wantAll(t, own, nil, 7)
		if got := r.fallbacks.Load(); got != 0 {
			t.Errorf("got %d fallbacks, want none", got)
		}
		own.Close()
		other.Close()
		r.finish(t)
		r.wantCommits(t, 1)
	})
}

// Once only those wait for a stalled origin that have left it, it is closed.
func TestStalledAbandoned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		r.origin.gate = 40
		own, other := r.own(), r.join(t)
		readN(t, own, 10)
		own.Close()
		r.wantAll(t, other, nil, 7)
		<-r.done
		other.Close()
		r.finish(t)
		r.wantCommits(t, 0)
	})
}
