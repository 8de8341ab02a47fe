package cache

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// Fill brings the compressed forms of layers into the cache, several at a
// time. What is there already costs nothing. It returns the first error,
// after which the others are given up; what is complete stays. In a cache
// that is read-only, a layer that is not there is [ErrReadOnly].
func (c *Cache) Fill(ctx context.Context, layers ...v1.Layer) error {
	return c.fillAll(ctx, layers, v1.Layer.Compressed)
}

// FillUncompressed is Fill for both forms: each layer is read once. Of a
// layer that has no compressed form but what would be computed, it keeps the
// tar.
func (c *Cache) FillUncompressed(ctx context.Context, layers ...v1.Layer) error {
	return c.fillAll(ctx, layers, v1.Layer.Uncompressed, v1.Layer.Compressed)
}

// sizeOf returns how much there is to fill, as far as it is known.
func sizeOf(layers []v1.Layer) Progress {
	total := Progress{LayersTotal: len(layers)}
	for _, l := range layers {
		if d := descriptor(l); d != nil {
			total.BytesTotal += d.Size
		}
	}
	return total
}

// A formOf is one of v1.Layer's two methods.
type formOf func(v1.Layer) (io.ReadCloser, error)

func (c *Cache) fillAll(ctx context.Context, layers []v1.Layer, forms ...formOf) error {
	p := startProgress(c.o.progress, sizeOf(layers))
	defer p.end()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.o.maxFills)
	for _, l := range layers {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := c.fillForms(ctx, c.Layer(l), p, forms...); err != nil {
				return fmt.Errorf("cache: fill: %w", err)
			}
			return nil
		})
	}
	return g.Wait()
}

// fillForms reads forms of one of our layers to their end, unless they are
// there.
func (c *Cache) fillForms(ctx context.Context, l v1.Layer, p *progress, forms ...formOf) error {
	lp := &layerProgress{p: p}
	for n, form := range forms {
		if n > 0 && isUncompressed(l) {
			break // it would be computed
		}
		err := c.fillOne(ctx, l, form, lp)
		if errors.Is(err, ErrNotKept) || isMismatch(err) { // it may have joined a fill that failed for another's origin
			err = c.fillOne(ctx, l, form, lp)
		}
		if err != nil {
			return err
		}
	}
	lp.done(l)
	return nil
}

func isMismatch(err error) bool {
	return errors.As(err, new(*DigestMismatchError)) || errors.As(err, new(*SizeMismatchError))
}

// fillOne reads a layer to its end, unless it is there, and looks that it was
// kept.
func (c *Cache) fillOne(ctx context.Context, l v1.Layer, form formOf, lp *layerProgress) error {
	if c.o.readOnly && !c.holds(l) {
		h, _ := l.Digest()
		return fmt.Errorf("%s is not there: %w", h, ErrReadOnly)
	}
	rc, err := openContext(ctx, func() (io.ReadCloser, error) { return form(l) })
	if err != nil {
		return err
	}
	defer rc.Close()
	stop := context.AfterFunc(ctx, func() { _ = rc.Close() })
	defer stop()
	if _, ok := rc.(*hit); ok {
		return nil
	}
	if _, err := io.Copy(lp, rc); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if !c.holds(l) {
		h, _ := l.Digest()
		return fmt.Errorf("%s: %w", h, ErrNotKept)
	}
	return nil
}

// openContext opens, and does not wait for it longer than ctx lasts: ggcr's
// interfaces take no context. What opens later is closed.
func openContext(ctx context.Context, open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	type result struct {
		rc  io.ReadCloser
		err error
	}
	opened := make(chan result, 1)
	go func() {
		rc, err := open()
		opened <- result{rc, err}
	}()
	select {
	case r := <-opened:
		return r.rc, r.err
	case <-ctx.Done():
		go func() {
			if r := <-opened; r.err == nil {
				_ = r.rc.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// holds reports whether the bytes of a layer are in the cache: the blob, or
// the tar of a layer that has no other form. What the cache cannot keep, for
// its digest's algorithm, counts as held.
func (c *Cache) holds(l v1.Layer) bool {
	hash := l.Digest
	if isUncompressed(l) {
		hash = l.DiffID
	}
	h, err := hash()
	if err != nil {
		return false
	}
	e, ok := c.entry(h)
	return !c.layout.Valid(h) || ok && c.readable(e)
}

// layerProgress counts the bytes of one layer as they come, and in the end
// makes them the size of the compressed form, whatever was read.
type layerProgress struct {
	p *progress
	n int64
}

func (lp *layerProgress) Write(b []byte) (int, error) {
	lp.n += int64(len(b))
	lp.p.bytes.Add(int64(len(b)))
	return len(b), nil
}

func (lp *layerProgress) done(l v1.Layer) {
	lp.p.layers.Add(1)
	if isUncompressed(l) {
		return
	}
	if size, err := l.Size(); err == nil {
		lp.p.bytes.Add(size - lp.n)
	}
}
