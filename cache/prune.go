package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/internal/filter"
)

// A PrunePolicy says what [Cache.Prune] removes. Sizes are in bytes. The zero
// value removes only debris: what dead processes left, blobs that nothing
// lists or reaches and that are older than an hour, and what was put into
// quarantine more than a week ago. So does every other one.
//
// The fields mean what they mean in BuildKit: of what All, Filters and
// KeepDuration leave to be removed, the limits remove just so much that
// MaxBytes and MinFreeBytes hold, and stop at ReservedBytes. Without a limit,
// all of it goes.
type PrunePolicy struct {
	// All removes everything that nothing protects, remembered pairs, build
	// keys and all of the quarantine too, as far as the other fields allow it.
	All bool
	// Filters are those of [Cache.DiskUsage]: only what one of them matches is
	// removed.
	Filters []string
	// KeepDuration keeps what was used, or made, so short a time ago.
	KeepDuration time.Duration

	ReservedBytes int64 // never remove below so much
	MaxBytes      int64 // remove down to so much; 0: no limit
	MinFreeBytes  int64 // remove until so much is free on the disk

	// DryRun only reports.
	DryRun bool
	// Progress is called with each removal, by Prune's own goroutine, which
	// holds no lock meanwhile. It may be nil.
	Progress func(Removal)
}

// isDebrisOnly reports whether no entry is to be removed.
func (p PrunePolicy) isDebrisOnly() bool {
	return !p.All && len(p.Filters) == 0 && p.KeepDuration == 0 && !p.hasLimit()
}

func (p PrunePolicy) hasLimit() bool {
	return p.ReservedBytes != 0 || p.MaxBytes != 0 || p.MinFreeBytes != 0
}

// keep returns how many bytes may stay, as BuildKit calculates it.
func (p PrunePolicy) keep(total, free int64) int64 {
	if !p.hasLimit() {
		return 0
	}
	keep := p.MaxBytes
	if excess := p.MinFreeBytes - free; p.MinFreeBytes > 0 && free >= 0 && excess > 0 {
		if keep == 0 {
			keep = total - excess
		}
		keep = min(keep, total-excess)
	} else if keep == 0 && p.MinFreeBytes > 0 {
		keep = total // enough is free
	}
	return max(keep, p.ReservedBytes)
}

// A Removal is a blob, or what was remembered of one, that was removed.
type Removal struct {
	Digest    v1.Hash
	Bytes     int64 // that were freed
	Reason    string
	Forgotten bool // the entry is gone too, not only the bytes
}

// PruneReport is what [Cache.Prune] removed, or would remove.
type PruneReport struct {
	Removals []Removal
	Bytes    int64 // that were freed
	Kept     int64 // bytes of blobs that are there still
}

// Prune removes what the policy says: first bytes that can be made again from
// others that stay, then what was used longest ago and least, and of equals
// the one with the lesser digest. The pair of a blob whose bytes are removed is
// remembered.
//
// What is pinned, by any process, what a reader of this process has open,
// and what images of other tools in the directory reach, stays, whatever the
// policy says. So does what was used again meanwhile. Readers, fills and other
// processes go on. If it ends early, what it removed is gone, and nothing
// else is. The errors are [ErrReadOnly], [ErrClosed], [ErrLocked], the
// context's and those of a filter; the report holds what was done by then.
func (c *Cache) Prune(ctx context.Context, p PrunePolicy) (PruneReport, error) {
	return c.PruneAll(ctx, p)
}

// PruneAll prunes by several policies, one after the other.
func (c *Cache) PruneAll(ctx context.Context, policies ...PrunePolicy) (PruneReport, error) {
	if c.o.readOnly {
		return PruneReport{}, fmt.Errorf("cache: prune: %w", ErrReadOnly)
	}
	if !c.fills.whileOpen(func() { c.background.Add(1) }) {
		return PruneReport{}, fmt.Errorf("cache: prune: %w", ErrClosed)
	}
	defer c.background.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.ctx, func() { cancel(ErrClosed) })
	defer stop()
	select {
	case c.pruning <- struct{}{}: // one at a time
		defer func() { <-c.pruning }()
	case <-ctx.Done():
		return PruneReport{}, fmt.Errorf("cache: prune: %w", context.Cause(ctx))
	}

	filters, err := c.o.parse(policies) // before anything is removed
	if err != nil {
		return PruneReport{}, fmt.Errorf("cache: prune: %w", err)
	}
	pr := &pruner{c: c, gone: map[v1.Hash]bool{}, aside: map[string]bool{}}
	for i, p := range policies {
		if err := pr.run(ctx, p, filters[i]); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return pr.report, fmt.Errorf("cache: prune %s: %w", c.layout.Dir(), err)
		}
	}
	return pr.report, nil
}

// parse parses the filters of policies.
func (o *options) parse(policies []PrunePolicy) ([]*filter.Filter, error) {
	filters := make([]*filter.Filter, len(policies))
	for i, p := range policies {
		f, err := usageFields.Parse(o.clock(), p.Filters...)
		if err != nil {
			return nil, err
		}
		filters[i] = f
	}
	return filters, nil
}

// pruneLater prunes in the background if enough was committed since the last
// time.
func (c *Cache) pruneLater(h v1.Hash) {
	if len(c.o.prune) == 0 {
		return
	}
	e, _ := c.catalog.get(h)
	if n := c.unpruned.Add(e.Size); n-e.Size > 0 && n < c.pruneEvery() {
		return
	}
	c.unpruned.Store(1)
	if !c.fills.whileOpen(func() { c.background.Add(1) }) {
		return
	}
	go func() {
		defer c.background.Done()
		r, err := c.PruneAll(c.ctx, c.o.prune...)
		if err != nil && !errors.Is(err, ErrClosed) {
			c.fault(err)
		}
		if len(r.Removals) > 0 {
			c.o.log.Info("pruned", "dir", c.layout.Dir(), "blobs", len(r.Removals), "bytes", r.Bytes, "kept", r.Kept)
		}
	}()
}

// pruneEvery is after how many bytes a background prune looks again.
func (c *Cache) pruneEvery() int64 {
	every := int64(1 << 30)
	for _, p := range c.o.prune {
		if p.MaxBytes > 0 {
			every = min(every, p.MaxBytes/64)
		}
	}
	return every
}

// A pruner is one PruneAll under way.
type pruner struct {
	c      *Cache
	report PruneReport
	gone   map[v1.Hash]bool // blobs that are removed, or in a dry run as good as that
	aside  map[string]bool  // likewise, what is in quarantine
}

// run prunes by one policy.
func (pr *pruner) run(ctx context.Context, p PrunePolicy, f *filter.Filter) error {
	if err := pr.debris(ctx, p); err != nil {
		return err
	}
	for round := 1; ; round++ {
		all, refused, err := pr.shrink(ctx, p, f)
		switch {
		case err != nil, p.isDebrisOnly():
			return err
		case !refused, !p.hasLimit(), round == pruneRounds:
			return pr.forget(ctx, p, f, all)
		}
	}
}

// pruneRounds is how often other blobs are looked for, because those that were
// to go are held or used by then.
const pruneRounds = 3

// shrink removes bytes, and reports whether some that were to go did not.
func (pr *pruner) shrink(ctx context.Context, p PrunePolicy, f *filter.Filter) (all []Usage, refused bool, err error) {
	if all, err = pr.c.usages(ctx); err != nil {
		return nil, false, err
	}
	var total int64
	for _, u := range all {
		if u.Present && !pr.gone[u.Digest] {
			total += u.Size
		}
	}
	defer func() { pr.report.Kept = total }()
	if p.isDebrisOnly() {
		return all, false, nil
	}
	keep := p.keep(total, pr.c.layout.Free())
	for _, batch := range pr.plan(p, f, all, total, keep) {
		freed, n, err := pr.remove(ctx, p, batch)
		total -= freed
		refused = refused || n > 0
		if err != nil {
			return nil, false, err
		}
	}
	return all, refused, nil
}

// candidates returns what a policy may remove.
func (pr *pruner) candidates(p PrunePolicy, f *filter.Filter, all []Usage) []Usage {
	var cs []Usage
	for _, u := range all {
		if u.Pinned || u.InUse || u.foreign || pr.gone[u.Digest] || !f.Match(u.field) {
			continue
		}
		if p.KeepDuration > 0 && pr.c.o.clock().Sub(u.lastTouched()) < p.KeepDuration {
			continue
		}
		cs = append(cs, u)
	}
	return cs
}

var errNotPruned = errors.New("it is held, or was used again")
