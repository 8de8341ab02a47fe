// Package index is the catalog of a cache in memory: the descriptors by
// digest, which digest decompresses to which diffID, and what other tools
// listed. It encodes and decodes index.json and the journal's records.
//
// It never does I/O. Nothing in it is safe for concurrent use: its caller
// holds the lock.
package index

import (
	"encoding/json"
	"iter"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache"
)

// A Pair says how well it is known that a digest decompresses to a diffID.
type Pair uint8

// What is known of a pair.
const (
	Unknown  Pair = iota // no diffID is known
	Claimed              // somebody said so
	Verified             // this cache decompressed the blob and saw the diffID
	Refuted              // this cache tried, and the diffID is wrong
)

// String returns the value that [ocicache.AnnotationPair] has, "" if the pair
// is unknown.
func (p Pair) String() string {
	return [...]string{Unknown: "", Claimed: ocicache.PairClaimed, Verified: ocicache.PairVerified, Refuted: ocicache.PairRefuted}[p]
}

// An Entry is one descriptor of ours, expanded.
type Entry struct {
	Digest    v1.Hash // of the blob: a layer's digest or, if Tar is set, its diffID
	MediaType string
	Size      int64 // of the blob, in bytes

	// Tar: the blob is the uncompressed form of a layer that is, or may be,
	// distributed compressed. Variant is the digest to prefer for it, zero
	// while none is known.
	Tar     bool
	Variant v1.Hash

	// DiffID is what the blob decompresses to, zero while unknown. It is the
	// digest itself for a layer that is distributed uncompressed. Pair says
	// how well it is known.
	DiffID v1.Hash
	Pair   Pair

	Codec    string // reproduces the blob from the tar; "" unless we made it
	Created  int64  // in seconds since the Unix epoch
	ModTime  int64  // of the file when last verified, in nanoseconds; 0: none that can be relied on
	Unsynced string // as the annotation has it; "": synced
	Origin   string // the repository that the blob first came from; "": unknown
}

// A Catalog holds what index.json and the journal say. The zero value is not
// usable; see [New].
type Catalog struct {
	nodes   []node // nodes[0] is unused
	free    []ref
	byKey   map[key]ref
	listed  int
	puts    uint32 // how many there were
	changes int    // how many records there were that are more than uses

	names  []string // media types and origins, each once
	byName map[string]uint32

	codecs   map[ref]string
	unsynced map[ref]string
	extras   map[ref]*extra // what other tools added to our descriptors
	keys     map[string]buildKey
	keysOf   map[ref][]string // in no order, and so the names in pins
	pins     map[ref][]string
	pinned   map[string][]ref // where to look for a name; a clone has none

	foreign   []json.RawMessage          // other tools' descriptors, as they stood
	foreignBy map[string]bool            // their digests; nil until needed
	top       map[string]json.RawMessage // the index's other fields
	notes     map[string]string          // the index's other annotations
	skipped   int
	cloneOf   *Catalog
}

// New returns an empty catalog.
func New() *Catalog {
	return &Catalog{
		nodes:    make([]node, 1),
		byKey:    map[key]ref{},
		names:    []string{""},
		byName:   map[string]uint32{"": 0},
		codecs:   map[ref]string{},
		unsynced: map[ref]string{},
		extras:   map[ref]*extra{},
		keys:     map[string]buildKey{},
		keysOf:   map[ref][]string{},
		pins:     map[ref][]string{},
		pinned:   map[string][]ref{},
	}
}

// Len returns the number of entries.
func (c *Catalog) Len() int { return c.listed }

// Foreign returns the number of descriptors that other tools listed.
func (c *Catalog) Foreign() int { return len(c.foreign) }

// ForeignDescriptors returns the descriptors that other tools listed, as they
// stand in index.json. They are not to be changed.
func (c *Catalog) ForeignDescriptors() []json.RawMessage { return c.foreign }

// Changes returns how many journal records were applied that are more than
// uses.
func (c *Catalog) Changes() int { return c.changes }

// Skipped returns how many journal records could not be read.
func (c *Catalog) Skipped() int { return c.skipped }

// Get returns the entry of a digest. For a diffID, that is the tar's.
func (c *Catalog) Get(h v1.Hash) (Entry, bool) {
	k, ok := makeKey(h)
	if !ok {
		return Entry{}, false
	}
	r := c.byKey[k]
	if r == 0 || !c.nodes[r].listed {
		return Entry{}, false
	}
	return c.entry(r), true
}

// Variants returns the digests whose diffID is h: the one to prefer first if
// it is verified, then those that are verified, then those that are claimed.
func (c *Catalog) Variants(h v1.Hash) []Entry {
	k, ok := makeKey(h)
	if !ok {
		return nil
	}
	r := c.byKey[k]
	if r == 0 {
		return nil
	}
	var verified, claimed []Entry
	for v := c.nodes[r].first; v != 0; v = c.nodes[v].next {
		switch {
		case c.nodes[v].pair == Claimed:
			claimed = append(claimed, c.entry(v))
		case c.nodes[v].pair == Verified && v == c.nodes[r].variant:
			verified = slices.Insert(verified, 0, c.entry(v))
		case c.nodes[v].pair == Verified:
			verified = append(verified, c.entry(v))
		}
	}
	return append(verified, claimed...)
}

// Known reports whether h is the digest of an entry or the diffID of one.
func (c *Catalog) Known(h v1.Hash) bool {
	k, ok := makeKey(h)
	n := &c.nodes[c.byKey[k]]
	return ok && (n.listed || n.first != 0)
}

// Entries yields all entries, in no particular order.
func (c *Catalog) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for r := range c.nodes {
			if c.nodes[r].listed && !yield(c.entry(ref(r))) {
				return
			}
		}
	}
}

func (c *Catalog) entry(r ref) Entry {
	n := &c.nodes[r]
	e := Entry{
		Digest:    n.key.hash(),
		MediaType: c.names[n.media],
		Size:      n.size,
		Tar:       n.tar,
		Pair:      n.pair,
		Codec:     c.codecs[r],
		Created:   n.created,
		ModTime:   n.modTime,
		Unsynced:  c.unsynced[r],
		Origin:    c.names[n.origin],
	}
	if n.variant != 0 {
		e.Variant = c.nodes[n.variant].key.hash()
	}
	if n.diffID != 0 {
		e.DiffID = c.nodes[n.diffID].key.hash()
	}
	return e
}

// put makes e the entry of its digest. It reports false for an entry that
// cannot be one.
func (c *Catalog) put(e Entry) bool {
	k, ok := makeKey(e.Digest)
	if !ok || e.Size < 0 {
		return false
	}
	r := c.intern(k)
	n := &c.nodes[r]
	if !n.listed {
		n.listed = true
		c.listed++
	}
	n.size, n.created, n.modTime = e.Size, e.Created, e.ModTime
	n.tar = e.Tar
	c.puts++
	n.put = c.puts
	n.media, n.origin = c.internName(e.MediaType), c.internName(e.Origin)
	setOrDelete(c.codecs, r, e.Codec)
	setOrDelete(c.unsynced, r, e.Unsynced)
	c.setVariant(r, e.Variant)
	c.setPair(r, e.DiffID, e.Pair)
	return true
}

func setOrDelete(m map[ref]string, r ref, value string) {
	if value == "" {
		delete(m, r)
	} else {
		m[r] = value
	}
}

// Put returns a number that is another one whenever the entry of a digest was
// put again, 0 if there is none. The numbers of another catalog than this and
// its clones say nothing here: they may coincide.
func (c *Catalog) Put(h v1.Hash) uint32 {
	r, _ := c.listedRef(h)
	return c.nodes[r].put
}

// A Detail is an entry with all that hangs on it. Its lists are sorted.
type Detail struct {
	Entry
	Use  Use
	Keys []string
	Pins []string
	Put  uint32 // see [Catalog.Put]
}

// Details yields all entries with what hangs on them, in no particular order.
func (c *Catalog) Details() iter.Seq[Detail] {
	return func(yield func(Detail) bool) {
		for i := range c.nodes {
			r := ref(i)
			if c.nodes[r].listed && !yield(Detail{c.entry(r), c.nodes[r].use, sorted(c.keysOf[r]), sorted(c.pins[r]), c.nodes[r].put}) {
				return
			}
		}
	}
}
