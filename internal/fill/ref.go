package fill

import (
	"context"
	"errors"
	"math"
	"time"
)

// A Ref is a place among a fill's readers. It is given up by handing it to
// [NewReader], or by Leave.
type Ref struct{ f *Fill }

// Opened waits until the origin is open. It returns an [*OriginError] if it
// could not be opened, another error if the fill came to an end before. One
// that joined the fill of another does not wait for ever: that one's origin
// may wait for this one.
func (r *Ref) Opened(joined bool) error {
	f := r.f
	late := false
	if joined {
		timer := time.AfterFunc(patience, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			late = true
			f.changed.Broadcast()
		})
		defer timer.Stop()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.opened && !f.over && !late && f.ctx.Err() == nil {
		f.changed.Wait()
	}
	switch {
	case f.opened:
		return nil
	case f.over:
		return f.err
	case f.ctx.Err() != nil:
		return context.Cause(f.ctx)
	}
	return errLate
}

var errLate = errors.New("another reader's origin does not open")

// Wait waits until the fill is over, as a reader that wants all of it and
// none of the bytes. It returns the fill's error, or the context's.
func (r *Ref) Wait(ctx context.Context) error {
	f := r.f
	f.mu.Lock()
	f.readers[r] = math.MaxInt64 // nothing need be handed over to it
	f.changed.Broadcast()
	f.mu.Unlock()
	f.want()
	select {
	case <-f.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// StopUnread ends the fill, with a cause, if nobody has read yet.
func (f *Fill) StopUnread(cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.wanted {
		f.cancel(cause)
	}
}

// want notes that somebody reads.
func (f *Fill) want() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.wanted {
		f.wanted = true
		f.changed.Broadcast()
	}
}

// Sum returns the hash of all bytes, after Wait has returned no error.
func (r *Ref) Sum() []byte {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.f.sum
}

// Leave gives the place up. Repeating it is harmless.
func (r *Ref) Leave() {
	r.f.remove(r)
	r.f.closeUnused()
}

func (f *Fill) remove(r *Ref) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.readers[r]; !ok {
		return
	}
	delete(f.readers, r)
	f.changed.Broadcast()
	if len(f.readers) == 0 && !f.over {
		f.abandon()
	}
}

// linger is how much further a fill reads after its last reader has left, in
// bytes and in time: enough for the end of an archive whose end marker was
// the last that the reader wanted.
const (
	lingerBytes = 1 << 20
	lingerTime  = 5 * time.Second
)

var errAbandoned = errors.New("all readers left")

// abandon ends a fill that has no readers any more, at once or after a while.
// mu is held.
func (f *Fill) abandon() {
	if f.wanted && f.cfg.Persist {
		return
	}
	f.leftAt = f.size
	if !f.wanted || f.cfg.Size-f.size > lingerBytes {
		f.cancel(errAbandoned)
		return
	}
	f.linger = time.AfterFunc(lingerTime, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.readers) == 0 && !f.over {
			f.cancel(errAbandoned)
		}
	})
}
