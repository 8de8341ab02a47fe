package cache

import (
	"fmt"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/internal/fill"
)

// Layer wraps a layer: its bytes come from the cache if they are there, else
// through it. Nothing is read or asked before the result is used. A
// *remote.MountableLayer stays one.
func (c *Cache) Layer(l v1.Layer) v1.Layer { return c.wrap(l, origin{}) }

// Put is [Cache.Layer]. It never reads the layer's bytes, and never asks for
// its digest or diffID.
func (c *Cache) Put(l v1.Layer) (v1.Layer, error) {
	if c.fills.isClosed() {
		return nil, fmt.Errorf("cache: put: %w", ErrClosed)
	}
	return c.Layer(l), nil
}

// origin is what is known of a layer beside itself.
type origin struct {
	desc  *v1.Descriptor // as its image's manifest has it; may be nil
	claim func() v1.Hash // the diffID that its image's config claims; may be nil
	repo  string         // that it is in; may be ""
}

func (c *Cache) wrap(l v1.Layer, from origin) v1.Layer {
	switch l := l.(type) {
	case *remote.MountableLayer:
		from.repo = l.Reference.Context().Name()
		return &remote.MountableLayer{Layer: c.wrap(l.Layer, from), Reference: l.Reference}
	case *layer:
		if l.c == c {
			return l
		}
	}
	if from.desc == nil {
		from.desc = descriptor(l)
	}
	return &layer{c: c, inner: l, from: from}
}

// A layer is a v1.Layer that is known by its digest, or will be once its
// inner layer was asked or read.
type layer struct {
	c     *Cache
	inner v1.Layer // nil: the cache is all there is
	from  origin

	mu     sync.Mutex
	digest v1.Hash    // guarded by mu; zero while not known
	diffID v1.Hash    // guarded by mu; zero while not asked for
	stream *fill.Fill // guarded by mu: of an inner layer that does not know its digest yet
}

// Digest implements v1.Layer.
func (l *layer) Digest() (v1.Hash, error) {
	l.mu.Lock()
	h := l.digest
	l.mu.Unlock()
	if h != (v1.Hash{}) {
		return h, nil
	}
	if l.from.desc != nil {
		h = l.from.desc.Digest
	} else {
		var err error
		if h, err = l.inner.Digest(); err != nil {
			return v1.Hash{}, err
		}
	}
	l.setDigest(h)
	return h, nil
}

func (l *layer) setDigest(h v1.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.digest = h
}

// DiffID implements v1.Layer. What the cache verified or the image's config
// says costs nothing. Else a layer that can only find it by being read is
// read through the cache.
func (l *layer) DiffID() (v1.Hash, error) {
	if l.inner != nil && isUncompressed(l.inner) {
		return l.innerDiffID() // all that it knows by itself
	}
	if e, ok := l.entry(); ok && e.Pair == index.Verified {
		return e.DiffID, nil
	}
	if h := l.expectedDiffID(); h != (v1.Hash{}) {
		return h, nil
	}
	if l.inner != nil && knowsDiffID(l.inner) {
		return l.innerDiffID()
	}
	if h := l.recordedDiffID(); h != (v1.Hash{}) {
		return h, nil
	}
	rc, err := l.Uncompressed()
	if err != nil {
		return v1.Hash{}, err
	}
	defer rc.Close()
	h := newHash("sha256")
	if _, err := io.Copy(h, rc); err != nil {
		return v1.Hash{}, err
	}
	diffID := sumHash("sha256", h.Sum(nil))
	l.setDiffID(diffID)
	return diffID, nil
}

func (l *layer) innerDiffID() (v1.Hash, error) {
	h, err := l.inner.DiffID()
	if err == nil {
		l.setDiffID(h)
	}
	return h, err
}

func (l *layer) setDiffID(h v1.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.diffID = h
}

// expectedDiffID returns the diffID that an uncompressed read must have:
// what was once answered, or what the image's config claims. Zero is none.
func (l *layer) expectedDiffID() v1.Hash {
	l.mu.Lock()
	h := l.diffID
	l.mu.Unlock()
	if h == (v1.Hash{}) && l.from.claim != nil {
		h = l.from.claim()
	}
	return h
}

// isOpaque reports whether a layer is of a type that the cache knows nothing
// of, and says of itself that it has but one form.
func (l *layer) isOpaque(digest v1.Hash) bool {
	if compression.IsLayer(l.mediaType()) {
		return false
	}
	diffID := l.expectedDiffID()
	if diffID == (v1.Hash{}) && l.inner != nil {
		if _, extended := native(l.inner); !extended { // ggcr's partial decompresses
			diffID, _ = l.inner.DiffID()
		}
	}
	return diffID == digest
}

// recordedDiffID returns what the cache knows, or was told, of the digest.
func (l *layer) recordedDiffID() v1.Hash {
	if e, ok := l.entry(); ok && e.Pair != index.Refuted {
		return e.DiffID
	}
	return v1.Hash{}
}

// entry returns the cache's entry of the layer, if it has one and the digest
// is known.
func (l *layer) entry() (index.Entry, bool) {
	h, err := l.Digest()
	if err != nil {
		return index.Entry{}, false
	}
	return l.c.entry(h)
}

// Size implements v1.Layer.
func (l *layer) Size() (int64, error) {
	if l.from.desc != nil {
		return l.from.desc.Size, nil
	}
	if e, ok := l.entry(); ok {
		if size, _, err := l.c.layout.StatBlob(e.Digest); err == nil {
			return size, nil // a read-only cache cannot correct what is recorded
		}
		if l.inner == nil || isMeasured(e) {
			return e.Size, nil
		}
	}
	if l.inner == nil {
		return 0, fmt.Errorf("cache: size: %w", notFound(l.digest))
	}
	return l.inner.Size()
}

// MediaType implements v1.Layer.
func (l *layer) MediaType() (types.MediaType, error) {
	if l.from.desc != nil {
		return l.from.desc.MediaType, nil
	}
	if l.inner != nil {
		return l.inner.MediaType()
	}
	e, ok := l.entry()
	if !ok {
		return "", fmt.Errorf("cache: media type: %w", notFound(l.digest))
	}
	return types.MediaType(e.MediaType), nil
}

// Descriptor is what partial.Descriptor asks for.
func (l *layer) Descriptor() (*v1.Descriptor, error) {
	if l.from.desc != nil {
		return l.from.desc.DeepCopy(), nil
	}
	if l.inner != nil {
		if _, ok := l.entry(); !ok {
			return partial.Descriptor(l.inner)
		}
	}
	digest, err := l.Digest()
	if err != nil {
		return nil, err
	}
	size, err := l.Size()
	if err != nil {
		return nil, err
	}
	mediaType, err := l.MediaType()
	if err != nil {
		return nil, err
	}
	return &v1.Descriptor{Digest: digest, Size: size, MediaType: mediaType}, nil
}

// Exists is what partial.Exists asks for. It opens nothing.
func (l *layer) Exists() (bool, error) {
	if l.inner != nil && isUncompressed(l.inner) {
		return partial.Exists(l.inner) // its digest costs more
	}
	if e, ok := l.entry(); ok && l.c.readable(e) {
		return true, nil
	}
	if l.inner == nil {
		return false, nil
	}
	return partial.Exists(l.inner)
}
