package cache

import (
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/internal/fill"
)

// Compressed implements v1.Layer.
func (l *layer) Compressed() (io.ReadCloser, error) {
	return l.open(v1.Layer.Compressed, l.compressed, l.streamCompressed)
}

// open opens a form of the layer: through the cache if its digest is one, as
// a stream if it is not known yet, and past the cache if the cache does not
// know its algorithm.
func (l *layer) open(past formOf, known func(v1.Hash) (io.ReadCloser, error), streamed func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	if l.c.fills.isClosed() {
		return nil, fmt.Errorf("cache: read: %w", ErrClosed)
	}
	h, err := l.Digest()
	switch {
	case isStreaming(err), l.isStreamed():
		return streamed()
	case err != nil:
		return nil, err
	case l.c.layout.Valid(h):
		return known(h)
	case l.inner == nil:
		return nil, fmt.Errorf("cache: %w", notFound(h))
	}
	return past(l.inner)
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
			return nil, fmt.Errorf("cache: compressed: %w", l.c.missing(h))
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
	hit := l.c.openHit(e, l.compressedAgain())
	if hit == nil && l.c.recompress(e) {
		if e, ok = l.c.catalog.get(h); ok {
			hit = l.c.openHit(e, l.compressedAgain())
		}
	}
	if hit == nil {
		return nil, nil
	}
	if err := (expect{size: l.size()}).check(h, hit.blob.Size); err != nil {
		return nil, errors.Join(err, hit.Close())
	}
	return hit, nil
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
