package cache

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/internal/filter"
	"github.com/ocicache/ocicache/layout"
)

// A pruner is one PruneAll under way.
type pruner struct {
	c      *Cache
	report PruneReport
	gone   map[v1.Hash]bool  // what was removed since the last listing, or would be in a dry run, and whether it is forgotten too
	aside  map[string]bool   // likewise, what is in quarantine
	saved  int64             // bytes that a dry run would have freed
	began  map[v1.Hash]trace // what was there when it began; nil until it looked
	spared map[v1.Hash]bool  // what was used, held or committed since then
}

// A trace shows whether a blob was committed or used since.
type trace struct{ modTime, useCount int64 }

func newPruner(c *Cache) *pruner {
	return &pruner{c: c, gone: map[v1.Hash]bool{}, aside: map[string]bool{}, spared: map[v1.Hash]bool{}}
}

// run prunes by one policy. It looks again as long as that helps.
func (pr *pruner) run(ctx context.Context, p PrunePolicy, f *filter.Filter) error {
	for {
		before := len(pr.report.Removals)
		err := lookAgain(func() error { return pr.look(ctx, p, f) })
		if !errors.Is(err, errOutdated) || len(pr.report.Removals) == before {
			return err
		}
	}
}

// look looks what there is, and removes what is to go. The error is errOutdated
// if there may be more to remove.
func (pr *pruner) look(ctx context.Context, p PrunePolicy, f *filter.Filter) error {
	pr.c.catchUp()
	generation := pr.c.catalog.generation()
	reached, err := pr.c.reached()
	if err != nil {
		return err
	}
	if err := pr.debris(ctx, p, generation, reached); err != nil {
		return err
	}
	all, err := pr.list(ctx, p, reached)
	if err != nil {
		return err
	}
	if err := pr.shrink(ctx, p, f, generation, all); err != nil || p.isDebrisOnly() {
		return err
	}
	return pr.forget(ctx, p, f, pr.left(all))
}

// list returns what there is. In a dry run, that is less what would be gone.
func (pr *pruner) list(ctx context.Context, p PrunePolicy, reached map[string]bool) ([]Usage, error) {
	all, err := pr.c.usages(ctx, reached)
	if err != nil {
		return nil, err
	}
	pr.compare(all)
	if !p.DryRun {
		clear(pr.gone)
	}
	return pr.left(all), nil
}

// compare spares what was committed or used since the first listing.
func (pr *pruner) compare(all []Usage) {
	first := pr.began == nil
	if first {
		pr.began = make(map[v1.Hash]trace, len(all))
	}
	for _, u := range all {
		now := trace{u.modTime, u.UseCount}
		if first && u.Present {
			pr.began[u.Digest] = now
		}
		if was, ok := pr.began[u.Digest]; u.Present && (!ok || was != now) {
			pr.spared[u.Digest] = true
		}
	}
}

func (pr *pruner) isGone(h v1.Hash) bool {
	_, ok := pr.gone[h]
	return ok
}

// left returns what is left of a listing without what is gone.
func (pr *pruner) left(all []Usage) []Usage {
	var left []Usage
	for _, u := range all {
		forgotten, gone := pr.gone[u.Digest]
		u.Present = u.Present && !gone
		if !forgotten {
			left = append(left, u)
		}
	}
	return left
}

// shrink removes bytes.
func (pr *pruner) shrink(ctx context.Context, p PrunePolicy, f *filter.Filter, generation int, all []Usage) error {
	var total int64
	for _, u := range all {
		if u.Present {
			total += u.Size
		}
	}
	defer func() { pr.report.Kept = total }()
	if p.isDebrisOnly() {
		return nil
	}
	spared := len(pr.spared)
	steps := pr.plan(p, f, all, total, p.keep(total, pr.free()))
	for batch := range slices.Chunk(steps, pruneBatch) {
		freed, err := pr.remove(ctx, p, generation, batch)
		total -= freed
		if err != nil {
			return err
		}
	}
	if p.hasLimit() && len(pr.spared) > spared {
		return errOutdated // others are to go
	}
	return nil
}

// free returns how many bytes are free on the disk, below zero if it does not
// tell. In a dry run, what it would have freed counts.
func (pr *pruner) free() int64 {
	free := pr.c.o.free(pr.c.layout)
	if free < 0 {
		return free
	}
	return free + pr.saved
}

// candidates returns what a policy may remove.
func (pr *pruner) candidates(p PrunePolicy, f *filter.Filter, all []Usage) []Usage {
	var cs []Usage
	for _, u := range all {
		if u.Pinned || u.InUse || u.foreign || pr.spared[u.Digest] || !f.Match(u.field) {
			continue
		}
		if p.KeepDuration > 0 && pr.c.o.clock().Sub(u.touched()) < p.KeepDuration {
			continue
		}
		cs = append(cs, u)
	}
	return cs
}

// update is the layout's, until ctx ends. In a dry run nothing is written, and
// fn gets nil.
func (pr *pruner) update(ctx context.Context, p PrunePolicy, fn func(tx *layout.Tx) error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case p.DryRun:
		return fn(nil)
	}
	return pr.c.layout.Update(ctx, fn)
}

// pruneBatch is how many blobs are removed while the writers' lock is held.
const pruneBatch = 16

// remove removes the bytes of some blobs, and reports how many that were. It
// spares what is held, or was committed or used since it was listed.
func (pr *pruner) remove(ctx context.Context, p PrunePolicy, generation int, batch []step) (freed int64, err error) {
	var done []Removal
	if p.DryRun {
		for _, s := range batch {
			done = append(done, s.removal(p, s.Size))
		}
	} else {
		err = pr.update(ctx, p, func(tx *layout.Tx) error {
			if pr.c.catalog.generation() != generation {
				return errOutdated
			}
			held, err := tx.Held()
			if err != nil {
				return err
			}
			for _, s := range batch {
				r, err := pr.removeOne(tx, p, s, held)
				switch {
				case errors.Is(err, errNotPruned):
					pr.spared[s.Digest] = true
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
	return freed, err
}

var errNotPruned = errors.New("it is held, or was used again")

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
	r := s.removal(p, size)
	record := index.DropRecord(s.Digest)
	if !r.Forgotten {
		e.ModTime = 0
		record = index.PutRecord(e)
	}
	return r, tx.Remove(s.Digest, record)
}

// note notes the removal of a blob, and of what was remembered of one.
func (pr *pruner) note(p PrunePolicy, r Removal) {
	pr.gone[r.Digest] = r.Forgotten
	pr.tell(p, r)
}

func (pr *pruner) tell(p PrunePolicy, r Removal) {
	pr.report.Removals = append(pr.report.Removals, r)
	pr.report.Bytes += r.Bytes
	switch {
	case p.DryRun:
		pr.saved += r.Bytes
	case r.Bytes > 0:
		pr.c.count.pruned.Add(1)
		pr.c.count.prunedBytes.Add(r.Bytes)
	}
	if p.Progress != nil {
		p.Progress(r)
	}
}
