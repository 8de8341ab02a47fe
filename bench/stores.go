package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/errdef"

	"github.com/ocicache/ocicache/cache"
)

// A store is an OCI image layout that small layers are kept in.
type store interface {
	put(v1.Layer) error
	open(v1.Layer) (io.ReadCloser, error) // isAbsent if it is not there
	remove(v1.Layer) error
	name(v1.Layer) (v1.Hash, error) // that index.json lists it by
	flush() error
	close() error
}

// openStore opens a directory as a user of each kind would, and makes it if
// there is none.
func openStore(kind, dir string) (store, error) {
	switch kind {
	case "ours":
		c, err := cache.Open(dir)
		return oursStore{c}, err
	case "layout":
		p, err := layout.FromPath(dir)
		if errors.Is(err, fs.ErrNotExist) {
			p, err = layout.Write(dir, empty.Index)
		}
		return layoutStore{path: p}, err
	}
	s, err := oci.New(dir)
	return orasStore{s: s}, err
}

// isAbsent reports whether an error of open says that the layer is not there.
func isAbsent(err error) bool {
	return errors.Is(err, cache.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errdef.ErrNotFound)
}

// listed returns what an index.json lists. One that is broken lists nothing.
func listed(dir string) map[v1.Hash]bool {
	digests := map[v1.Hash]bool{}
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return digests
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return digests
	}
	for _, d := range m.Manifests {
		digests[d.Digest] = true
	}
	return digests
}

// oursStore is a cache: a layer is put by reading it.
type oursStore struct{ c *cache.Cache }

func (s oursStore) put(l v1.Layer) error             { return through(s.c)(l) }
func (s oursStore) name(l v1.Layer) (v1.Hash, error) { return l.Digest() }
func (s oursStore) flush() error                     { return s.c.Flush() }
func (s oursStore) close() error                     { return s.c.Close() }

func (s oursStore) open(l v1.Layer) (io.ReadCloser, error) {
	h, err := l.Digest()
	if err != nil {
		return nil, err
	}
	cached, err := s.c.Get(h)
	if err != nil {
		return nil, err
	}
	return cached.Compressed()
}

func (s oursStore) remove(l v1.Layer) error {
	h, err := l.Digest()
	if err != nil {
		return err
	}
	return s.c.Delete(h)
}

// unbuffered is what has nothing to flush or to close.
type unbuffered struct{}

func (unbuffered) flush() error { return nil }
func (unbuffered) close() error { return nil }

// layoutStore is go-containerregistry's layout, with an image for each layer.
type layoutStore struct {
	unbuffered
	path layout.Path
}

func imageOf(l v1.Layer) (v1.Image, error) { return mutate.AppendLayers(empty.Image, l) }

func (s layoutStore) put(l v1.Layer) error {
	img, err := imageOf(l)
	if err != nil {
		return err
	}
	return s.path.AppendImage(img)
}

func (s layoutStore) name(l v1.Layer) (v1.Hash, error) {
	img, err := imageOf(l)
	if err != nil {
		return v1.Hash{}, err
	}
	return img.Digest()
}

func (s layoutStore) open(l v1.Layer) (io.ReadCloser, error) {
	name, err := s.name(l)
	if err != nil {
		return nil, err
	}
	idx, err := s.path.ImageIndex()
	if err != nil {
		return nil, err
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		if d.Digest == name {
			return openOnly(idx, name)
		}
	}
	return nil, fmt.Errorf("%s is not listed: %w", name, fs.ErrNotExist)
}

// openOnly opens the only layer of an image.
func openOnly(idx v1.ImageIndex, image v1.Hash) (io.ReadCloser, error) {
	img, err := idx.Image(image)
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	return layers[0].Compressed()
}

func (s layoutStore) remove(l v1.Layer) error {
	name, err := s.name(l)
	if err != nil {
		return err
	}
	return s.path.RemoveDescriptors(match.Digests(name))
}

// orasStore is oras-go's store: what is tagged is listed.
type orasStore struct {
	unbuffered
	s *oci.Store
}

func (s orasStore) name(l v1.Layer) (v1.Hash, error) { return l.Digest() }

func (s orasStore) put(l v1.Layer) error {
	d, err := descriptorOf(l)
	if err != nil {
		return err
	}
	rc, err := l.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	if err := s.s.Push(context.Background(), d, rc); err != nil {
		return err
	}
	return s.s.Tag(context.Background(), d, d.Digest.Encoded())
}

func (s orasStore) open(l v1.Layer) (io.ReadCloser, error) {
	d, err := descriptorOf(l)
	if err != nil {
		return nil, err
	}
	return s.s.Fetch(context.Background(), d)
}

func (s orasStore) remove(l v1.Layer) error {
	d, err := descriptorOf(l)
	if err != nil {
		return err
	}
	return s.s.Delete(context.Background(), d)
}

func descriptorOf(l v1.Layer) (ocispec.Descriptor, error) {
	h, err := l.Digest()
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest(h.String()), Size: 1024}, err
}
