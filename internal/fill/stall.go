package fill

import (
	"errors"
	"time"
)

// stallPatience is how long the readers that joined a fill wait for its
// origin's next byte, before they go on from their own. It is longer than a
// registry takes that asks for patience, and costs no more than a GET.
const stallPatience = 30 * time.Second

var errStalled = errors.New("another reader's origin has stalled")

// watch looks now and then whether bytes have come. The caller stops it.
func (f *Fill) watch() *time.Timer {
	f.mu.Lock()
	defer f.mu.Unlock()
	var timer *time.Timer
	timer = time.AfterFunc(stallPatience, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.over {
			return
		}
		f.stalled = f.size == f.lookedAt
		f.lookedAt = f.size
		if f.stalled {
			f.changed.Broadcast()
		}
		timer.Reset(stallPatience)
	})
	return timer
}

// doubt lets a fill count as stalled if nothing comes for a second. mu is held.
func (f *Fill) doubt() {
	size := f.size
	time.AfterFunc(time.Second, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.over && f.size == size {
			f.stalled = true
			f.changed.Broadcast()
		}
	})
}

// canLeave reports whether the reader can go on from an origin of its own
// while the fill goes on.
func (c *core) canLeave() bool { return !c.o.Own && c.o.Again != nil }
