package cache

import (
	"context"
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
)

// keep reads a layer that was built into the cache, and returns what is known
// of it, with the media type that it was built with. Its bytes may be gone by
// then, pruned or never kept on a full disk.
func (c *Cache) keep(ctx context.Context, l v1.Layer) (index.Entry, error) {
	if isUncompressed(l) {
		return c.keepTar(ctx, l)
	}
	w := c.Layer(l)
	before, berr := c.describe(w) // what the cache alone knows can go at any time
	p := startProgress(nil, Progress{})
	var err error
	if berr == nil {
		err = c.fillForms(ctx, w, p, v1.Layer.Compressed)
	} else { // a stream, which can be read once
		err = c.fillOne(ctx, w, v1.Layer.Compressed, &layerProgress{p: p})
	}
	if err != nil && !errors.Is(err, ErrNotKept) {
		return index.Entry{}, err
	}
	e, err := c.describe(w)
	if err != nil && berr == nil {
		e, err = before, nil
	}
	if err != nil {
		return index.Entry{}, err
	}
	e = c.claimBuilt(ctx, e, w, l)
	mediaType, err := l.MediaType()
	e.MediaType = string(mediaType)
	return e, err
}

// keepTar is keep for a layer that has no compressed form yet. It gets the one
// that the configured codec makes, as it would if it were built again, and not
// another that happens to be there.
func (c *Cache) keepTar(ctx context.Context, l v1.Layer) (index.Entry, error) {
	err := c.fillForms(ctx, c.Layer(l), startProgress(nil, Progress{}), v1.Layer.Uncompressed)
	if err != nil && !errors.Is(err, ErrNotKept) {
		return index.Entry{}, err
	}
	diffID, err := l.DiffID()
	if err != nil {
		return index.Entry{}, err
	}
	e, err := c.packOwn(diffID)
	if err != nil && !errors.Is(err, ErrClosed) { // the tar was not kept, cannot be read, or was pruned
		e, err = c.packBuilt(l, diffID)
	}
	if err != nil {
		return index.Entry{}, err
	}
	e.DiffID, e.Pair, e.Codec = diffID, index.Verified, c.o.codec.String()
	mediaType, err := l.MediaType()
	e.MediaType = inFamilyOf(string(mediaType), e.MediaType)
	return e, err
}

// packOwn returns the entry of what the configured codec makes of a tar that
// is there.
func (c *Cache) packOwn(diffID v1.Hash) (index.Entry, error) {
	for {
		for _, v := range c.variants(diffID) {
			if v.Codec == c.o.codec.String() && (c.present(v) || c.recompress(v)) {
				return v, nil
			}
		}
		tar, ok := c.entry(diffID)
		if !ok || !c.present(tar) {
			return index.Entry{}, notFound(diffID)
		}
		e, err := c.packKept(tar)
		if !errors.Is(err, errChanged) {
			return e, err
		}
	}
}

// packBuilt compresses a layer that was built, to learn what comes out.
func (c *Cache) packBuilt(l v1.Layer, diffID v1.Hash) (index.Entry, error) {
	mediaType, err := l.MediaType()
	if err != nil {
		return index.Entry{}, err
	}
	tar, err := l.Uncompressed()
	if err != nil {
		return index.Entry{}, err
	}
	p := &packedLayer{c: c, tar: index.Entry{Digest: diffID, MediaType: compression.Uncompressed(string(mediaType))}}
	if err := p.measure(compressStream(tar, c.o.codec)); err != nil {
		return index.Entry{}, err
	}
	return c.describe(p)
}

// describe returns the entry of a layer, and what would be one if there is
// none.
func (c *Cache) describe(l v1.Layer) (index.Entry, error) {
	digest, err := l.Digest()
	if err != nil {
		return index.Entry{}, err
	}
	if e, ok := c.catalog.get(digest); ok {
		return e, nil
	}
	size, serr := l.Size()
	mediaType, merr := l.MediaType()
	return index.Entry{Digest: digest, Size: size, MediaType: string(mediaType), Created: c.now()}, errors.Join(serr, merr)
}
