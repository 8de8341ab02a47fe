package index

import (
	"encoding/json"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A Use says when a blob was last read, and how often it was.
type Use struct {
	Last  int64 // in seconds since the Unix epoch; 0: never
	Count int64
}

// Use returns how the blob of an entry was used.
func (c *Catalog) Use(h v1.Hash) Use {
	r, _ := c.listedRef(h)
	return c.nodes[r].use
}

// listedRef returns the node of an entry.
func (c *Catalog) listedRef(h v1.Hash) (r ref, ok bool) {
	k, ok := makeKey(h)
	if r = c.byKey[k]; !ok || !c.nodes[r].listed {
		return 0, false
	}
	return r, true
}

// UseRecord returns the journal record of how blobs were used. The values are
// absolute: adding to them takes the writers' lock.
func UseRecord(uses map[v1.Hash]Use) []byte {
	values := make(map[string][2]int64, len(uses))
	for h, u := range uses {
		values[h.String()] = [2]int64{u.Last, u.Count}
	}
	b, _ := json.Marshal(map[string]any{"use": values}) // numbers cannot fail
	return b
}

// MaxUses is how many uses are for one record at most.
const MaxUses = 1000

func (c *Catalog) applyUses(uses map[string][2]int64) {
	for s, u := range uses {
		if r, ok := c.listedRef(parseHash(s)); ok {
			c.addUse(r, Use{Last: u[0], Count: u[1]})
		}
	}
}

// addUse takes over what is more than what is known: uses only grow.
func (c *Catalog) addUse(r ref, u Use) {
	use := &c.nodes[r].use
	use.Last, use.Count = max(use.Last, u.Last), max(use.Count, u.Count)
}

// String returns the form that [ocicache.AnnotationUsed] has.
func (u Use) String() string {
	return strconv.FormatInt(u.Last, 10) + ":" + strconv.FormatInt(u.Count, 10)
}

// parseUse reads what String made. What it cannot read is no use.
func parseUse(s string) Use {
	last, count, ok := strings.Cut(s, ":")
	l, lerr := strconv.ParseInt(last, 10, 64)
	n, nerr := strconv.ParseInt(count, 10, 64)
	if !ok || lerr != nil || nerr != nil || l < 0 || n < 0 {
		return Use{}
	}
	return Use{Last: l, Count: n}
}
