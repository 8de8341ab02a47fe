package cache

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/internal/fill"
	"github.com/ocicache/ocicache/layout"
)

type config = fill.Config

// ingest is where a fill's bytes go; it counts them.
type ingest struct {
	*layout.Ingest
	c *Cache
}

func (in *ingest) Write(p []byte) (int, error) {
	n, err := in.Ingest.Write(p)
	in.c.count.bytesWritten.Add(int64(n))
	return n, err
}

// writing returns a config that writes an ingest, hashed by alg, and hands
// it to commit.
func (c *Cache) writing(alg string, commit func(in *layout.Ingest, got v1.Hash, n int64) error) config {
	var in *layout.Ingest
	return config{
		Create: func() (fill.File, error) {
			if err := c.room(0); err != nil {
				return nil, err
			}
			var err error
			if in, err = c.layout.Ingest(); err != nil {
				return nil, err
			}
			return &ingest{in, c}, nil
		},
		Hash:    newHash(alg),
		Size:    -1,
		Limit:   c.room,
		Check:   func([]byte, int64) error { return nil },
		Commit:  func(sum []byte, n int64) error { return commit(in, sumHash(alg, sum), n) },
		Fault:   c.fault,
		Slots:   c.fillSlots,
		Persist: c.o.finishAbandoned,
	}
}

// allow returns an error if n bytes are more than any layer may have, or if
// there is no room for more.
func (c *Cache) allow(n int64) error {
	if n > c.o.maxUncompressed {
		return fmt.Errorf("%w of %d bytes", ErrTooLarge, c.o.maxUncompressed)
	}
	return c.room(n)
}

// room returns an error if the disk is nearly full. It looks now and then.
func (c *Cache) room(n int64) error {
	const every = 16 << 20
	if n != 0 && (n < every || n%every >= 64<<10) {
		return nil
	}
	if free := c.o.free(c.layout); free >= 0 && free < c.o.minFree {
		return fmt.Errorf("%w: %d of %d bytes", errFull, free, c.o.minFree)
	}
	return nil
}

// filling fills the blob of a digest from the layer's origin.
func (l *layer) filling(h v1.Hash) config {
	cfg := l.c.writing(h.Algorithm, func(in *layout.Ingest, got v1.Hash, n int64) error {
		return l.c.commitBlob(in, blobFacts{digest: got, size: n, mediaType: l.mediaType(), claim: l.claimed(), origin: l.from.repo})
	})
	cfg.Size = l.size()
	cfg.Limit = l.c.allow
	cfg.Open = l.c.opening(l.inner.Compressed)
	if b, ok := l.inner.(*builtLayer); ok {
		cfg.Open = func(ctx context.Context) (io.ReadCloser, error) {
			return l.c.opening(func() (io.ReadCloser, error) { return b.fill(ctx) })(ctx)
		}
	}
	cfg.Check = l.c.checking(expect{digest: h, size: l.size()})
	return cfg
}

// fillingTar fills the tar of a diffID from a layer that has no other form.
func (l *layer) fillingTar(diffID v1.Hash) config {
	cfg := l.c.writing(diffID.Algorithm, func(in *layout.Ingest, got v1.Hash, n int64) error {
		return l.c.commitTar(in, tarFacts{diffID: got, size: n, mediaType: compression.Uncompressed(l.mediaType())})
	})
	cfg.Limit = l.c.allow
	cfg.Open = l.c.opening(l.inner.Uncompressed)
	cfg.Check = l.c.checking(expect{digest: diffID, size: -1})
	return cfg
}

// decompression makes the tar of a blob, from the cache or as it arrives.
func (l *layer) decompression(h v1.Hash, alg string) config {
	cfg := l.c.writing(alg, func(in *layout.Ingest, got v1.Hash, n int64) error {
		return l.c.commitTar(in, tarFacts{diffID: got, size: n, mediaType: compression.Uncompressed(l.mediaType()), digest: h})
	})
	cfg.Check = func(sum []byte, _ int64) error {
		if err := l.c.rotten(h, sumHash(alg, sum)); err != nil {
			return fmt.Errorf("%w: %w", fill.ErrAgain, err)
		}
		return nil
	}
	cfg.Slots = l.c.decompressSlots
	cfg.Lazy = true // what is opened and not read holds no slot, and leaves neither form behind
	cfg.Open = func(context.Context) (io.ReadCloser, error) {
		src, err := l.sound(h)
		if err != nil {
			return nil, err
		}
		l.c.count.decompressions.Add(1)
		rc := l.c.decompress(src, h.String())
		rc.corrupt = func() { l.c.refute(h) }
		return rc, nil
	}
	return cfg
}

// packing makes a compressed form of a tar with the configured codec.
func (c *Cache) packing(tar index.Entry) config {
	format := c.o.codec.Format
	cfg := c.writing("sha256", func(in *layout.Ingest, got v1.Hash, n int64) error {
		return c.commitBlob(in, blobFacts{
			digest: got, size: n, mediaType: compression.Compressed(tar.MediaType, format),
			codec: c.o.codec.String(), diffID: tar.Digest,
		})
	})
	cfg.Slots = c.decompressSlots
	cfg.Open = func(context.Context) (io.ReadCloser, error) { return c.compress(tar, c.o.codec) }
	return cfg
}

// recompress makes a blob again of its tar, if the cache made it once. It
// reports whether the blob is there now, and is the same.
func (c *Cache) recompress(e index.Entry) bool {
	settings, err := compression.ParseSettings(e.Codec)
	if err != nil || e.Pair != index.Verified || c.o.readOnly {
		return false
	}
	tar, ok := c.entry(e.DiffID)
	if !ok || !c.present(tar) {
		return false
	}
	key := fillKey{of: e.Digest, form: recompressed, alg: e.Digest.Algorithm}
	ref, _, err := c.fills.join(c.ctx, key, c.catalog.differs(e), func() config {
		cfg := c.writing(e.Digest.Algorithm, func(in *layout.Ingest, got v1.Hash, n int64) error {
			return c.commitBlob(in, blobFacts{digest: got, size: n, mediaType: e.MediaType, codec: e.Codec, diffID: e.DiffID})
		})
		cfg.Slots = c.decompressSlots
		cfg.Size = e.Size
		cfg.Open = func(context.Context) (io.ReadCloser, error) { return c.compress(tar, settings) }
		cfg.Check = expect{digest: e.Digest, size: e.Size}.checkSum
		return cfg
	})
	if errors.Is(err, errChanged) {
		return true
	}
	if err != nil {
		return false
	}
	defer ref.Leave()
	if err := ref.Wait(c.ctx); err != nil {
		c.o.log.Info("a blob cannot be made again of its tar", "digest", e.Digest, "err", err)
		return false
	}
	return true
}

// mediaType returns the layer's media type as far as it is known.
func (l *layer) mediaType() string {
	mt, err := l.MediaType()
	if err != nil {
		return ""
	}
	return string(mt)
}

// claimed returns the diffID that somebody claims for the layer's digest.
func (l *layer) claimed() v1.Hash {
	h := l.expectedDiffID()
	if h == (v1.Hash{}) && isUncompressed(l.inner) {
		h, _ = l.inner.DiffID() // all that such a layer knows by itself
	}
	if l.c.layout.Valid(h) {
		return h
	}
	return v1.Hash{}
}

// opening opens an origin to fill from.
func (c *Cache) opening(open func() (io.ReadCloser, error)) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) {
		c.count.fills.Add(1)
		rc, err := open()
		if err != nil {
			return nil, err
		}
		return c.counted(rc), nil
	}
}

// checking checks what an origin gave, and counts what is wrong.
func (c *Cache) checking(e expect) func(sum []byte, n int64) error {
	return func(sum []byte, n int64) error {
		err := e.checkSum(sum, n)
		if err != nil {
			c.count.mismatches.Add(1)
		}
		return err
	}
}

// counted counts what is read from an origin.
func (c *Cache) counted(rc io.ReadCloser) io.ReadCloser { return &countedReader{rc, c} }

type countedReader struct {
	io.ReadCloser
	c *Cache
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.c.count.bytesRead.Add(int64(n))
	return n, err
}

func (c *Cache) now() int64 { return c.o.clock().Unix() }
