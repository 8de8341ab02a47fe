package cache

import (
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// Image wraps an image: its layers are read through the cache. Its manifest
// and config stay the image's own. The diffIDs in the config are taken as
// claims; reading a layer gets the config, once per image, to know them.
func (c *Cache) Image(img v1.Image) v1.Image {
	if i, ok := img.(*image); ok && i.c == c {
		return i
	}
	return &image{Image: img, c: c}
}

type image struct {
	v1.Image
	c *Cache

	mu      sync.Mutex
	claims  []v1.Hash     // guarded by mu: of the layers in order; nil until known
	getting chan struct{} // guarded by mu: closed when the config was got or not; nil if nobody gets it
}

// Layers implements v1.Image.
func (i *image) Layers() ([]v1.Layer, error) {
	inner, err := i.Image.Layers()
	if err != nil {
		return nil, err
	}
	var m *v1.Manifest
	layers := make([]v1.Layer, len(inner))
	for n, l := range inner {
		if m == nil && !isUncompressed(l) { // an image of uncompressed layers would compress them all to tell
			if m, err = i.Manifest(); err != nil {
				m = &v1.Manifest{} // layers whose digests are not known yet have none
			}
		}
		layers[n] = i.c.wrap(l, i.origin(m, l, n))
	}
	return layers, nil
}

// origin returns what the manifest and the config say of the n-th layer.
func (i *image) origin(m *v1.Manifest, l v1.Layer, n int) origin {
	if m == nil || n >= len(m.Layers) || isUncompressed(l) {
		return origin{}
	}
	return origin{desc: &m.Layers[n], claim: func() v1.Hash { return i.claim(n) }}
}

// claimPatience is how long a read waits for the image's config, which it
// could do without.
const claimPatience = 5 * time.Second

// claim returns the diffID that the config gives the n-th layer, zero if it
// gives none, as of an artifact's, or cannot be had.
func (i *image) claim(n int) v1.Hash {
	done := i.getClaims()
	select {
	case <-done: // it is there, save the first time
	default:
		select {
		case <-done:
		case <-time.After(claimPatience):
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if n >= len(i.claims) {
		return v1.Hash{}
	}
	return i.claims[n]
}

// getClaims gets the config, over the network the first time. If that fails
// it is tried again the next time.
func (i *image) getClaims() (done <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.getting != nil {
		return i.getting
	}
	got := make(chan struct{})
	i.getting = got
	go func() {
		defer close(got)
		claims := i.readClaims()
		i.mu.Lock()
		defer i.mu.Unlock()
		i.claims = claims
		if claims == nil {
			i.getting = nil
		}
	}()
	return got
}

// readClaims returns the diffIDs in the config, none if they do not fit the
// layers, nil if the config cannot be had.
func (i *image) readClaims() []v1.Hash {
	cf, err := i.ConfigFile()
	if err != nil {
		return nil
	}
	if m, err := i.Manifest(); err == nil && len(m.Layers) == len(cf.RootFS.DiffIDs) {
		return cf.RootFS.DiffIDs
	}
	return []v1.Hash{}
}

// LayerByDigest implements v1.Image.
func (i *image) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := i.Image.LayerByDigest(h)
	if err != nil {
		return nil, err
	}
	if m, err := i.Manifest(); err == nil && m.Config.Digest == h {
		return l, nil // the config stays the image's own
	}
	return i.c.wrap(l, i.find(l, func(d v1.Hash, _ int) bool { return d == h })), nil
}

// LayerByDiffID implements v1.Image.
func (i *image) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	l, err := i.Image.LayerByDiffID(h)
	if err != nil {
		return nil, err
	}
	return i.c.wrap(l, i.find(l, func(_ v1.Hash, n int) bool { return i.claim(n) == h })), nil
}

// find is origin for the first layer that is it, by its digest and its place.
func (i *image) find(l v1.Layer, is func(digest v1.Hash, n int) bool) origin {
	if isUncompressed(l) {
		return origin{}
	}
	m, err := i.Manifest()
	if err != nil {
		return origin{}
	}
	for n, desc := range m.Layers {
		if is(desc.Digest, n) {
			return i.origin(m, l, n)
		}
	}
	return origin{}
}

// ConfigLayer is what partial.ConfigLayer asks for.
func (i *image) ConfigLayer() (v1.Layer, error) { return partial.ConfigLayer(i.Image) }

// Descriptor is what partial.Descriptor asks for.
func (i *image) Descriptor() (*v1.Descriptor, error) { return partial.Descriptor(i.Image) }

// ArtifactType is what partial.ArtifactType asks for.
func (i *image) ArtifactType() (string, error) { return partial.ArtifactType(i.Image) }
