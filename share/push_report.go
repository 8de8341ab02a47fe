package share

import (
	"cmp"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// PushReport is what a [Push] did, and what the tag holds by then. Bytes are
// those of layers.
type PushReport struct {
	Digest    v1.Hash // of the snapshot; zero after a dry run that would change it
	Unchanged bool    // the tag held it all before

	Selected Count // what this cache has for the tag
	New      Count // of these, what the tag did not have, or not all that is known of it
	Sent     Count // of the new ones, those whose bytes were sent
	Mounted  Count // likewise, taken from another repository of the registry
	Present  Count // likewise, there already
	Merged   Count // what the tag has from others
	Dropped  []Drop
	Origins  []Origin // of what is new, sorted by repository

	// Undeleted counts tags that are of no use any more, and that the registry
	// does not let this push delete.
	Undeleted int
}

// Count is how many layers there are of something.
type Count struct {
	Layers int
	Bytes  int64
}

func (c *Count) add(bytes int64) {
	c.Layers++
	c.Bytes += bytes
}

func countOf(entries []entry) (c Count) {
	for _, e := range entries {
		c.add(e.size)
	}
	return c
}

// A Drop is a layer that is not in the tag, and why.
type Drop struct {
	Digest v1.Hash
	Size   int64
	Reason string
}

// An Origin is where layers first came from, and so who may be meant to see
// them.
type Origin struct {
	Repository string // "" if that is unknown, as of what was built here
	Count
}

// A reporter makes a report. It is safe for concurrent use.
type reporter struct {
	mu sync.Mutex
	r  PushReport // guarded by mu
}

func (r *reporter) note(f func(r *PushReport)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.r)
}

func (r *reporter) drop(h v1.Hash, size int64, reason string) {
	r.note(func(r *PushReport) { r.Dropped = append(r.Dropped, Drop{Digest: h, Size: size, Reason: reason}) })
}

func (r *reporter) report() PushReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(r.r.Dropped, func(a, b Drop) int {
		return cmp.Or(cmp.Compare(a.Digest.String(), b.Digest.String()), cmp.Compare(a.Reason, b.Reason))
	})
	return r.r
}
