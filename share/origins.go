package share

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// Origins returns what [cache.WithOrigins] takes: the layers of repositories in
// registries, which ask for credentials as they are read. A blob that a
// repository does not have is [cache.ErrNotFound]; any other error is the
// registry's own.
func Origins(opts ...Option) cache.Origins {
	h := &homes{o: makeOptions(opts), m: map[string]*registry{}}
	return h.layer
}

// maxHomes bounds how many repositories' credentials are kept.
const maxHomes = 64

// homes are repositories, by the names that a cache has recorded.
type homes struct {
	o options

	mu sync.Mutex           // guards m
	m  map[string]*registry // at most maxHomes
}

func (h *homes) layer(repository string, d v1.Descriptor) (v1.Layer, error) {
	r, err := h.registry(repository)
	if err != nil {
		return nil, fmt.Errorf("share: origin of %s: %w", d.Digest, err)
	}
	return r.layer(d)
}

// registry returns the registry of a repository; the same one again, so that
// it need not authenticate for each layer.
func (h *homes) registry(repository string) (*registry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r, ok := h.m[repository]; ok {
		return r, nil
	}
	repo, err := name.NewRepository(repository)
	if err != nil {
		return nil, err
	}
	r, err := connect(repo, h.o)
	if err != nil {
		return nil, err
	}
	for other := range h.m {
		if len(h.m) < maxHomes {
			break
		}
		delete(h.m, other) // any; who has it goes on
	}
	h.m[repository] = r
	return r, nil
}

// layer returns the layer that a descriptor says is in the repository. Nothing
// is asked before it is read.
func (r *registry) layer(d v1.Descriptor) (v1.Layer, error) {
	return partial.CompressedToLayer(&remoteLayer{registry: r, d: d})
}

// A remoteLayer is a layer in a repository. It is no Descriptor, which its bytes
// would be held to: its size is hearsay.
type remoteLayer struct {
	registry *registry
	d        v1.Descriptor
}

func (l *remoteLayer) Digest() (v1.Hash, error)            { return l.d.Digest, nil }
func (l *remoteLayer) Size() (int64, error)                { return l.d.Size, nil }
func (l *remoteLayer) MediaType() (types.MediaType, error) { return l.d.MediaType, nil }
func (l *remoteLayer) Exists() (bool, error)               { return l.registry.has(context.Background(), l.d.Digest) }

// Compressed implements partial.CompressedLayer. What is read is checked by
// who reads it.
func (l *remoteLayer) Compressed() (io.ReadCloser, error) {
	inner, err := l.registry.puller.Layer(context.Background(), l.registry.repo.Digest(l.d.Digest.String()))
	if err != nil {
		return nil, redact(err)
	}
	rc, err := inner.Compressed()
	if isNotFound(err) {
		return nil, fmt.Errorf("%w: %w", cache.ErrNotFound, redact(err))
	}
	if err != nil {
		return nil, redact(err)
	}
	return &remoteBlob{ReadCloser: rc, left: l.d.Size}, nil
}

// A remoteBlob is a blob as it is read. If all of it came, and still an error,
// the repository has something else under its digest.
type remoteBlob struct {
	io.ReadCloser
	left int64
}

func (b *remoteBlob) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if err != nil && err != io.EOF && b.left <= 0 {
		err = fmt.Errorf("%w: %w", cache.ErrNotFound, err)
	}
	return n, err
}
