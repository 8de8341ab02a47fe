package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// AdoptReport is what [Cache.Adopt] found.
type AdoptReport struct {
	Images int        // manifests whose layers were looked at
	Blobs  []Adoption // each layer once, and what could not be read, sorted by digest
	Absent int        // blobs that the layout names and does not have, as it may
}

// An Adoption is what became of a layer, or of a manifest that could not be
// read.
type Adoption struct {
	Digest  string // as the layout has it
	Size    int64  // in bytes, likewise
	Present bool   // it was in the cache before
	Err     error  // why it was not taken; nil if it is in the cache
}

// Adopt copies the layers of another OCI image layout into the cache: those of
// all images that its index.json reaches, whose configs say what the layers
// decompress to, as a claim; layers that it lists by themselves; and, if it is
// the directory of a cache, that cache's entries. It writes nothing there, and
// other processes may use the layout meanwhile.
//
// What is wrong with single blobs stands in the report, and Adopt goes on. The
// errors are those of [Open] for dir, [ErrMalformed] if it has no index.json or
// an empty one, [ErrReadOnly], [ErrClosed] and the context's; the report holds what was done by then. Doing it again copies
// what is missing.
func (c *Cache) Adopt(ctx context.Context, dir string) (AdoptReport, error) {
	if c.o.readOnly {
		return AdoptReport{}, fmt.Errorf("cache: adopt %s: %w", dir, ErrReadOnly)
	}
	if c.fills.isClosed() {
		return AdoptReport{}, fmt.Errorf("cache: adopt %s: %w", dir, ErrClosed)
	}
	src, err := Open(dir, WithReadOnly(), WithLogger(c.o.log))
	if err != nil {
		return AdoptReport{}, fmt.Errorf("cache: adopt: %w", err)
	}
	if err := wantIndex(dir); err != nil {
		return AdoptReport{}, errors.Join(fmt.Errorf("cache: adopt %s: %w", dir, err), src.Close())
	}
	a := &adopter{c: c}
	f := find(ctx, src)
	a.report.Images, a.report.Absent, a.report.Blobs = f.images, f.absent, f.broken
	err = a.fill(ctx, f.layers)
	slices.SortFunc(a.report.Blobs, func(a, b Adoption) int { return strings.Compare(a.Digest, b.Digest) })
	if err = errors.Join(err, src.Close()); err != nil {
		return a.report, fmt.Errorf("cache: adopt %s: %w", dir, err)
	}
	return a.report, nil
}

// wantIndex is an error if a layout has no index.json, or an empty one. To open
// it, either is as good as one that lists nothing.
func wantIndex(dir string) error {
	fi, err := os.Stat(filepath.Join(dir, ocispec.ImageIndexFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no %s", ErrMalformed, ocispec.ImageIndexFile)
	case err == nil && fi.Size() == 0:
		return fmt.Errorf("%w: %s is empty", ErrMalformed, ocispec.ImageIndexFile)
	}
	return err
}

// An adopter is one Adopt under way.
type adopter struct {
	c      *Cache
	mu     sync.Mutex
	report AdoptReport // guarded by mu
}

// fill reads the layers into the cache.
func (a *adopter) fill(ctx context.Context, founds []found) error {
	layers := make([]v1.Layer, len(founds))
	for n, f := range founds {
		layers[n] = a.c.wrap(f.layer(), f.origin())
	}
	p := startProgress(a.c.o.progress, sizeOf(layers))
	defer p.end()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(a.c.o.maxFills)
	for n, f := range founds {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			there, err := a.c.holds(layers[n]), error(nil)
			if there { // opening it would count as a use
				(&layerProgress{p: p}).done(layers[n])
			} else {
				err = a.c.fillForms(ctx, layers[n], p, f.form())
			}
			if err == nil {
				err = a.c.claim(f.digest, f.claim)
			}
			if ctx.Err() != nil || errors.Is(err, ErrClosed) {
				return errors.Join(err, context.Cause(ctx))
			}
			a.note(Adoption{Digest: f.digest.String(), Size: f.size, Present: there, Err: err})
			return nil
		})
	}
	return g.Wait()
}

func (a *adopter) note(b Adoption) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Blobs = append(a.report.Blobs, b)
}

// isClaimable reports whether an entry can take a claim: nothing is known of its
// diffID yet.
func (c *Cache) isClaimable(e index.Entry, diffID v1.Hash) bool {
	return e.Pair == index.Unknown && !e.Tar && c.layout.Valid(diffID) && diffID != e.Digest
}

// claim records what a blob is claimed to decompress to, if nothing is known
// of that.
func (c *Cache) claim(h, diffID v1.Hash) error {
	unknown := func() (e index.Entry, is bool) {
		e, ok := c.catalog.get(h)
		return e, ok && c.isClaimable(e, diffID)
	}
	if _, is := unknown(); !is {
		return nil
	}
	return c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		e, is := unknown()
		if !is {
			return nil
		}
		e.DiffID, e.Pair = diffID, index.Claimed
		return tx.Append(index.PutRecord(e))
	})
}
