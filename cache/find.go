package cache

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/layout"
)

// A found is a layer's blob that is in a directory.
type found struct {
	in        *layout.Layout
	digest    v1.Hash
	size      int64 // in bytes
	mediaType types.MediaType
	claim     v1.Hash // the diffID that it is claimed to have; may be zero
	tar       bool    // it is the uncompressed form of a layer that has another
}

// finds is what there is in a directory.
type finds struct {
	c      *Cache
	seen   map[string]bool // digests
	layers []found
	broken []Adoption
	images int // manifests that have layers
	absent int // blobs that are named, and not there
}

// find returns the layers in a cache's directory: those of other tools' images,
// those that they list by themselves, and the cache's own.
func find(ctx context.Context, c *Cache) *finds {
	f := &finds{c: c, seen: map[string]bool{}}
	for _, raw := range c.catalog.foreign() {
		if err := json.Unmarshal(raw, new(link)); err != nil { // walk leaves it out
			f.fail(link{}, errNoDescriptor)
		}
	}
	c.walk(func(l link, m manifest, err error) (more bool) {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.absent++
		case err != nil:
			f.fail(l, err)
		case len(m.Layers) > 0:
			f.image(m)
		case l.isManifest && !isDigest(l.Digest):
			f.add(l, found{}) // which fails
		case l.isManifest && saysNothing(l, m):
			f.fail(l, errNoManifest)
		case compression.IsLayer(string(l.MediaType)):
			f.add(l, found{})
		}
		return ctx.Err() == nil
	})
	for e := range c.catalog.clone().Entries() {
		if there, _ := c.isThere(e.Variant); there && e.Tar { // of which it can be made
			continue
		}
		f.add(link{MediaType: types.MediaType(e.MediaType), Digest: e.Digest.String(), Size: e.Size}, found{claim: e.DiffID, tar: e.Tar})
	}
	return f
}

// isDigest reports whether s can be a blob's.
func isDigest(s string) bool {
	_, err := v1.NewHash(s)
	return err == nil
}

var (
	errNoDescriptor = errors.New("index.json lists what is no descriptor")
	errNoManifest   = errors.New("the manifest cannot be read: it names no blobs")
)

// saysNothing reports whether what should be an image's manifest or an index
// is neither. An index may be empty.
func saysNothing(l link, m manifest) bool {
	return (l.MediaType.IsImage() || l.MediaType.IsIndex()) && len(m.links()) == 0 && m.Manifests == nil
}

func (f *finds) fail(l link, err error) {
	f.broken = append(f.broken, Adoption{Digest: l.Digest, Size: l.Size, Err: err})
}

// image adds an image's layers. Their diffIDs stand in its config.
func (f *finds) image(m manifest) {
	f.images++
	claims := f.c.claims(m)
	for n, l := range m.Layers {
		f.add(l, found{claim: claims[n]})
	}
}

// add adds a blob if it is there, once.
func (f *finds) add(l link, as found) {
	if f.seen[l.Digest] {
		return
	}
	f.seen[l.Digest] = true
	h, err := v1.NewHash(l.Digest)
	if err == nil {
		as.size, _, err = f.c.layout.StatBlob(h) // the digest decides whether it is the layer, whatever one image says of its size
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.absent++
	case err != nil:
		f.fail(l, err)
	default:
		as.in, as.digest, as.mediaType = f.c.layout, h, l.MediaType
		f.layers = append(f.layers, as)
	}
}

// claims returns the diffIDs that an image's config gives its layers, zero
// ones if it gives none.
func (c *Cache) claims(m manifest) []v1.Hash {
	none := make([]v1.Hash, len(m.Layers))
	h, err := v1.NewHash(m.Config.Digest)
	if err != nil {
		return none
	}
	b, err := c.layout.Blob(h)
	if err != nil {
		return none
	}
	defer b.Close()
	cf, err := v1.ParseConfigFile(io.NewSectionReader(b, 0, min(b.Size, maxManifest)))
	if err != nil || len(cf.RootFS.DiffIDs) != len(none) {
		return none
	}
	return cf.RootFS.DiffIDs
}

// layer returns the layer that the blob is of.
func (f found) layer() (l v1.Layer) {
	if f.tar {
		l, _ = partial.UncompressedToLayer(tarCore{f}) // which never fails
	} else {
		l, _ = partial.CompressedToLayer(blobCore{f}) // likewise
	}
	return l
}

// form returns which form the blob is.
func (f found) form() formOf {
	if f.tar {
		return v1.Layer.Uncompressed
	}
	return v1.Layer.Compressed
}

func (f found) origin() origin {
	if f.tar {
		return origin{}
	}
	return origin{
		desc:  &v1.Descriptor{MediaType: f.mediaType, Size: f.size, Digest: f.digest},
		claim: func() v1.Hash { return f.claim },
	}
}

func (f found) open() (io.ReadCloser, error) {
	b, err := f.in.Blob(f.digest)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// blobCore is a partial.CompressedLayer.
type blobCore struct{ found }

func (b blobCore) Digest() (v1.Hash, error)            { return b.digest, nil }
func (b blobCore) Size() (int64, error)                { return b.size, nil }
func (b blobCore) MediaType() (types.MediaType, error) { return b.mediaType, nil }
func (b blobCore) Compressed() (io.ReadCloser, error)  { return b.open() }

// tarCore is a partial.UncompressedLayer.
type tarCore struct{ found }

func (t tarCore) DiffID() (v1.Hash, error)             { return t.digest, nil }
func (t tarCore) MediaType() (types.MediaType, error)  { return t.mediaType, nil }
func (t tarCore) Uncompressed() (io.ReadCloser, error) { return t.open() }
