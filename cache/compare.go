package cache

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
)

// compareBuilt returns an error if a layer that was built is not the known
// one: of another digest, or of another diffID if that is all that it has.
func compareBuilt(ctx context.Context, known, l v1.Layer) error {
	hash := v1.Layer.Digest
	if isUncompressed(l) {
		hash = v1.Layer.DiffID
	}
	want, err := hash(known)
	if err != nil {
		return err
	}
	got, err := hash(l)
	if isStreaming(err) {
		if err := readStream(ctx, l); err != nil {
			return err
		}
		got, err = hash(l)
	}
	if err == nil && got != want {
		err = fmt.Errorf("another layer was built: %w", &DigestMismatchError{Want: want, Got: got})
	}
	return err
}

// readStream reads a layer to its end, after which it knows its digest.
func readStream(ctx context.Context, l v1.Layer) error {
	rc, err := openContext(ctx, l.Compressed)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = rc.Close() })
	defer stop()
	_, err = io.Copy(io.Discard, rc)
	return errors.Join(err, rc.Close())
}

// claimBuilt returns the entry of a layer that was built, with the diffID that
// the layer says it has. If another said otherwise of the same blob, the blob
// is decompressed to see.
func (c *Cache) claimBuilt(ctx context.Context, e index.Entry, w, l v1.Layer) index.Entry {
	var diffID v1.Hash
	if knowsDiffID(l) {
		diffID, _ = l.DiffID()
	}
	switch {
	case e.Pair == index.Unknown && c.layout.Valid(diffID) && diffID != e.Digest:
		e.DiffID, e.Pair = diffID, index.Claimed
		return e
	case e.Pair != index.Claimed, e.DiffID == diffID:
		return e
	}
	_ = c.fillOne(ctx, w, v1.Layer.Uncompressed, &layerProgress{p: startProgress(nil, Progress{})}) // the catalog tells
	if now, ok := c.catalog.get(e.Digest); ok && now.Pair == index.Verified {
		return now
	}
	e.DiffID, e.Pair = v1.Hash{}, index.Unknown
	return e
}

// inFamilyOf returns the media type of one's family for another's format.
func inFamilyOf(family, mediaType string) string {
	for _, f := range []compression.Format{compression.Plain, compression.Gzip, compression.Zstd} {
		if compression.Compressed(mediaType, f) == mediaType {
			return compression.Compressed(family, f)
		}
	}
	return mediaType
}
