package contentsuite_test

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"

	"github.com/ocicache/ocicache/layout"
)

// A record is one line of the journal.
type record struct {
	Put    *content.Info `json:"put,omitempty"`
	Delete digest.Digest `json:"delete,omitempty"`
}

// appendTo adds the record to the journal. The catalog has it from there.
func (r record) appendTo(tx *layout.Tx) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return tx.Append(b)
}

// A catalog is what the journal says that the store holds. It is written to
// by the layout alone, which reads the journal into it.
type catalog struct {
	mu      sync.Mutex
	infos   map[digest.Digest]content.Info // guarded by mu
	loading map[digest.Digest]content.Info // guarded by mu; nil unless all is being read anew
}

var _ layout.Replica = (*catalog)(nil)

// Reset forgets everything. No checkpoint is ever written here, so the index
// tells nothing.
func (c *catalog) Reset([]byte) (folded string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loading = map[digest.Digest]content.Info{}
	return "", nil
}

func (c *catalog) Apply(line []byte) {
	var r record
	if json.Unmarshal(line, &r) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	infos := c.infos
	if c.loading != nil {
		infos = c.loading
	}
	if r.Put != nil {
		infos[r.Put.Digest] = *r.Put
	}
	delete(infos, r.Delete)
}

func (c *catalog) End(ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok {
		c.infos = c.loading
	}
	c.loading = nil
}

// get returns an info that is the caller's to change.
func (c *catalog) get(d digest.Digest) (info content.Info, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, known = c.infos[d]
	info.Labels = maps.Clone(info.Labels)
	return info, known
}

func (c *catalog) digests() []digest.Digest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.infos))
}
