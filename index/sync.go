package index

import (
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Clone returns a copy that [Catalog.Encode], [Catalog.Entries], Details and
// [Catalog.Sync] can be called on while the original changes.
func (c *Catalog) Clone() *Catalog {
	return &Catalog{
		cloneOf:  c,
		nodes:    slices.Clone(c.nodes),
		listed:   c.listed,
		changes:  c.changes,
		names:    c.names[:len(c.names):len(c.names)],
		codecs:   maps.Clone(c.codecs),
		unsynced: maps.Clone(c.unsynced),
		extras:   maps.Clone(c.extras),
		keys:     maps.Clone(c.keys),
		keysOf:   maps.Clone(c.keysOf),
		pins:     maps.Clone(c.pins),
		foreign:  c.foreign,
		top:      c.top,
		notes:    c.notes,
	}
}

// Sync calls sync for each entry that was written under a boot and not
// synced since. What it returns takes the boot's place; "" is synced.
func (c *Catalog) Sync(boot string, sync func(v1.Hash) string) {
	for r, b := range c.unsynced {
		if b == boot {
			setOrDelete(c.unsynced, r, sync(c.nodes[r].key.hash()))
		}
	}
}

// AdoptSynced takes over from a clone which entries are synced, save those
// that were put again since it was made.
func (c *Catalog) AdoptSynced(clone *Catalog) {
	if clone.cloneOf != c {
		return
	}
	for r := range c.unsynced {
		if int(r) < len(clone.nodes) && clone.nodes[r].key == c.nodes[r].key && clone.nodes[r].put == c.nodes[r].put {
			setOrDelete(c.unsynced, r, clone.unsynced[r])
		}
	}
}
