package share

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ocicache/ocicache/cache"
)

var (
	// ErrNoSnapshot is returned for a tag that is not there.
	ErrNoSnapshot = errors.New("there is no snapshot")
	// ErrTooManyEntries is returned by a [Pull] or a [Push] that finds more
	// entries than [WithMaxEntries] allows.
	ErrTooManyEntries = errors.New("too many entries")
)

// A PullReport says what a [Pull] found and did. Snapshots of one repository
// may share shards, which count once.
type PullReport struct {
	Missing []name.Reference // where no snapshot is

	Shards  int   // read
	Lost    int   // shards that a snapshot lists and the registry does not have
	Entries int   // layers in the shards
	Bytes   int64 // of those layers
	Keys    int   // build keys of those layers, trusted or not
	Added   int   // entries that the cache did not know

	// With [WithBytes]:
	Fetched      int
	FetchedBytes int64
	Gone         []v1.Hash // blobs that the registry does not have
}

// Pull records in c the layers of the snapshot at ref, and of those that
// [WithScopes] names. Their bytes are read when they are first needed, by a
// cache that was opened with [cache.WithOrigins] and [Origins], unless
// [WithBytes] fetches them now. What the snapshot says of a layer is claimed,
// not verified, and changes nothing that the cache knows.
//
// The errors are [ErrNoSnapshot], [ErrMalformed], [ErrTooManyEntries], those of
// [cache.Cache.Remember] and [cache.Cache.Fill], the registry's and the
// context's. What was recorded by then stays, and the report says how much that
// is. Doing it again is harmless.
func Pull(ctx context.Context, c *cache.Cache, ref name.Reference, opts ...Option) (PullReport, error) {
	p := &pull{c: c, o: makeOptions(opts), seen: map[string]bool{}, homes: map[v1.Hash]*registry{}}
	for _, ref := range append([]name.Reference{ref}, p.o.scopes...) {
		err := p.scope(ctx, ref)
		if errors.Is(err, ErrNoSnapshot) && len(p.o.scopes) > 0 {
			p.report.Missing = append(p.report.Missing, ref)
			continue
		}
		if err != nil {
			return p.report, fmt.Errorf("share: pull %s: %w", ref, err)
		}
	}
	if !p.o.bytes {
		return p.report, nil
	}
	if err := p.fetch(ctx); err != nil {
		return p.report, fmt.Errorf("share: pull: %w", err)
	}
	return p.report, nil
}

// A pull is one call of Pull.
type pull struct {
	c *cache.Cache
	o options

	mu     sync.Mutex // guards what follows while shards or layers are read
	report PullReport
	seen   map[string]bool       // shards that were read, by repository and digest
	homes  map[v1.Hash]*registry // of entries, if their bytes are wanted
}

// maxReads is how often a tag is read that moves while its shards are read.
const maxReads = 5

// scope pulls the snapshot of one tag. If a shard is gone, the tag is read
// again: it may have moved, and who moved it have taken away the shard.
func (p *pull) scope(ctx context.Context, ref name.Reference) error {
	r, err := connect(ref.Context(), p.o)
	if err != nil {
		return err
	}
	var was v1.Hash
	lost := 0
	for range maxReads {
		desc, err := r.manifest(ctx, ref)
		if isNotFound(err) {
			return fmt.Errorf("%w: %w", ErrNoSnapshot, err)
		}
		if err != nil {
			return err
		}
		if desc.Digest == was {
			break
		}
		was = desc.Digest
		shards, err := decodeIndex(desc.Manifest)
		if err != nil {
			return err
		}
		if lost, err = p.shards(ctx, r, shards); err != nil {
			return err
		}
		if lost == 0 {
			return nil
		}
	}
	p.report.Lost += lost
	p.o.log.Warn("a snapshot lists shards that are gone", "ref", ref.String(), "shards", lost)
	return nil
}

// shards pulls shards, several at a time, and returns how many are gone.
func (p *pull) shards(ctx context.Context, r *registry, shards []v1.Descriptor) (lost int, err error) {
	if len(shards) > p.o.maxEntries { // each has one at least
		return 0, fmt.Errorf("%w: %d shards, with a limit of %d entries", ErrTooManyEntries, len(shards), p.o.maxEntries)
	}
	m := newMeter(p.o.progress, Progress{Total: len(shards)})
	defer m.end()
	gone := make([]bool, len(shards))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(p.o.jobs)
	for i, d := range shards {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			err := p.shard(gctx, r, d)
			m.add(1, 0)
			if gone[i] = isNotFound(err); gone[i] {
				return nil
			}
			if err != nil {
				return fmt.Errorf("shard %s: %w", d.Digest, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	for _, is := range gone {
		if is {
			lost++
		}
	}
	return lost, context.Cause(ctx)
}

// shard pulls one shard, unless that was done.
func (p *pull) shard(ctx context.Context, r *registry, d v1.Descriptor) error {
	name := r.repo.Digest(d.Digest.String()).String()
	p.mu.Lock()
	seen := p.seen[name]
	p.mu.Unlock()
	if seen {
		return nil
	}
	entries, err := r.entries(ctx, d)
	if err != nil {
		return err
	}
	if err := p.count(r, name, entries); err != nil {
		return err
	}
	added, err := p.c.Remember(ctx, p.remembered(r, entries))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Added += added
	return err
}

// count adds a shard to the report, unless it has too many entries.
func (p *pull) count(r *registry, shard string, entries []entry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.report.Entries+len(entries) > p.o.maxEntries {
		return fmt.Errorf("%w: more than %d", ErrTooManyEntries, p.o.maxEntries)
	}
	p.seen[shard] = true
	p.report.Shards++
	p.report.Entries += len(entries)
	for _, e := range entries {
		p.report.Bytes += e.size
		p.report.Keys += len(e.keys)
		if _, ok := p.homes[e.digest]; p.o.bytes && !ok {
			p.homes[e.digest] = r
		}
	}
	return nil
}

// remembered returns entries as a cache takes them: at home where they were
// pulled from, and with keys only if these are trusted.
func (p *pull) remembered(r *registry, entries []entry) []cache.Remembered {
	rs := make([]cache.Remembered, len(entries))
	for i, e := range entries {
		rs[i] = cache.Remembered{
			Descriptor: v1.Descriptor{Digest: e.digest, Size: e.size, MediaType: e.mediaType},
			DiffID:     e.diffID,
			Origin:     r.repo.Name(),
		}
		if p.o.trustKeys {
			rs[i].Keys = e.keys
		}
	}
	return rs
}
