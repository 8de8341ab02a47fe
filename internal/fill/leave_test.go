package fill_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocicache/ocicache/internal/fill"
)

const mib = 1 << 20

// isEnded reports whether a fill has ended, once nothing moves any more.
func (r *rig) isEnded() bool {
	synctest.Wait()
	select {
	case <-r.f.Ended():
		return true
	default:
		return false
	}
}

// Opening and closing leaves nothing behind, however far the fill has come.
func TestLeaveUnread(t *testing.T) {
	for _, test := range []struct {
		name    string
		gate    int // what the origin gives before the reader leaves
		persist bool
		leave   func(*fill.Ref)
	}{
		{"at once", 0, false, (*fill.Ref).Leave},
		{"in the middle", 50, false, (*fill.Ref).Leave},
		{"when all is there", -1, false, (*fill.Ref).Leave},
		{"when all is there, persisting", -1, true, (*fill.Ref).Leave},
		{"in the middle, persisting", 50, true, (*fill.Ref).Leave},
		{"closing", 50, false, func(ref *fill.Ref) { bare(ref).Close() }},
		{"closing when all is there", -1, false, func(ref *fill.Ref) { bare(ref).Close() }},
		{"after an empty read", -1, false, func(ref *fill.Ref) {
			rd := bare(ref)
			_, _ = rd.Read(nil)
			rd.Close()
		}},
		{"one of two closing", -1, false, func(ref *fill.Ref) {
			rd := bare(ref)
			rd.Close()
			rd.Close()
			ref.Leave()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(content(100))
				r.origin.gate, r.cfg.Persist = test.gate, test.persist
				ref := r.start()
				synctest.Wait()
				test.leave(ref)
				if r.f.Join() != nil {
					t.Error("an abandoned fill was joined")
				}
				if !r.isEnded() {
					t.Error("the fill goes on")
				}
				r.finish(t)
				r.wantCommits(t, 0)
			})
		})
	}
}

// A reader that leaves early ends the fill, unless little is left.
func TestLeaveEarly(t *testing.T) {
	for _, test := range []struct {
		name            string
		size, left      int // left: bytes that the origin has yet to give
		unknown         bool
		persist, commit bool
	}{
		{"nothing left", mib, 0, false, false, true},
		{"little left", mib, 1000, false, false, true},
		{"1 MiB left", 2 * mib, mib, false, false, true},
		{"more left", 2 * mib, mib + 1, false, false, false},
		{"more left, persisting", 2 * mib, mib + 1, false, true, true},
		{"unknown, little left", 2 * mib, mib / 2, true, false, true},
		{"unknown, much left", 3 * mib, 2 * mib, true, false, false},
		{"unknown, much left, persisting", 3 * mib, 2 * mib, true, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(content(test.size))
				r.origin.gate, r.cfg.Persist = test.size-test.left, test.persist
				if test.unknown {
					r.cfg.Size = -1
				}
				rd, other := r.own(), r.join(t)
				readN(t, rd, 100)
				synctest.Wait()
				other.Close()
				if r.isEnded() {
					t.Error("the fill ended when another reader left")
				}
				rd.Close()
				synctest.Wait()
				r.origin.release(-1)
				r.finish(t)
				if test.commit {
					r.wantCommits(t, 1)
				} else {
					r.wantCommits(t, 0)
				}
			})
		})
	}
}

// An origin that stalls after the last reader has left is not waited for.
func TestLingerTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		r.origin.gate = 50
		start := time.Now()
		rd := r.own()
		readN(t, rd, 50)
		rd.Close()
		r.finish(t)
		r.wantCommits(t, 0)
		if got := time.Since(start); got != 5*time.Second {
			t.Errorf("lingered for %v, want 5s", got)
		}
	})
}

// A reader that joins meanwhile keeps the fill, and its leaving starts the
// time anew.
func TestJoinWhileLingering(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		r.origin.gate = 50
		rd := r.own()
		readN(t, rd, 50)
		rd.Close()
		time.Sleep(4 * time.Second)
		rd = r.join(t)
		time.Sleep(time.Minute)
		if r.isEnded() {
			t.Error("the fill ended under a reader")
		}
		rd.Close()
		time.Sleep(4 * time.Second)
		rd = r.join(t)
		rd.Close()
		time.Sleep(4 * time.Second)
		if r.isEnded() {
			t.Error("the fill ended before its time")
		}
		r.origin.release(-1)
		r.finish(t)
		r.wantCommits(t, 1)
	})
}

// A fill that is abandoned stops even if its origin does not care that it was
// closed.
func TestLeaveDeafOrigin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(16 * mib))
		r.origin.deaf, r.origin.gate = true, mib
		rd := r.own()
		readN(t, rd, 100)
		rd.Close()
		synctest.Wait()
		r.origin.release(-1)
		r.finish(t)
		r.wantCommits(t, 0)
		if got := r.origin.off; got > 2*mib {
			t.Errorf("%d bytes were read for nobody", got)
		}
	})
}

func TestJoinAfterEnd(t *testing.T) {
	for name, set := range map[string]func(*rig){
		"committed": func(*rig) {},
		"failed":    func(r *rig) { r.origin.err, r.origin.data = errOrigin, nil },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(content(100))
				set(r)
				rd := r.own()
				_, _ = drain(rd, 10)
				rd.Close()
				r.finish(t)
				if r.f.Join() != nil {
					t.Error("a fill that has ended was joined")
				}
			})
		})
	}
}

func TestWait(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
	}{{"all", nil}, {"failing", errOrigin}} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(content(100))
				r.origin.err, r.origin.gate = test.err, 100
				ref := r.start()
				ctx, cancel := context.WithCancelCause(t.Context())
				cancel(errDisk)
				if err := ref.Wait(ctx); err != errDisk {
					t.Errorf("got %v, want the context's cause", err)
				}
				r.origin.release(-1)
				if err := ref.Wait(t.Context()); !errors.Is(err, test.err) {
					t.Errorf("got %v, want %v", err, test.err)
				}
				if got := len(ref.Sum()); test.err == nil && got != 32 {
					t.Errorf("got a sum of %d bytes, want 32", got)
				}
				ref.Leave()
				r.finish(t)
			})
		})
	}
}

// A reader that is dropped gives its place up when it is collected. This is
// outside of a bubble, where cleanups do not run.
func TestDroppedReader(t *testing.T) {
	r := newRig(content(4 * mib))
	r.origin.gate = 100
	func() {
		rd := r.own()
		readN(t, rd, 10)
	}()
	deadline := time.After(30 * time.Second)
	for {
		runtime.GC()
		select {
		case <-r.done:
			r.finish(t)
			r.wantCommits(t, 0)
			return
		case <-deadline:
			t.Fatal("the fill goes on without its reader")
		case <-time.After(time.Millisecond):
		}
	}
}

// The cleanup may block in Close: those of others run nevertheless.
func TestDroppedReaderFallenBack(t *testing.T) {
	data := content(100)
	r := newRig(data)
	r.origin.data, r.origin.err = data[:50], errOrigin
	own := newOrigin(data)
	func() {
		rd := fill.NewReader(r.start(), fill.Options{Again: func() (io.ReadCloser, error) { return own, nil }})
		r.wantAll(t, rd, nil, 10)
	}()
	deadline := time.After(30 * time.Second)
	for own.closed() == 0 {
		runtime.GC()
		select {
		case <-deadline:
			t.Fatal("the reader's own origin stays open")
		case <-time.After(time.Millisecond):
		}
	}
	r.finish(t)
}
