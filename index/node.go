package index

import (
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

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
	use     Use
	diffID  ref    // of an entry
	next    ref    // the next entry with this entry's diffID
	prev    ref    // the one before it
	first   ref    // of a diffID: the first entry that has it
	variant ref    // of a tar: the digest to prefer
	refs    uint32 // how many tars prefer this one
	put     uint32 // the number of the put that made the entry
	media   uint32 // of names
	origin  uint32 // of names
	listed  bool   // there is an entry
	tar     bool
	pair    Pair
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

func (c *Catalog) internName(s string) uint32 {
	if i, ok := c.byName[s]; ok {
		return i
	}
	i := uint32(len(c.names))
	s = strings.Clone(s) // not the whole line that it stands on
	c.names = append(c.names, s)
	c.byName[s] = i
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
		next := c.nodes[to].first
		c.nodes[r].next, c.nodes[next].prev = next, r // of no next, node 0's is never read
		c.nodes[to].first = r
	}
}

func (c *Catalog) unlink(r, diffID ref) {
	next, prev := c.nodes[r].next, c.nodes[r].prev
	if prev == 0 {
		c.nodes[diffID].first = next
	} else {
		c.nodes[prev].next = next
	}
	c.nodes[next].prev = prev
	c.nodes[r].next, c.nodes[r].prev, c.nodes[r].diffID = 0, 0, 0
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
	c.nodes[r].refs++ // so that it is not released before its pairs are
	c.unlist(r)
	for v := c.nodes[r].first; v != 0; v = c.nodes[r].first {
		c.setPair(v, v1.Hash{}, Unknown)
	}
	c.nodes[r].refs--
	c.release(r)
}

// drop forgets an entry. What else names its digest stays.
func (c *Catalog) drop(h v1.Hash) {
	r, ok := c.listedRef(h)
	if !ok {
		return
	}
	c.nodes[r].refs++ // likewise
	c.unlist(r)
	c.nodes[r].refs--
	c.release(r)
}

// unlist takes an entry away, with its own pair, all that hangs on it, and the
// preferences for it.
func (c *Catalog) unlist(r ref) {
	if c.nodes[r].listed {
		c.nodes[r].listed = false
		c.listed--
	}
	delete(c.codecs, r)
	delete(c.unsynced, r)
	delete(c.extras, r)
	c.forgetMarks(r)
	c.nodes[r].tar = false
	c.forgetVariant(r)
	c.setVariant(r, v1.Hash{})
	c.setPair(r, v1.Hash{}, Unknown)
}

// forgetVariant makes no tar prefer r any more: as a rule one does, that of
// its own pair. It must be all, or a replay would not come to the same.
func (c *Catalog) forgetVariant(r ref) {
	if t := c.nodes[r].diffID; c.nodes[t].variant == r {
		c.setVariant(t, v1.Hash{})
	}
	for t := 1; t < len(c.nodes) && c.nodes[r].refs > 1; t++ { // one is remove's
		if c.nodes[t].variant == r {
			c.setVariant(ref(t), v1.Hash{})
		}
	}
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
