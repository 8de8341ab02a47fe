package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/internal/fill"
)

// read joins or starts a fill and returns a reader of it. If the fill cannot
// even begin, the origin is read past the cache.
func (c *Cache) read(key fillKey, changed func() bool, start func() config, o fill.Options) (io.ReadCloser, error) {
	o.Fallback = func(cause error) {
		c.count.fallbacks.Add(1)
		c.o.log.Info("reading on past the cache", "of", key.of, "cause", cause)
	}
	for {
		ref, started, err := c.fills.join(c.ctx, key, changed, start)
		if err != nil {
			return nil, fmt.Errorf("cache: read %s: %w", key.of, err)
		}
		err = ref.Opened(!started)
		if err == nil {
			c.countMiss(key)
			o.Own = started
			return fill.NewReader(ref, o), nil
		}
		ref.Leave()
		var oerr *fill.OriginError
		switch {
		case errors.As(err, &oerr) && started:
			return nil, oerr.Err
		case errors.As(err, &oerr):
			continue // that was another's origin
		case errors.Is(err, ErrClosed):
			return nil, fmt.Errorf("cache: read %s: %w", key.of, err)
		}
		c.countMiss(key)
		o.Fallback(err)
		return o.Again()
	}
}

// countMiss counts an open that an origin has to serve. A decompression is
// none by itself: it opens the blob.
func (c *Cache) countMiss(key fillKey) {
	if key.form != decompressed {
		c.count.misses.Add(1)
	}
}

// decompress returns a reader of what src decompresses to, and closes src
// with it.
func (c *Cache) decompress(src io.ReadCloser, name string) *decompressor {
	return &decompressor{src: src, max: c.o.maxUncompressed, name: name}
}

// openHit opens the bytes of an entry. It returns nil if they are not there,
// or not what they should be: a miss. Again is what else the bytes can be had
// from, should reading fail.
func (c *Cache) openHit(e index.Entry, again func() (io.ReadCloser, error)) *hit {
	b, err := c.openBlob(e)
	if err != nil {
		if errors.Is(err, ErrCorrupt) {
			c.o.log.Warn("cannot read a blob", "digest", e.Digest, "err", err)
		} else if !errors.Is(err, fs.ErrNotExist) {
			c.fault(fmt.Errorf("read %s: %w", e.Digest, err))
		}
		return nil
	}
	c.count.hits.Add(1)
	return c.newHit(e.Digest, b, again)
}
