package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
// all of it goes. A number or duration below zero is an error.
type PrunePolicy struct {
	// All removes everything that nothing protects, as far as the other fields
	// allow it. Without a limit, that is remembered pairs, build keys and all
	// of the quarantine too; with one, these stay, as they have no bytes that
	// it counts.
	All bool
	// Filters are those of [Cache.DiskUsage]: only what one of them matches is
	// removed. A blank one, which would match all, is an error.
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

// forgetsAll reports whether what is remembered is to go too.
func (p PrunePolicy) forgetsAll() bool { return p.All && !p.hasLimit() }

// check returns an error for what would remove everything by mistake.
func (p PrunePolicy) check() error {
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"KeepDuration", int64(p.KeepDuration)},
		{"ReservedBytes", p.ReservedBytes},
		{"MaxBytes", p.MaxBytes},
		{"MinFreeBytes", p.MinFreeBytes},
	} {
		if field.value < 0 {
			return fmt.Errorf("%s is below zero: %d", field.name, field.value)
		}
	}
	for _, f := range p.Filters {
		if strings.TrimSpace(f) == "" {
			return errors.New("one of Filters is blank: All removes everything")
		}
	}
	return nil
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
// policy says. So does what was committed or used meanwhile; others go in its
// place if there is a limit. Readers, fills and other processes go on. If it
// ends early, what it removed is gone, and nothing else is. The errors are
// [ErrReadOnly], [ErrClosed], [ErrLocked], the context's, those of a policy,
// and that of a manifest which cannot be read, and may reach whatever is there;
// the report holds what was done by then.
func (c *Cache) Prune(ctx context.Context, p PrunePolicy) (PruneReport, error) {
	return c.PruneAll(ctx, p)
}

// PruneAll prunes by several policies, one after the other.
func (c *Cache) PruneAll(ctx context.Context, policies ...PrunePolicy) (PruneReport, error) {
	if c.o.readOnly && slices.ContainsFunc(policies, func(p PrunePolicy) bool { return !p.DryRun }) {
		return PruneReport{}, fmt.Errorf("cache: prune: %w", ErrReadOnly)
	}
	if !c.fills.whileOpen(func() { c.background.Add(1) }) {
		return PruneReport{}, fmt.Errorf("cache: prune: %w", ErrClosed)
	}
	defer c.background.Done()
	ctx, cancel := c.untilStop(ctx)
	defer cancel()
	select {
	case c.pruning <- struct{}{}: // one at a time
		defer func() { <-c.pruning }()
	case <-ctx.Done():
		return PruneReport{}, fmt.Errorf("cache: prune: %w", context.Cause(ctx))
	}

	return c.pruneBy(ctx, policies)
}

// pruneBy is PruneAll while nobody else of this process prunes.
func (c *Cache) pruneBy(ctx context.Context, policies []PrunePolicy) (PruneReport, error) {
	filters, err := c.o.parse(policies) // before anything is removed
	if err != nil {
		return PruneReport{}, fmt.Errorf("cache: prune: %w", err)
	}
	pr := newPruner(c)
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

// parse checks policies, and parses their filters.
func (o *options) parse(policies []PrunePolicy) ([]*filter.Filter, error) {
	filters := make([]*filter.Filter, len(policies))
	for i, p := range policies {
		if err := p.check(); err != nil {
			return nil, err
		}
		f, err := usageFields.Parse(o.clock(), p.Filters...)
		if err != nil {
			return nil, err
		}
		filters[i] = f
	}
	return filters, nil
}
