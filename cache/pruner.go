package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/internal/filter"
	"github.com/ocicache/ocicache/layout"
)

// lastTouched is when a blob was used, or made if it never was.
func (u *Usage) lastTouched() time.Time {
	if u.LastUsed.After(u.Created) {
		return u.LastUsed
	}
	return u.Created
}

// rank sorts usages by what is to go first: as in BuildKit, the places that a
// blob has by its last use and by its use count, each as a share of how many
// places there are, added up. Of equals the lesser digest goes first.
func rank(us []Usage) {
	score := make(map[v1.Hash]float64, len(us))
	places := func(compare func(a, b Usage) int) {
		slices.SortFunc(us, compare)
		place := 0
		at := make([]int, len(us))
		for i := range us {
			if i > 0 && compare(us[i-1], us[i]) != 0 {
				place++
			}
			at[i] = place
		}
		for i, u := range us {
			score[u.Digest] += float64(at[i]) / float64(max(place, 1))
		}
	}
	places(func(a, b Usage) int { return a.lastTouched().Compare(b.lastTouched()) })
	places(func(a, b Usage) int { return cmp.Compare(a.UseCount, b.UseCount) })
	slices.SortFunc(us, func(a, b Usage) int {
		return cmp.Or(cmp.Compare(score[a.Digest], score[b.Digest]), strings.Compare(a.Digest.String(), b.Digest.String()))
	})
}

// A step is the removal of a blob's bytes, and why.
type step struct {
	Usage
	reason string
}

// pruneBatch is how many blobs are removed while the writers' lock is held.
const pruneBatch = 16

// plan returns what goes of total bytes, in order, until so many are kept.
func (pr *pruner) plan(p PrunePolicy, f *filter.Filter, all []Usage, total, keep int64) [][]step {
	cs := slices.DeleteFunc(pr.candidates(p, f, all), func(u Usage) bool { return !u.Present })
	rank(cs)
	var steps []step
	taken := map[v1.Hash]bool{}
	take := func(u Usage, why string) {
		if total > keep && total-u.Size >= p.ReservedBytes {
			steps = append(steps, step{u, why + p.why(total-keep)})
			taken[u.Digest] = true
			total -= u.Size
		}
	}
	// Bytes that can be made again go first: tars, since decompressing is
	// quick, then blobs that we compressed. Each needs its source to stay.
	goes := func(h v1.Hash) bool { return taken[h] || pr.gone[h] }
	for _, form := range []Form{FormUncompressed, FormCompressed} {
		for _, u := range cs {
			if stays := slices.DeleteFunc(slices.Clone(u.sources), goes); len(stays) > 0 && u.Form == form {
				take(u, fmt.Sprintf("can be made again from %s; ", stays[0]))
			}
		}
	}
	for _, u := range cs {
		if !taken[u.Digest] {
			take(u, "")
		}
	}
	var batches [][]step
	for batch := range slices.Chunk(steps, pruneBatch) {
		batches = append(batches, batch)
	}
	return batches
}

// why says what of a policy asks for a removal, when so many bytes are too
// many.
func (p PrunePolicy) why(excess int64) string {
	switch {
	case p.hasLimit():
		return fmt.Sprintf("%d bytes over the limit", excess)
	case p.All:
		return "all is to go"
	case len(p.Filters) > 0:
		return "a filter matches"
	}
	return fmt.Sprintf("not used for %v", p.KeepDuration)
}

// remove removes the bytes of some blobs, and reports how many that were, and
// how many blobs stay.
func (pr *pruner) remove(ctx context.Context, p PrunePolicy, batch []step) (freed int64, refused int, err error) {
	var done []Removal
	if p.DryRun {
		for _, s := range batch {
			done = append(done, Removal{Digest: s.Digest, Bytes: s.Size, Reason: s.reason, Forgotten: p.All || !s.worthRemembering()})
		}
	} else {
		err = pr.c.layout.Update(ctx, func(tx *layout.Tx) error {
			held, err := tx.Held()
			if err != nil {
				return err
			}
			for _, s := range batch {
				r, err := pr.removeOne(tx, p, s, held)
				switch {
				case errors.Is(err, errNotPruned):
					refused++
				case errors.Is(err, fs.ErrNotExist): // another process was quicker
					freed += s.Size
				case err != nil:
					return err
				default:
					done = append(done, r)
				}
			}
			return nil
		})
	}
	for _, r := range done {
		freed += r.Bytes
		pr.note(p, r)
	}
	return freed, refused, err
}

// note notes the removal of a blob, and of what was remembered of one.
func (pr *pruner) note(p PrunePolicy, r Removal) {
	pr.gone[r.Digest] = true
	pr.tell(p, r)
}

func (pr *pruner) tell(p PrunePolicy, r Removal) {
	pr.report.Removals = append(pr.report.Removals, r)
	pr.report.Bytes += r.Bytes
	if !p.DryRun && r.Bytes > 0 {
		pr.c.count.pruned.Add(1)
		pr.c.count.prunedBytes.Add(r.Bytes)
	}
	if p.Progress != nil {
		p.Progress(r)
	}
}

// removeOne looks again, now that nobody else writes, and removes.
func (pr *pruner) removeOne(tx *layout.Tx, p PrunePolicy, s step, held map[v1.Hash]bool) (Removal, error) {
	c := pr.c
	e, ok := c.catalog.get(s.Digest)
	size, _, err := c.layout.StatBlob(s.Digest)
	switch {
	case err != nil:
		return Removal{}, err
	case !ok, held[s.Digest], len(c.catalog.pinsOf(s.Digest)) > 0, c.uses.isOpen(s.Digest):
		return Removal{}, errNotPruned
	case c.catalog.put(s.Digest) != s.put, c.use(s.Digest).Count > s.UseCount: // committed or used again
		return Removal{}, errNotPruned
	}
	r := Removal{Digest: s.Digest, Bytes: size, Reason: s.reason, Forgotten: p.All || !s.worthRemembering()}
	record := index.DropRecord(s.Digest)
	if !r.Forgotten {
		e.ModTime = 0
		record = index.PutRecord(e)
	}
	return r, tx.Remove(s.Digest, record)
}

// worthRemembering reports whether an entry says something without its bytes.
func (u *Usage) worthRemembering() bool {
	return u.Form == FormCompressed && u.DiffID != (v1.Hash{}) || len(u.Keys) > 0
}

// forget removes what is remembered and too much: of All, everything; else the
// least used of more than there may be.
func (pr *pruner) forget(ctx context.Context, p PrunePolicy, f *filter.Filter, all []Usage) error {
	var cs []Usage
	var reason string
	if p.All {
		cs = slices.DeleteFunc(pr.candidates(p, f, all), func(u Usage) bool { return u.Present })
		reason = "all is to go"
	} else {
		cs = slices.DeleteFunc(slices.Clone(all), func(u Usage) bool {
			return u.Present && !pr.gone[u.Digest] || u.Pinned || u.foreign || len(u.Keys) > 0
		})
		rank(cs)
		cs = cs[:max(0, len(cs)-pr.c.o.maxRemembered)]
		reason = fmt.Sprintf("more than %d are remembered", pr.c.o.maxRemembered)
	}
	for batch := range slices.Chunk(cs, pruneBatch) {
		var done []Removal
		err := pr.c.layout.Update(ctx, func(tx *layout.Tx) error {
			for _, u := range batch {
				there, err := pr.c.isThere(u.Digest)
				if err != nil {
					return err
				}
				if _, ok := pr.c.catalog.get(u.Digest); !ok || there || len(pr.c.catalog.pinsOf(u.Digest)) > 0 {
					continue
				}
				if !p.DryRun {
					if err := tx.Append(index.DropRecord(u.Digest)); err != nil {
						return err
					}
				}
				done = append(done, Removal{Digest: u.Digest, Reason: reason, Forgotten: true})
			}
			return nil
		})
		for _, r := range done {
			pr.note(p, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
