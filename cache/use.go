package cache

import (
	"context"
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
	journal func() // called a while after the first use since the last journaling

	mu    sync.Mutex
	m     map[v1.Hash]*blobUse // guarded by mu, and what it points to
	timer *time.Timer          // guarded by mu; nil while there is nothing to journal, and after the end
	ended bool                 // guarded by mu
}

// A blobUse is how one blob is used. Its readers hold it, so that ending costs
// them no lookup.
type blobUse struct {
	fresh index.Use // the time of the last, and how many more there were
	open  int
}

// begin notes that a blob was opened. The reader calls done once.
func (u *uses) begin(h v1.Hash, now int64) *blobUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	use := u.count(h, now)
	use.open++
	return use
}

// note notes a use that opens nothing.
func (u *uses) note(h v1.Hash, now int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.count(h, now)
}

// count counts a use. mu is held.
func (u *uses) count(h v1.Hash, now int64) *blobUse {
	use, ok := u.m[h]
	if !ok {
		use = &blobUse{}
		u.m[h] = use
	}
	use.fresh = index.Use{Last: max(now, use.fresh.Last), Count: use.fresh.Count + 1}
	u.startTimer()
	return use
}

// startTimer has what is not journaled journaled. mu is held.
func (u *uses) startTimer() {
	if u.timer == nil && !u.ended {
		u.timer = time.AfterFunc(useInterval, u.journal)
	}
}

// done notes that a blob was closed.
func (u *uses) done(use *blobUse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	use.open--
}

// of returns what this process alone knows of a blob.
func (u *uses) of(h v1.Hash) blobUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	if use, ok := u.m[h]; ok {
		return *use
	}
	return blobUse{}
}

func (u *uses) isOpen(h v1.Hash) bool { return u.of(h).open > 0 }

// stopTimer reports whether there is anything to journal, which is being done
// now.
func (u *uses) stopTimer() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.timer != nil {
		u.timer.Stop()
		u.timer = nil
	}
	for _, use := range u.m {
		if use.fresh.Count > 0 {
			return true
		}
	}
	return false
}

// take returns what is to be journaled, of n blobs at most, and keeps what is
// open.
func (u *uses) take(n int) map[v1.Hash]index.Use {
	u.mu.Lock()
	defer u.mu.Unlock()
	fresh := map[v1.Hash]index.Use{}
	for h, use := range u.m {
		if use.fresh.Count > 0 && len(fresh) < n {
			fresh[h] = use.fresh
			use.fresh = index.Use{}
		}
		if use.open == 0 && use.fresh.Count == 0 {
			delete(u.m, h)
		}
	}
	return fresh
}

// putBack takes back what could not be journaled, for another time.
func (u *uses) putBack(fresh map[v1.Hash]index.Use) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for h, was := range fresh {
		use := u.count(h, was.Last)
		use.fresh.Count += was.Count - 1
	}
}

// tryAgain has what is left journaled later.
func (u *uses) tryAgain() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.startTimer()
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
// have journaled. Both happen under the writers' lock, so who prunes sees each
// use in the one place or the other.
func (c *Cache) journalUses() {
	if !c.uses.stopTimer() || c.o.readOnly {
		return
	}
	// Not for as long as c.ctx lasts: Close journals after that has ended.
	err := c.layout.Update(context.Background(), func(tx *layout.Tx) error {
		for {
			fresh := c.uses.take(index.MaxUses)
			if len(fresh) == 0 {
				return nil
			}
			if err := tx.Append(c.useRecord(fresh)); err != nil {
				c.uses.putBack(fresh)
				return err
			}
		}
	})
	if err != nil {
		c.uses.tryAgain()
		c.fault(err)
	}
}

func (c *Cache) useRecord(fresh map[v1.Hash]index.Use) []byte {
	all := map[v1.Hash]index.Use{}
	for h, u := range fresh {
		before := c.catalog.use(h)
		all[h] = index.Use{Last: max(before.Last, u.Last), Count: before.Count + u.Count}
	}
	return index.UseRecord(all)
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
	u, fresh := c.catalog.use(h), c.uses.of(h).fresh
	return index.Use{Last: max(u.Last, fresh.Last), Count: u.Count + fresh.Count}
}
