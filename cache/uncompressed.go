package cache

import (
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/internal/fill"
)

// Uncompressed implements v1.Layer.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	if l.inner != nil && isUncompressed(l.inner) {
		return l.tarOnly()
	}
	return l.open(v1.Layer.Uncompressed, l.uncompressed, l.streamUncompressed)
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
	check := expect{digest: want, size: -1}.checkSum
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

// uncompressedHit returns the tar if it is in the cache, and the digest is
// verified to have its diffID. What an image claims decides nothing: its blob
// is decompressed to see.
func (l *layer) uncompressedHit(h, want v1.Hash) (io.ReadCloser, error) {
	e, known := l.c.entry(h)
	if known && e.Pair == index.Verified && (want == v1.Hash{} || want.Algorithm == e.DiffID.Algorithm) {
		err := expect{digest: want, size: -1}.check(e.DiffID, -1)
		if err != nil && l.c.holdsPair(e) {
			return nil, err
		}
		if tar, ok := l.c.entry(e.DiffID); ok && err == nil {
			hit := l.c.openHit(tar, func() (io.ReadCloser, error) {
				return l.decompressing(h, e.DiffID.Algorithm, expect{digest: e.DiffID, size: -1}.checkSum)
			})
			if hit != nil {
				return hit, nil
			}
		}
	}
	if l.inner == nil && (!known || !l.c.readable(e)) {
		return nil, fmt.Errorf("cache: uncompressed: %w", l.c.missing(h))
	}
	return nil, nil
}

// decompressing decompresses for one reader, and keeps nothing but the pair.
func (l *layer) decompressing(h v1.Hash, alg string, check func(sum []byte, n int64) error) (io.ReadCloser, error) {
	src, err := l.sound(h)
	if err != nil {
		return nil, err
	}
	l.c.count.decompressions.Add(1)
	return &verifier{ReadCloser: l.c.decompress(src, h.String()), h: newHash(alg), size: -1, check: func(sum []byte, n int64) error {
		if err := l.c.rotten(h, sumHash(alg, sum)); err != nil {
			return err
		}
		if err := check(sum, n); err != nil {
			return err
		}
		if !l.c.o.readOnly {
			l.c.recordPair(h, sumHash(alg, sum))
		}
		return nil
	}}, nil
}

// sound opens the blob to decompress it. What comes out of it is believed, and
// recorded, if no pair was verified yet. So a blob that is there already is
// hashed first: it may have rotted without a sign.
func (l *layer) sound(h v1.Hash) (io.ReadCloser, error) {
	for {
		rc, err := l.compressed(h)
		hit, ok := rc.(*hit)
		if err != nil || !ok {
			return rc, err
		}
		if e, ok := l.c.catalog.get(h); ok && e.Pair == index.Verified {
			return hit, nil // and so what comes out is compared
		}
		err = l.c.recheck(h, hit.blob)
		if err == nil {
			return hit, nil
		}
		_ = hit.Close()
		if errors.Is(err, ErrCorrupt) {
			continue // it is no hit any more
		}
		l.c.fault(err)
		if again := l.compressedAgain(); again != nil {
			return again()
		}
		return nil, err
	}
}

// tarOnly returns the tar of a layer that has no compressed form but what is
// computed: its digest is not asked for.
func (l *layer) tarOnly() (io.ReadCloser, error) {
	if l.c.fills.isClosed() {
		return nil, fmt.Errorf("cache: read: %w", ErrClosed)
	}
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
