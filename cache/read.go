package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/internal/fill"
)

// Compressed implements v1.Layer.
func (l *layer) Compressed() (io.ReadCloser, error) {
	if l.c.fills.isClosed() {
		return nil, fmt.Errorf("cache: read: %w", ErrClosed)
	}
	h, err := l.Digest()
	switch {
	case isStreaming(err):
		return l.streamed(false)
	case err != nil:
		return nil, err
	case !l.c.layout.Valid(h):
		return l.opaque(h)
	}
	return l.compressed(h)
}

// opaque passes a layer through whose digest is none that the cache knows.
func (l *layer) opaque(h v1.Hash) (io.ReadCloser, error) {
	if l.inner == nil {
		return nil, notFound(h)
	}
	return l.inner.Compressed()
}

// compressed returns the blob from the cache, or makes it of the tar, or
// fills it from the origin.
func (l *layer) compressed(h v1.Hash) (io.ReadCloser, error) {
	for {
		changed := l.c.catalog.watch(h)
		if rc, err := l.compressedHit(h); rc != nil || err != nil {
			return rc, err
		}
		if l.inner == nil {
			return nil, fmt.Errorf("cache: compressed: %w", notFound(h))
		}
		if l.c.o.readOnly {
			l.c.count.misses.Add(1)
			return l.compressedAgain()()
		}
		key := fillKey{of: h, form: compressed, alg: h.Algorithm}
		rc, err := l.c.read(key, changed, func() config { return l.filling(h) }, fill.Options{
			Again: l.compressedAgain(),
			Check: func(_ []byte, n int64) error { return expect{size: l.size()}.check(h, n) },
		})
		if !errors.Is(err, errChanged) {
			return rc, err
		}
	}
}

// compressedHit returns the blob if it is in the cache, or can be made of
// the tar there.
func (l *layer) compressedHit(h v1.Hash) (io.ReadCloser, error) {
	e, ok := l.c.entry(h)
	if !ok {
		return nil, nil
	}
	if l.from.desc != nil && l.from.desc.Size != e.Size && l.c.present(e) {
		return nil, &SizeMismatchError{Digest: h, Want: l.from.desc.Size, Got: e.Size}
	}
	if rc := l.c.openHit(e, l.compressedAgain()); rc != nil {
		return rc, nil
	}
	if !l.c.recompress(e) {
		return nil, nil
	}
	if e, ok = l.c.catalog.get(h); !ok {
		return nil, nil
	}
	return l.c.openHit(e, l.compressedAgain()), nil
}

// compressedAgain returns what reads the origin past the cache, verified;
// nil if there is no origin.
func (l *layer) compressedAgain() func() (io.ReadCloser, error) {
	if l.inner == nil {
		return nil
	}
	return func() (io.ReadCloser, error) {
		h, err := l.Digest()
		if err != nil {
			return nil, err
		}
		rc, err := l.inner.Compressed()
		if err != nil {
			return nil, err
		}
		return verified(l.c.counted(rc), expect{digest: h, size: l.size()}), nil
	}
}

// size returns how many bytes the manifest gives the layer, -1 if none does.
func (l *layer) size() int64 {
	if l.from.desc != nil {
		return l.from.desc.Size
	}
	return -1
}

// Uncompressed implements v1.Layer.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	if l.c.fills.isClosed() {
		return nil, fmt.Errorf("cache: read: %w", ErrClosed)
	}
	if l.inner != nil && isUncompressed(l.inner) {
		return l.tarOnly()
	}
	h, err := l.Digest()
	switch {
	case isStreaming(err):
		return l.streamed(true)
	case err != nil:
		return nil, err
	case !l.c.layout.Valid(h):
		if l.inner == nil {
			return nil, notFound(h)
		}
		return l.inner.Uncompressed()
	}
	return l.uncompressed(h)
}

// uncompressed returns the tar from the cache, or decompresses the blob,
// which is filled from the origin if need be.
func (l *layer) uncompressed(h v1.Hash) (io.ReadCloser, error) {
	if l.isOpaque(h) {
		return l.compressed(h)
	}
	want := l.expectedDiffID()
	if want == h {
		want = v1.Hash{} // not believed of what may be compressed
	}
	alg := "sha256"
	if l.c.layout.Valid(want) {
		alg = want.Algorithm
	}
	check := func(sum []byte, _ int64) error { return expect{digest: want, size: -1}.check(sumHash(alg, sum), -1) }
	again := func() (io.ReadCloser, error) { return l.decompressing(h, alg, check) }
	for {
		changed := l.c.catalog.watch(h, want)
		if rc, err := l.uncompressedHit(h, want); rc != nil || err != nil {
			return rc, err
		}
		if l.c.o.readOnly || !l.c.o.keepTar {
			return again()
		}
		key := fillKey{of: h, form: decompressed, alg: alg}
		rc, err := l.c.read(key, changed, func() config { return l.decompression(h, alg) }, fill.Options{Again: again, Check: check})
		if !errors.Is(err, errChanged) {
			return rc, err
		}
	}
}

// uncompressedHit returns the tar if it is in the cache: that of the diffID
// which the digest is verified to have, else that of the one it should have.
func (l *layer) uncompressedHit(h, want v1.Hash) (io.ReadCloser, error) {
	e, known := l.c.entry(h)
	diffID := want
	if known && e.Pair == index.Verified {
		diffID = e.DiffID
	}
	if want != (v1.Hash{}) && want.Algorithm == diffID.Algorithm && want != diffID {
		return nil, &DigestMismatchError{Want: want, Got: diffID}
	}
	if diffID != (v1.Hash{}) {
		if rc := l.openTar(diffID, h); rc != nil {
			return rc, nil
		}
	}
	if l.inner == nil && (!known || !l.c.readable(e)) {
		return nil, fmt.Errorf("cache: uncompressed: %w", notFound(h))
	}
	return nil, nil
}

// openTar opens the uncompressed form of digest h if it is in the cache.
func (l *layer) openTar(diffID, h v1.Hash) io.ReadCloser {
	tar, ok := l.c.entry(diffID)
	if !ok {
		return nil
	}
	return l.c.openHit(tar, func() (io.ReadCloser, error) {
		return l.decompressing(h, diffID.Algorithm, func(sum []byte, _ int64) error {
			return expect{digest: diffID, size: -1}.check(sumHash(diffID.Algorithm, sum), -1)
		})
	})
}

// decompressing decompresses for one reader, and keeps nothing but the pair.
func (l *layer) decompressing(h v1.Hash, alg string, check func(sum []byte, n int64) error) (io.ReadCloser, error) {
	src, err := l.compressed(h)
	if err != nil {
		return nil, err
	}
	l.c.count.decompressions.Add(1)
	return &verifier{ReadCloser: l.c.decompress(src), h: newHash(alg), size: -1, check: func(sum []byte, n int64) error {
		if err := check(sum, n); err != nil {
			return err
		}
		if !l.c.o.readOnly {
			l.c.recordPair(h, sumHash(alg, sum))
		}
		return nil
	}}, nil
}

// tarOnly returns the tar of a layer that has no compressed form but what is
// computed: its digest is not asked for.
func (l *layer) tarOnly() (io.ReadCloser, error) {
	diffID, err := l.inner.DiffID()
	if err != nil || !l.c.layout.Valid(diffID) {
		return l.inner.Uncompressed()
	}
	again := func() (io.ReadCloser, error) {
		rc, err := l.inner.Uncompressed()
		if err != nil {
			return nil, err
		}
		return verified(l.c.counted(rc), expect{digest: diffID, size: -1}), nil
	}
	for {
		changed := l.c.catalog.watch(diffID)
		if tar, ok := l.c.entry(diffID); ok {
			if rc := l.c.openHit(tar, again); rc != nil {
				return rc, nil
			}
		}
		if l.c.o.readOnly || !l.c.o.keepTar {
			l.c.count.misses.Add(1)
			return again()
		}
		key := fillKey{of: diffID, form: tarOf, alg: diffID.Algorithm}
		rc, err := l.c.read(key, changed, func() config { return l.fillingTar(diffID) }, fill.Options{Again: again})
		if !errors.Is(err, errChanged) {
			return rc, err
		}
	}
}

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
		err = ref.Opened()
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
func (c *Cache) decompress(src io.ReadCloser) *decompressor {
	return &decompressor{src: src, max: c.o.maxUncompressed}
}

// openHit opens the bytes of an entry. It returns nil if they are not there,
// or not what they should be: a miss. Again is what else the bytes can be had
// from, should reading fail.
func (c *Cache) openHit(e index.Entry, again func() (io.ReadCloser, error)) io.ReadCloser {
	b, err := c.openBlob(e)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.o.log.Warn("cannot read a blob", "digest", e.Digest, "err", err)
		}
		return nil
	}
	c.count.hits.Add(1)
	return &hit{c: c, blob: b, again: again}
}
