// Package index is the catalog of a cache in memory: the descriptors by
// digest, which digest decompresses to which diffID, and what other tools
// listed. It encodes and decodes index.json and the journal's records.
//
// It never does I/O. Nothing in it is safe for concurrent use: its caller
// holds the lock.
package index

import (
	"encoding/hex"
	"encoding/json"
	"iter"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A Pair says how well it is known that a digest decompresses to a diffID.
type Pair uint8

const (
	Unknown  Pair = iota // no diffID is known
	Claimed              // somebody said so
	Verified             // this cache decompressed the blob and saw the diffID
	Refuted              // this cache tried, and the diffID is wrong
)

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
	Unsynced string // the boot under which it was written and not synced; "": synced
}

// key is a digest without pointers: a catalog of millions is nothing to the
// garbage collector.
type key struct {
	alg byte
	sum [64]byte
}

const (
	sha256 byte = iota + 1
	sha512
)

func makeKey(h v1.Hash) (k key, ok bool) {
	n := 0
	switch h.Algorithm {
	case "sha256":
		k.alg, n = sha256, 32
	case "sha512":
		k.alg, n = sha512, 64
	}
	if n == 0 || len(h.Hex) != 2*n {
		return key{}, false
	}
	for i := range n {
		hi, lo := unhex(h.Hex[2*i]), unhex(h.Hex[2*i+1])
		if hi > 15 || lo > 15 {
			return key{}, false
		}
		k.sum[i] = hi<<4 | lo
	}
	return k, true
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

func (k key) hash() v1.Hash {
	switch k.alg {
	case sha256:
		return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(k.sum[:32])}
	case sha512:
		return v1.Hash{Algorithm: "sha512", Hex: hex.EncodeToString(k.sum[:])}
	}
	return v1.Hash{}
}

// ref names a node; 0 is none.
type ref uint32

// A node is a hash that the catalog knows: as the digest of an entry, as the
// diffID of others, or both. The compressed entries of one diffID are a list
// through their nodes.
type node struct {
	key     key
	size    int64
	created int64
	modTime int64
	diffID  ref    // of an entry
	next    ref    // the next entry with this entry's diffID
	first   ref    // of a diffID: the first entry that has it
	variant ref    // of a tar: the digest to prefer
	refs    uint32 // how many tars prefer this one
	puts    uint32 // how often the entry was put
	media   uint32
	listed  bool // there is an entry
	tar     bool
	pair    Pair
}

// A Catalog holds what index.json and the journal say. The zero value is not
// usable; see [New].
type Catalog struct {
	nodes  []node // nodes[0] is unused
	free   []ref
	byKey  map[key]ref
	listed int

	media   []string
	byMedia map[string]uint32

	codecs   map[ref]string
	unsynced map[ref]string
	extras   map[ref]*extra // what other tools added to our descriptors

	foreign []json.RawMessage          // other tools' descriptors, as they stood
	top     map[string]json.RawMessage // the index's other fields
	notes   map[string]string          // the index's other annotations
	skipped int
	cloneOf *Catalog
}

// New returns an empty catalog.
func New() *Catalog {
	return &Catalog{
		nodes:    make([]node, 1),
		byKey:    map[key]ref{},
		byMedia:  map[string]uint32{},
		codecs:   map[ref]string{},
		unsynced: map[ref]string{},
		extras:   map[ref]*extra{},
	}
}

// Len returns the number of entries.
func (c *Catalog) Len() int { return c.listed }

// Foreign returns the number of descriptors that other tools listed.
func (c *Catalog) Foreign() int { return len(c.foreign) }

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
		MediaType: c.media[n.media],
		Size:      n.size,
		Tar:       n.tar,
		Pair:      n.pair,
		Codec:     c.codecs[r],
		Created:   n.created,
		ModTime:   n.modTime,
		Unsynced:  c.unsynced[r],
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
	n.puts++
	n.media = c.internMedia(e.MediaType)
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

func (c *Catalog) intern(k key) ref {
	if r := c.byKey[k]; r != 0 {
		return r
	}
	var r ref
	if n := len(c.free); n > 0 {
		r, c.free = c.free[n-1], c.free[:n-1]
		c.nodes[r] = node{key: k}
	} else {
		r = ref(len(c.nodes))
		c.nodes = append(c.nodes, node{key: k})
	}
	c.byKey[k] = r
	return r
}

func (c *Catalog) internMedia(s string) uint32 {
	if i, ok := c.byMedia[s]; ok {
		return i
	}
	i := uint32(len(c.media))
	c.media = append(c.media, s)
	c.byMedia[s] = i
	return i
}

// setVariant names the digest that a tar prefers, if there is one.
func (c *Catalog) setVariant(r ref, h v1.Hash) {
	var to ref
	if k, ok := makeKey(h); ok {
		to = c.intern(k)
	}
	from := c.nodes[r].variant
	c.nodes[r].variant = to
	if to != 0 && from != to {
		c.nodes[to].refs++
	}
	if from != 0 && from != to {
		c.nodes[from].refs--
		c.release(from)
	}
}

// setPair takes an entry out of the list of the diffID it had, and puts it
// into that of h.
func (c *Catalog) setPair(r ref, h v1.Hash, pair Pair) {
	var to ref
	if k, ok := makeKey(h); ok && pair != Unknown {
		to = c.intern(k)
	} else {
		pair = Unknown
	}
	c.nodes[r].pair = pair
	from := c.nodes[r].diffID
	if from == to {
		return
	}
	if from != 0 {
		c.unlink(r, from)
	}
	if to != 0 {
		c.nodes[r].diffID = to
		c.nodes[r].next = c.nodes[to].first
		c.nodes[to].first = r
	}
}

func (c *Catalog) unlink(r, diffID ref) {
	at := &c.nodes[diffID].first
	for *at != r {
		at = &c.nodes[*at].next
	}
	*at = c.nodes[r].next
	c.nodes[r].next, c.nodes[r].diffID = 0, 0
	c.release(diffID)
}

// remove forgets a hash: its entry, and every pair that it is in. The other
// hash of a pair stays.
func (c *Catalog) remove(h v1.Hash) {
	k, ok := makeKey(h)
	if !ok || c.byKey[k] == 0 {
		return
	}
	r := c.byKey[k]
	if c.nodes[r].listed {
		c.nodes[r].listed = false
		c.listed--
	}
	delete(c.codecs, r)
	delete(c.unsynced, r)
	delete(c.extras, r)
	c.nodes[r].tar = false
	if t := c.nodes[r].diffID; c.nodes[t].variant == r {
		c.setVariant(t, v1.Hash{})
	}
	c.setVariant(r, v1.Hash{})
	c.setPair(r, v1.Hash{}, Unknown)
	for v := c.nodes[r].first; v != 0; v = c.nodes[r].first {
		c.setPair(v, v1.Hash{}, Unknown)
		if c.nodes[r].key != k {
			return // that was the last use of the node
		}
	}
	c.release(r)
}

// release frees a node that nothing needs any more.
func (c *Catalog) release(r ref) {
	n := &c.nodes[r]
	if n.listed || n.first != 0 || n.refs > 0 || n.key.alg == 0 {
		return
	}
	delete(c.byKey, n.key)
	*n = node{}
	c.free = append(c.free, r)
}

// Clone returns a copy that [Catalog.Encode], [Catalog.Entries] and
// [Catalog.Sync] can be called on while the original changes.
func (c *Catalog) Clone() *Catalog {
	return &Catalog{
		cloneOf:  c,
		nodes:    slices.Clone(c.nodes),
		listed:   c.listed,
		media:    c.media[:len(c.media):len(c.media)],
		codecs:   maps.Clone(c.codecs),
		unsynced: maps.Clone(c.unsynced),
		extras:   maps.Clone(c.extras),
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
		if int(r) < len(clone.nodes) && clone.nodes[r].key == c.nodes[r].key && clone.nodes[r].puts == c.nodes[r].puts {
			setOrDelete(c.unsynced, r, clone.unsynced[r])
		}
	}
}
