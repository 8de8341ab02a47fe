package cache

import (
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/internal/fill"
	"github.com/ocicache/ocicache/layout"
)

// streamCompressed reads a layer whose digest is known only after it was read,
// and which can be read only once, such as ggcr's stream.Layer. It is cached
// under the digest that it turns out to have. Readers that come meanwhile
// follow the same fill.
func (l *layer) streamCompressed() (io.ReadCloser, error) {
	if l.c.o.readOnly {
		return l.inner.Compressed()
	}
	ref, err := l.joinStream()
	if errors.Is(err, errChanged) {
		return l.Compressed() // it has just been cached
	}
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

// streamUncompressed decompresses for its reader what streamCompressed reads.
func (l *layer) streamUncompressed() (io.ReadCloser, error) {
	rc, err := l.streamCompressed()
	if err != nil {
		return nil, err
	}
	return l.c.decompress(rc, "streamed layer"), nil
}

// isStreamed reports whether the layer is being read as a stream. Its digest
// may be known by now; its blob is not there yet.
func (l *layer) isStreamed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stream == nil {
		return false
	}
	select {
	case <-l.stream.Ended():
		return false
	default:
		return true
	}
}

// joinStream joins the fill of the stream, or starts it. It returns
// errChanged if the fill has ended well meanwhile.
func (l *layer) joinStream() (*fill.Ref, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stream != nil {
		if ref := l.stream.Join(); ref != nil {
			return ref, nil
		}
		if l.digest != (v1.Hash{}) {
			<-l.stream.Ended() // it is over but for letting go of its file
			return nil, errChanged
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
		f := blobFacts{digest: got, size: n, mediaType: l.mediaType(), origin: l.from.repo}
		if h, err := l.inner.DiffID(); err == nil { // the layer was read: it knows
			f.claim = h
		}
		return l.c.commitBlob(in, f)
	})
	cfg.Once = true
	cfg.Limit = l.c.allow
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
