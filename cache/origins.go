package cache

import (
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// Origins returns the layer that a repository has under a digest. It is asked
// when bytes are needed that the cache knows the home of and does not hold, by
// several goroutines at once. What its layer gives is checked like any other
// origin's. If the blob has gone from there, the error of Origins, or of the
// layer's Compressed, is [ErrNotFound]; then the cache forgets that it was there.
type Origins func(repository string, d v1.Descriptor) (v1.Layer, error)

// WithOrigins has blobs whose bytes are gone, or were never there, fetched from
// the repository that they came from. [Cache.Get] then also finds those. The
// default is to know no repository.
func WithOrigins(o Origins) Option { return func(opts *options) { opts.origins = o } }

// obtainable reports whether the bytes of an entry can be had without another
// origin than those that the cache knows.
func (c *Cache) obtainable(e index.Entry) bool { return c.hasOrigin(e) || c.readable(e) }

func (c *Cache) hasOrigin(e index.Entry) bool { return c.o.origins != nil && e.Origin != "" && !e.Tar }

// known returns the layer of an entry, with its home as the origin if that is
// known.
func (c *Cache) known(e index.Entry, diffID v1.Hash) *layer {
	l := &layer{c: c, digest: e.Digest, diffID: diffID}
	if c.hasOrigin(e) {
		l.inner, _ = partial.CompressedToLayer(&home{c: c, e: e}) // which never fails
		l.from = origin{desc: expected(e), repo: e.Origin}
	}
	return l
}

// expected returns the descriptor that the bytes of an entry must have; nil if
// its size is hearsay, so that its digest alone decides.
func expected(e index.Entry) *v1.Descriptor {
	if !isMeasured(e) {
		return nil
	}
	return descriptorOf(e)
}

// isMeasured reports whether an entry's bytes, and so its size, were here, and
// are not only what somebody said. Once they are gone, the pair tells.
func isMeasured(e index.Entry) bool { return e.ModTime != 0 || e.Pair == index.Verified }

func descriptorOf(e index.Entry) *v1.Descriptor {
	return &v1.Descriptor{Digest: e.Digest, Size: e.Size, MediaType: types.MediaType(e.MediaType)}
}

// A home is a layer where it is at home. It is a partial.CompressedLayer.
type home struct {
	c *Cache
	e index.Entry
}

func (h *home) layer() (v1.Layer, error) { return h.c.o.origins(h.e.Origin, *descriptorOf(h.e)) }

func (h *home) Digest() (v1.Hash, error)            { return h.e.Digest, nil }
func (h *home) Size() (int64, error)                { return h.e.Size, nil }
func (h *home) MediaType() (types.MediaType, error) { return types.MediaType(h.e.MediaType), nil }

func (h *home) Compressed() (rc io.ReadCloser, err error) {
	l, err := h.layer()
	if err == nil {
		rc, err = l.Compressed()
	}
	if err == nil {
		return rc, nil
	}
	if errors.Is(err, ErrNotFound) {
		h.c.homeless(h.e)
	}
	return nil, fmt.Errorf("cache: %s in %s: %w", h.e.Digest, h.e.Origin, err)
}

// Exists is what partial.Exists asks for.
func (h *home) Exists() (bool, error) {
	l, err := h.layer()
	if err != nil {
		return false, err
	}
	return partial.Exists(l)
}

// homeless records that a blob is not where it came from any more.
func (c *Cache) homeless(was index.Entry) {
	if c.o.readOnly {
		return
	}
	c.faulted(c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		e, ok := c.catalog.get(was.Digest)
		if !ok || e.Origin != was.Origin {
			return nil
		}
		e.Origin = ""
		return tx.Append(index.PutRecord(e))
	}))
}
