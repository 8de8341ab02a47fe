package cache

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/index"
)

// Index returns the entries that have bytes, as they are now, as an image
// index: one descriptor for each blob, sorted by digest, with
// [ocicache.AnnotationDiffID] and [ocicache.AnnotationDigest]. It has
// Layer(v1.Hash), so remote.WriteIndex sends it to a registry that accepts
// layers in an index; not all do.
func (c *Cache) Index() (v1.ImageIndex, error) {
	if c.fills.isClosed() {
		return nil, fmt.Errorf("cache: index: %w", ErrClosed)
	}
	c.catchUp()
	s := &snapshot{c: c, entries: map[v1.Hash]index.Entry{}}
	m := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	for e := range c.catalog.clone().Entries() {
		if !c.present(e) {
			continue
		}
		s.entries[e.Digest] = e
		m.Manifests = append(m.Manifests, shared(e))
	}
	slices.SortFunc(m.Manifests, func(a, b v1.Descriptor) int {
		return strings.Compare(a.Digest.String(), b.Digest.String())
	})
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	s.raw = raw
	return s, nil
}

// shared returns the descriptor of an entry, with nothing local in it.
func shared(e index.Entry) v1.Descriptor {
	d := v1.Descriptor{MediaType: types.MediaType(e.MediaType), Size: e.Size, Digest: e.Digest, Annotations: map[string]string{}}
	if e.Pair == index.Verified || e.Pair == index.Claimed {
		d.Annotations[ocicache.AnnotationDiffID] = e.DiffID.String()
	}
	if e.Tar && e.Variant != (v1.Hash{}) {
		d.Annotations[ocicache.AnnotationDigest] = e.Variant.String()
	}
	return d
}

// snapshot is a v1.ImageIndex of blobs.
type snapshot struct {
	c       *Cache
	raw     []byte
	entries map[v1.Hash]index.Entry
}

func (s *snapshot) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }
func (s *snapshot) Digest() (v1.Hash, error)            { return partial.Digest(s) }
func (s *snapshot) Size() (int64, error)                { return partial.Size(s) }
func (s *snapshot) RawManifest() ([]byte, error)        { return s.raw, nil }

func (s *snapshot) IndexManifest() (*v1.IndexManifest, error) {
	return v1.ParseIndexManifest(bytes.NewReader(s.raw))
}

func (s *snapshot) Image(h v1.Hash) (v1.Image, error) {
	return nil, fmt.Errorf("cache: %s: the index of a cache holds no images", h)
}

func (s *snapshot) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return nil, fmt.Errorf("cache: %s: the index of a cache holds no indexes", h)
}

// Layer returns a blob as a layer: a tar too is sent as it is.
func (s *snapshot) Layer(h v1.Hash) (v1.Layer, error) {
	e, ok := s.entries[h]
	if !ok {
		return nil, fmt.Errorf("cache: %w", notFound(h))
	}
	if e.Tar && e.Pair == index.Unknown {
		return &tarBlob{s.c, e}, nil
	}
	return &layer{c: s.c, digest: h}, nil
}

// tarBlob is the tar of a layer as a blob of its own.
type tarBlob struct {
	c *Cache
	e index.Entry
}

func (t *tarBlob) Digest() (v1.Hash, error)            { return t.e.Digest, nil }
func (t *tarBlob) DiffID() (v1.Hash, error)            { return t.e.Digest, nil }
func (t *tarBlob) Size() (int64, error)                { return t.e.Size, nil }
func (t *tarBlob) MediaType() (types.MediaType, error) { return types.MediaType(t.e.MediaType), nil }

func (t *tarBlob) Compressed() (io.ReadCloser, error) {
	if t.c.fills.isClosed() {
		return nil, fmt.Errorf("cache: read: %w", ErrClosed)
	}
	if rc := t.c.openHit(t.e, nil); rc != nil {
		return rc, nil
	}
	return nil, fmt.Errorf("cache: %w", t.c.missing(t.e.Digest))
}

func (t *tarBlob) Uncompressed() (io.ReadCloser, error) { return t.Compressed() }
