package cache

import (
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/internal/fill"
	"github.com/ocicache/ocicache/layout"
)

// streamed reads a layer whose digest is known only after it was read, and
// which can be read only once, such as ggcr's stream.Layer. It is cached
// under the digest that it turns out to have. Readers that come meanwhile
// follow the same fill.
func (l *layer) streamed(uncompressed bool) (io.ReadCloser, error) {
	rc, err := l.streamCompressed()
	if err != nil || !uncompressed {
		return rc, err
	}
	return l.c.decompress(rc, "streamed layer"), nil
}

func (l *layer) streamCompressed() (io.ReadCloser, error) {
	if l.c.o.readOnly {
		return l.inner.Compressed()
	}
	ref, err := l.joinStream()
	if err != nil {
		return nil, err
	}
	if err := ref.Opened(false); err != nil {
		ref.Leave()
		var oerr *fill.OriginError
		if errors.As(err, &oerr) {
			return nil, oerr.Err
		}
		return l.inner.Compressed() // the cache cannot be written, and nothing was read yet
	}
	l.c.count.misses.Add(1)
	return fill.NewReader(ref, fill.Options{Own: true}), nil
}

func (l *layer) joinStream() (*fill.Ref, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stream != nil {
		if ref := l.stream.Join(); ref != nil {
			return ref, nil
		}
	}
	f, ref, err := l.c.fills.start(l.c.ctx, l.streaming())
	if err == nil {
		l.stream = f
	}
	return ref, err
}

// streaming fills the blob of a digest that will be known in the end.
func (l *layer) streaming() config {
	const alg = "sha256"
	cfg := l.c.writing(alg, func(in *layout.Ingest, got v1.Hash, n int64) error {
		f := blobFacts{digest: got, size: n, mediaType: l.mediaType()}
		if h, err := l.inner.DiffID(); err == nil { // the layer was read: it knows
			f.claim = h
		}
		return l.c.commitBlob(in, f)
	})
	cfg.Once = true
	cfg.Open = l.c.opening(l.inner.Compressed)
	cfg.Check = func(sum []byte, _ int64) error {
		got := sumHash(alg, sum)
		if want, err := l.inner.Digest(); err == nil && want != got {
			return &DigestMismatchError{Want: want, Got: got}
		}
		l.setDigest(got)
		return nil
	}
	return cfg
}
