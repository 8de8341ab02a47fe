package cache

import (
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// useInterval is how long a use may be known to this process alone.
const useInterval = time.Minute

// uses are the reads of blobs that were not journaled yet, and the blobs that
// are open.
type uses struct {
	mu    sync.Mutex
	fresh map[v1.Hash]index.Use // guarded by mu: the time of the last, and how many more there were
	open  map[v1.Hash]int       // guarded by mu
	timer *time.Timer           // guarded by mu; nil while there is nothing to journal, and after the end
	ended bool                  // guarded by mu
}

// begin notes that a blob was opened. The first use after the last journaling
// has journal called after a while.
func (u *uses) begin(h v1.Hash, now int64, journal func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open == nil {
		u.open = map[v1.Hash]int{}
	}
	u.open[h]++
	u.count(h, now, journal)
}

// note notes a use that opens nothing.
func (u *uses) note(h v1.Hash, now int64, journal func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.count(h, now, journal)
}

// count counts a use. mu is held.
func (u *uses) count(h v1.Hash, now int64, journal func()) {
	if u.fresh == nil {
		u.fresh = map[v1.Hash]index.Use{}
	}
	use := u.fresh[h]
	u.fresh[h] = index.Use{Last: now, Count: use.Count + 1}
	if u.timer == nil && !u.ended {
		u.timer = time.AfterFunc(useInterval, journal)
	}
}

// done notes that a blob was closed.
func (u *uses) done(h v1.Hash) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open[h]--; u.open[h] <= 0 {
		delete(u.open, h)
	}
}

func (u *uses) isOpen(h v1.Hash) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.open[h] > 0
}

// of returns what is not journaled of a blob.
func (u *uses) of(h v1.Hash) index.Use {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.fresh[h]
}

// take returns what is to be journaled.
func (u *uses) take() map[v1.Hash]index.Use {
	u.mu.Lock()
	defer u.mu.Unlock()
	fresh := u.fresh
	u.fresh = map[v1.Hash]index.Use{}
	if u.timer != nil {
		u.timer.Stop()
		u.timer = nil
	}
	return fresh
}

// end stops the journaling of later uses.
func (u *uses) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = true
	if u.timer != nil {
		u.timer.Stop()
		u.timer = nil
	}
}

// journalUses adds the uses that this process gathered to those that all
// have journaled.
func (c *Cache) journalUses() {
	fresh := c.uses.take()
	if len(fresh) == 0 || c.o.readOnly {
		return
	}
	err := c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		record := map[v1.Hash]index.Use{}
		for h, u := range fresh {
			before := c.catalog.use(h)
			record[h] = index.Use{Last: max(before.Last, u.Last), Count: before.Count + u.Count}
			if len(record) == index.MaxUses {
				if err := tx.Append(index.UseRecord(record)); err != nil {
					return err
				}
				clear(record)
			}
		}
		if len(record) == 0 {
			return nil
		}
		return tx.Append(index.UseRecord(record))
	})
	if err != nil {
		c.fault(err)
	}
}

// journalUsesLater is journalUses for the timer.
func (c *Cache) journalUsesLater() {
	if !c.fills.whileOpen(func() { c.background.Add(1) }) {
		return // Close does it
	}
	defer c.background.Done()
	c.journalUses()
	c.compact()
}

// use returns how a blob was used, as far as this process knows.
func (c *Cache) use(h v1.Hash) index.Use {
	u, fresh := c.catalog.use(h), c.uses.of(h)
	return index.Use{Last: max(u.Last, fresh.Last), Count: u.Count + fresh.Count}
}
