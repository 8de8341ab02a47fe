package share

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/compression"
)

// choose finds what is to be sent: mine.
func (p *push) choose(ctx context.Context) error {
	filters, err := p.o.filters()
	if err != nil {
		return err
	}
	usages, err := p.c.DiskUsage(ctx, filters...)
	if err != nil {
		return err
	}
	usages = slices.DeleteFunc(usages, func(u cache.Usage) bool { return !sendable(u) })
	usages = p.affordable(usages)
	keys, err := p.shareableKeys()
	if err != nil {
		return err
	}
	entries := make([]*entry, len(usages))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(p.o.jobs, runtime.GOMAXPROCS(0)))
	for n, u := range usages {
		g.Go(func() (err error) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			entries[n], err = p.entryOf(ctx, u, keys)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var mine []entry
	for n, e := range entries {
		if e != nil {
			mine = append(mine, *e)
			p.origins[e.digest] = usages[n].Origin
		}
	}
	p.mine = unite(mine) // sorted; a key stands for one of them
	return nil
}

// sendable reports whether a blob may be sent: not the tar of one that is, and
// nothing that is remembered by hearsay.
func sendable(u cache.Usage) bool {
	return u.Distributed && (u.Present || u.Pair == ocicache.PairVerified)
}

// affordable returns what fits into the budget: what was read most often
// first, of these what was last read.
func (p *push) affordable(usages []cache.Usage) []cache.Usage {
	if p.o.budget < 0 {
		return usages
	}
	slices.SortFunc(usages, func(a, b cache.Usage) int {
		return cmp.Or(cmp.Compare(b.UseCount, a.UseCount), b.LastUsed.Compare(a.LastUsed), b.Created.Compare(a.Created),
			strings.Compare(a.Digest.String(), b.Digest.String()))
	})
	left := p.o.budget
	return slices.DeleteFunc(usages, func(u cache.Usage) bool {
		if u.Size > left {
			p.drop(u.Digest, u.Size, "over the budget")
			return true
		}
		left -= u.Size
		return false
	})
}

// shareableKeys returns the build keys that may leave this machine, by the
// layers that they stand for.
func (p *push) shareableKeys() (map[v1.Hash][]string, error) {
	keys, err := p.c.Keys()
	if err != nil {
		return nil, err
	}
	shareable := map[v1.Hash][]string{}
	for _, k := range keys {
		if k.Shareable {
			shareable[k.Digest] = append(shareable[k.Digest], k.Key)
		}
	}
	return shareable, nil
}

// entryOf returns the entry of a blob, nil if it is not to be sent.
func (p *push) entryOf(ctx context.Context, u cache.Usage, keys map[v1.Hash][]string) (*entry, error) {
	e := &entry{digest: u.Digest, size: u.Size, mediaType: u.MediaType}
	if err := e.check(); err != nil {
		p.drop(u.Digest, u.Size, err.Error())
		return nil, nil
	}
	e.keys = keys[u.Digest] // of which unite takes what fits
	switch {
	case !u.MediaType.IsDistributable():
		p.drop(u.Digest, u.Size, "its media type forbids to distribute it")
		return nil, nil
	case !compression.IsLayer(string(u.MediaType)) && (u.Pair != ocicache.PairVerified || u.DiffID == u.Digest):
		return e, nil // it has but one form
	case u.Pair == ocicache.PairVerified:
		e.diffID = u.DiffID
		return e, nil
	case p.o.verifiedOnly:
		p.drop(u.Digest, u.Size, "what it decompresses to is not verified")
		return nil, nil
	}
	var err error
	switch e.diffID, err = p.c.Confirm(ctx, u.Digest); {
	case err == nil:
		return e, nil
	case errors.Is(err, cache.ErrNotFound), errors.Is(err, cache.ErrCorrupt), errors.Is(err, cache.ErrTooLarge):
		p.drop(u.Digest, u.Size, err.Error())
		return nil, nil
	}
	return nil, err
}
