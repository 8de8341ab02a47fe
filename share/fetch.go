package share

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ocicache/ocicache/cache"
)

// fetch brings in the bytes of what was pulled, several layers at a time. What
// a repository has lost is reported.
func (p *pull) fetch(ctx context.Context) error {
	wanted, err := p.wanted(ctx)
	if err != nil {
		return err
	}
	total := Progress{Total: len(wanted)}
	for _, d := range wanted {
		total.BytesTotal += d.Size
	}
	m := newMeter(p.o.progress, total)
	defer m.end()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(p.o.jobs)
	for _, d := range wanted {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			err := p.fetchLayer(gctx, d)
			m.add(1, d.Size)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// wanted returns the layers that were pulled, the filters match, and the cache
// does not hold.
func (p *pull) wanted(ctx context.Context) ([]v1.Descriptor, error) {
	usages, err := p.c.DiskUsage(ctx, p.o.bytesFilters...)
	if err != nil {
		return nil, err
	}
	var wanted []v1.Descriptor
	for _, u := range usages {
		if p.homes[u.Digest] != nil && !u.Present {
			wanted = append(wanted, v1.Descriptor{Digest: u.Digest, Size: u.Size, MediaType: u.MediaType})
		}
	}
	return wanted, nil
}

func (p *pull) fetchLayer(ctx context.Context, d v1.Descriptor) error {
	l, err := p.homes[d.Digest].layer(d)
	if err != nil {
		return err
	}
	err = p.c.Fill(ctx, l)
	gone := errors.Is(err, cache.ErrNotFound)
	if err != nil && !gone {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if gone {
		p.o.log.Warn("a snapshot lists a layer that is gone", "digest", d.Digest, "err", err)
		p.report.Gone = append(p.report.Gone, d.Digest)
		return nil
	}
	p.report.Fetched++
	p.report.FetchedBytes += d.Size
	return nil
}
