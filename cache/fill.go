package cache

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// Progress is how far a [Cache.Fill] has come.
type Progress struct {
	Layers, LayersTotal int   // done, and of how many
	Bytes, BytesTotal   int64 // of the compressed layers, as far as their sizes are known
}

// Fill brings the compressed forms of layers into the cache, several at a
// time. What is there already costs nothing. It returns the first error,
// after which the others are given up; what is complete stays.
func (c *Cache) Fill(ctx context.Context, layers ...v1.Layer) error {
	return c.fillAll(ctx, layers, v1.Layer.Compressed)
}

// FillUncompressed is Fill for both forms: each layer is read once.
func (c *Cache) FillUncompressed(ctx context.Context, layers ...v1.Layer) error {
	return c.fillAll(ctx, layers, v1.Layer.Uncompressed)
}

func (c *Cache) fillAll(ctx context.Context, layers []v1.Layer, open func(v1.Layer) (io.ReadCloser, error)) error {
	p := c.startProgress(layers)
	defer p.end()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.o.maxFills)
	for _, l := range layers {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := c.fillOne(ctx, c.Layer(l), open, p); err != nil {
				return fmt.Errorf("cache: fill: %w", err)
			}
			p.layers.Add(1)
			return nil
		})
	}
	return g.Wait()
}

// fillOne reads a layer to its end, unless it is there, and looks that it was
// kept.
func (c *Cache) fillOne(ctx context.Context, l v1.Layer, open func(v1.Layer) (io.ReadCloser, error), p *progress) error {
	rc, err := open(l)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = rc.Close() })
	defer stop()
	defer rc.Close()
	if _, ok := rc.(*hit); ok {
		if size, err := l.Size(); err == nil {
			p.bytes.Add(size)
		}
		return nil
	}
	if _, err := io.Copy(p, rc); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	h, err := l.Digest()
	if err != nil {
		return err
	}
	if !c.layout.Valid(h) {
		return nil
	}
	if e, ok := c.catalog.get(h); !ok || !c.readable(e) {
		return fmt.Errorf("%s was read, and could not be kept", h)
	}
	return nil
}

// progress counts, and tells the callback at most ten times a second.
type progress struct {
	total  Progress
	layers atomic.Int64
	bytes  atomic.Int64
	stop   chan struct{}
	ended  chan struct{}
}

func (c *Cache) startProgress(layers []v1.Layer) *progress {
	p := &progress{stop: make(chan struct{}), ended: make(chan struct{})}
	p.total.LayersTotal = len(layers)
	if c.o.progress == nil {
		close(p.ended)
		return p
	}
	for _, l := range layers {
		if d := descriptor(l); d != nil {
			p.total.BytesTotal += d.Size
		}
	}
	go p.run(c.o.progress)
	return p
}

func (p *progress) run(report func(Progress)) {
	defer close(p.ended)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			report(p.now())
		case <-p.stop:
			report(p.now())
			return
		}
	}
}

func (p *progress) now() Progress {
	now := p.total
	now.Layers = int(p.layers.Load())
	now.Bytes = p.bytes.Load()
	return now
}

// Write counts bytes that were read.
func (p *progress) Write(b []byte) (int, error) {
	p.bytes.Add(int64(len(b)))
	return len(b), nil
}

func (p *progress) end() {
	close(p.stop)
	<-p.ended
}
