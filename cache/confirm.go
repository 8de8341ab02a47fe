package cache

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
)

// Confirm returns what a blob decompresses to. If that is not verified yet,
// the blob is decompressed once, and the pair recorded; no tar is kept, and no
// origin asked. What was claimed of the blob, and is wrong, is corrected.
//
// The errors are [ErrNotFound] if the bytes are not there, [ErrCorrupt] and
// [ErrTooLarge] if they do not decompress, [ErrClosed], and the context's.
func (c *Cache) Confirm(ctx context.Context, h v1.Hash) (diffID v1.Hash, err error) {
	if !c.fills.whileOpen(func() { c.background.Add(1) }) {
		return v1.Hash{}, fmt.Errorf("cache: confirm %s: %w", h, ErrClosed)
	}
	defer c.background.Done()
	ctx, cancel := c.untilStop(ctx)
	defer cancel()
	diffID, err = c.confirmBlob(ctx, h)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return v1.Hash{}, fmt.Errorf("cache: confirm %s: %w", h, err)
	}
	return diffID, nil
}

func (c *Cache) confirmBlob(ctx context.Context, h v1.Hash) (diffID v1.Hash, err error) {
	e, ok := c.entry(h)
	switch {
	case ok && e.Pair == index.Verified:
		return e.DiffID, nil
	case !ok || !c.present(e):
		return v1.Hash{}, notFound(h)
	}
	alg := diffAlgorithm(e)
	rc, err := (&layer{c: c, digest: h}).decompressing(h, alg, func(sum []byte, _ int64) error {
		diffID = sumHash(alg, sum)
		return context.Cause(ctx)
	})
	if err != nil {
		return v1.Hash{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = rc.Close() }) // it was only read
	defer stop()
	defer rc.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{rc}, make([]byte, scrubChunk))
	return diffID, err
}
