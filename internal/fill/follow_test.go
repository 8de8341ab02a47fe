package fill_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/ocicache/ocicache/internal/fill"
)

func TestReadersAtAllOffsets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(300_000))
		r.origin.gate = 0
		own := r.own()
		var readers sync.WaitGroup
		readers.Go(func() {
			r.wantAll(t, own, nil, 4096)
			own.Close()
		})
		for i := range 32 {
			rd := r.join(t)
			readers.Go(func() {
				r.wantAll(t, rd, nil, 1+i*i*97)
				rd.Close()
			})
			r.origin.release(300_000 / 33)
			synctest.Wait()
		}
		r.origin.release(-1)
		readers.Wait()
		r.finish(t)
		r.wantCommits(t, 1)
		if got := r.opens.Load(); got != 1 {
			t.Errorf("got %d opens, want 1", got)
		}
		if got := r.fallbacks.Load(); got != 0 {
			t.Errorf("got %d fallbacks, want none", got)
		}
	})
}

func TestBytesBeforeEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(10))
		r.origin.gate = 0
		rd := r.own()
		var got []byte
		for range 10 {
			r.origin.release(1)
			got = append(got, readN(t, rd, 1)...) // the bubble deadlocks if it does not come
		}
		if got := r.f.Progress(); got != 10 {
			t.Errorf("got %d bytes of progress, want 10", got)
		}
		if got := rd.Offset(); got != 10 {
			t.Errorf("got offset %d, want 10", got)
		}
		r.origin.release(-1)
		r.wantAll(t, rd, got, 1)
		rd.Close()
		r.finish(t)
	})
}

// A reader that is slow, and one that never reads, hold neither the origin
// nor its slot.
func TestSlowReaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slots := fill.NewSlots(1)
		r := newRig(content(1 << 20))
		r.cfg.Slots = slots
		slow := r.own()
		idle := r.join(t)
		prefix := readN(t, slow, 1)
		synctest.Wait()
		if got := r.origin.closed(); got != 1 {
			t.Errorf("the origin was closed %d times while readers read, want once", got)
		}
		r.wantCommits(t, 1)

		next := newRig(content(1))
		next.cfg.Slots = slots
		rd := next.own()
		next.wantAll(t, rd, nil, 1)
		rd.Close()
		next.finish(t)

		r.wantAll(t, slow, prefix, 10_000)
		slow.Close()
		idle.Close()
		r.finish(t)
	})
}

// What is opened and not read does not hold the slot either.
func TestUnreadHoldsNoSlot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slots := fill.NewSlots(1)
		var rigs []*rig
		var readers []*fill.Reader
		for range 3 {
			r := newRig(content(100))
			r.cfg.Slots = slots
			rigs = append(rigs, r)
			ref := r.start()
			if err := ref.Opened(false); err != nil {
				t.Fatal(err)
			}
			readers = append(readers, fill.NewReader(ref, fill.Options{Own: true}))
		}
		for i, r := range rigs {
			r.wantCommits(t, 0)
			r.wantAll(t, readers[i], nil, 7)
			readers[i].Close()
			r.finish(t)
			r.wantCommits(t, 1)
		}
	})
}

// EOF comes only after Check and Commit have returned.
func TestEOFIsLast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		checking, committing := make(chan struct{}), make(chan struct{})
		check, commit := r.cfg.Check, r.cfg.Commit
		r.cfg.Check = func(sum []byte, n int64) error {
			<-checking
			return check(sum, n)
		}
		r.cfg.Commit = func(sum []byte, n int64) error {
			<-committing
			return commit(sum, n)
		}
		var mu sync.Mutex
		ends := 0
		ended := func() int {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return ends
		}
		read := func(rd *fill.Reader) {
			r.wantAll(t, rd, nil, 64)
			mu.Lock()
			ends++
			mu.Unlock()
			rd.Close()
		}
		go read(r.own())
		go read(r.join(t))
		if got := ended(); got != 0 {
			t.Errorf("%d readers saw EOF before Check returned", got)
		}
		close(checking)
		if got := ended(); got != 0 {
			t.Errorf("%d readers saw EOF before Commit returned", got)
		}
		go read(r.join(t)) // joins a fill that is committing
		if got := ended(); got != 0 {
			t.Errorf("%d readers saw EOF before Commit returned", got)
		}
		close(committing)
		if got := ended(); got != 3 {
			t.Errorf("%d readers saw EOF after Commit, want 3", got)
		}
		r.finish(t)
	})
}

// A failed commit is the cache's business.
func TestCommitError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		r.cfg.Commit = func([]byte, int64) error { return errDisk }
		own, joined := r.own(), r.join(t)
		r.wantAll(t, own, nil, 9)
		r.wantAll(t, joined, nil, 11)
		own.Close()
		joined.Close()
		r.finish(t)
		if len(r.faults) != 1 || !errors.Is(r.faults[0], errDisk) {
			t.Errorf("got faults %v, want the commit's error", r.faults)
		}
	})
}

func TestReaderCheck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		own := r.own()
		wants := []error{errMismatch, io.EOF, io.ErrUnexpectedEOF}
		var readers []*fill.Reader
		for _, want := range wants {
			readers = append(readers, fill.NewReader(r.f.Join(), fill.Options{
				Again: r.again,
				Check: func(sum []byte, n int64) error {
					if n != 100 || len(sum) != 32 {
						t.Errorf("got a sum of %d bytes, of %d bytes", len(sum), n)
					}
					return want
				},
			}))
		}
		for i, rd := range readers {
			want := wants[i]
			out, err := drain(rd, 33)
			if want == io.EOF {
				want = io.ErrUnexpectedEOF
			}
			if err != want || !bytes.Equal(out, r.content) {
				t.Errorf("got %d bytes and %v, want %v", len(out), err, want)
			}
			rd.Close()
		}
		r.wantAll(t, own, nil, 50) // another's expectation is not mine
		own.Close()
		r.finish(t)
		if len(r.fresh) != 0 {
			t.Error("a reader fell back because of its own expectation")
		}
	})
}

func TestZeroLengthRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(10))
		rd := r.own()
		for range 2 {
			if n, err := rd.Read(nil); n != 0 || err != nil {
				t.Errorf("got %d, %v, want 0, nil", n, err)
			}
		}
		synctest.Wait()
		r.wantCommits(t, 0) // it is not reading
		r.wantAll(t, rd, nil, 4)
		if n, err := rd.Read(nil); n != 0 || err != io.EOF {
			t.Errorf("got %d, %v after the end, want EOF", n, err)
		}
		rd.Close()
		r.finish(t)
	})
}
