package cache

import (
	"encoding/json"
	"maps"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
)

// catalog is the layout's replica: what index.json and the journal say, in
// memory.
type catalog struct {
	next *index.Catalog // being read; only used by the goroutine that reads

	mu     sync.RWMutex
	live   *index.Catalog // guarded by mu
	folded int            // guarded by mu: how many of its changes index.json holds
	reads  int            // guarded by mu; see generation
}

// Reset implements [layout.Replica].
func (c *catalog) Reset(b []byte) (folded string, err error) {
	c.next = index.New()
	return c.next.Decode(b)
}

// Apply implements [layout.Replica].
func (c *catalog) Apply(record []byte) {
	if c.next != nil {
		c.next.Apply(record)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	foreign := c.live.Foreign()
	c.live.Apply(record)
	if c.live.Foreign() != foreign {
		c.reads++
	}
}

// End implements [layout.Replica].
func (c *catalog) End(ok bool) {
	if ok {
		c.mu.Lock()
		c.live, c.folded = c.next, 0
		c.reads++
		c.mu.Unlock()
	}
	c.next = nil
}

func (c *catalog) get(h v1.Hash) (index.Entry, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.Get(h)
}

func (c *catalog) variants(h v1.Hash) []index.Entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.Variants(h)
}

func (c *catalog) known(h v1.Hash) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.Known(h)
}

func (c *catalog) use(h v1.Hash) index.Use {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.Use(h)
}

func (c *catalog) pinsOf(h v1.Hash) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.PinsOf(h)
}

// key returns what a build's key stands for, and the layer's entry.
func (c *catalog) key(key string) (index.BuildKey, index.Entry, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	k, ok := c.live.Key(key)
	if !ok {
		return index.BuildKey{}, index.Entry{}, false
	}
	e, ok := c.live.Get(k.Digest)
	return k, e, ok
}

func (c *catalog) keys() map[string]index.BuildKey {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return maps.Collect(c.live.Keys())
}

// generation returns a number that is another one whenever all was read anew, or
// other tools' descriptors changed: what they reach, and [index.Catalog.Put]'s
// numbers, hold for one generation.
func (c *catalog) generation() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.reads
}

func (c *catalog) put(h v1.Hash) uint32 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.Put(h)
}

func (c *catalog) pins() map[string][]v1.Hash {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.Pins()
}

// changed reports whether the catalog holds more than uses that index.json
// may lack.
func (c *catalog) changed() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.Changes() > c.folded
}

// fold notes that index.json holds all that a clone does.
func (c *catalog) fold(clone *index.Catalog) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.folded = clone.Changes()
}

func (c *catalog) foreign() []json.RawMessage {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.ForeignDescriptors()
}

func (c *catalog) skipped() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.Skipped()
}

func (c *catalog) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.Len()
}

func (c *catalog) clone() *index.Catalog {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.Clone()
}

// adoptSynced takes over what a clone's blobs were found to be: synced.
func (c *catalog) adoptSynced(clone *index.Catalog) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live.AdoptSynced(clone)
}

// differs returns a function that reports whether an entry is another one by
// now.
func (c *catalog) differs(e index.Entry) func() bool {
	return func() bool {
		now, _ := c.get(e.Digest)
		return now != e
	}
}

// watch returns a function that reports whether the entries of some hashes
// are other ones than now.
func (c *catalog) watch(hs ...v1.Hash) (changed func() bool) {
	now := func() (es [2]index.Entry) {
		for i, h := range hs {
			es[i], _ = c.get(h)
		}
		return es
	}
	then := now()
	return func() bool { return now() != then }
}

// entry returns the entry of a hash. If there is none it looks whether
// another process has made one.
func (c *Cache) entry(h v1.Hash) (index.Entry, bool) {
	if e, ok := c.catalog.get(h); ok {
		return e, true
	}
	c.catchUp()
	return c.catalog.get(h)
}

// variants returns the compressed forms of a diffID, the best first.
func (c *Cache) variants(diffID v1.Hash) []index.Entry {
	if vs := c.catalog.variants(diffID); len(vs) > 0 {
		return vs
	}
	c.catchUp()
	return c.catalog.variants(diffID)
}

// catchUp reads what other processes did. If it cannot, what is known
// already has to do.
func (c *Cache) catchUp() {
	c.looked.Store(c.o.clock().UnixNano())
	if err := c.layout.CatchUp(); err != nil {
		c.o.log.Warn("cannot read what other processes did", "dir", c.layout.Dir(), "err", err)
	}
}

// glance is catchUp, unless that was done less than a second ago.
func (c *Cache) glance() {
	now, last := c.o.clock().UnixNano(), c.looked.Load()
	if ago := time.Duration(now - last); ago >= 0 && ago < time.Second {
		return
	}
	if c.looked.CompareAndSwap(last, now) { // else somebody does
		c.catchUp()
	}
}
