package cache

import (
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// pruneLater prunes in the background if enough was committed since the last
// time.
func (c *Cache) pruneLater(h v1.Hash) {
	if len(c.o.prune) == 0 {
		return
	}
	e, _ := c.catalog.get(h)
	if n := c.unpruned.Add(e.Size); n-e.Size > 0 && n < c.pruneEvery() {
		return
	}
	c.unpruned.Store(1)
	if !c.pruneWaits.CompareAndSwap(false, true) {
		return // that one will see this commit
	}
	if !c.fills.whileOpen(func() { c.background.Add(1) }) {
		return
	}
	go func() {
		defer c.background.Done()
		c.pruneInBackground()
	}()
}

// pruneInBackground prunes once the prune under way is over.
func (c *Cache) pruneInBackground() {
	select {
	case c.pruning <- struct{}{}:
		defer func() { <-c.pruning }()
	case <-c.ctx.Done():
		return
	}
	c.pruneWaits.Store(false) // before it looks: a later commit has another one start
	r, err := c.pruneBy(c.ctx, c.o.prune)
	if err != nil && !errors.Is(err, ErrClosed) {
		c.fault(err)
	}
	if len(r.Removals) > 0 {
		c.o.log.Info("pruned", "dir", c.layout.Dir(), "blobs", len(r.Removals), "bytes", r.Bytes, "kept", r.Kept)
	}
}

// pruneEvery is after how many bytes a background prune looks again.
func (c *Cache) pruneEvery() int64 {
	every := int64(1 << 30)
	for _, p := range c.o.prune {
		if p.MaxBytes > 0 {
			every = min(every, p.MaxBytes/64)
		}
	}
	return every
}
