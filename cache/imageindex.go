package cache

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// ImageIndex wraps an image index: the layers of the images in it, and in
// the indexes in it, are read through the cache. An index that has
// Layer(v1.Hash) keeps it, through the cache too.
func (c *Cache) ImageIndex(idx v1.ImageIndex) v1.ImageIndex {
	switch idx := idx.(type) {
	case *imageIndex:
		if idx.c == c {
			return idx
		}
	case *layerIndex:
		if idx.c == c {
			return idx
		}
	}
	wrapped := &imageIndex{inner: idx, c: c}
	if wl, ok := idx.(withLayer); ok {
		return &layerIndex{imageIndex: wrapped, layers: wl}
	}
	return wrapped
}

type withLayer interface {
	Layer(v1.Hash) (v1.Layer, error)
}

type imageIndex struct {
	inner
	c *Cache
}

// inner lets the index be embedded: its own name is one of its methods.
type inner = v1.ImageIndex

// Image implements v1.ImageIndex.
func (i *imageIndex) Image(h v1.Hash) (v1.Image, error) {
	img, err := i.inner.Image(h)
	if err != nil {
		return nil, err
	}
	return i.c.Image(img), nil
}

// ImageIndex implements v1.ImageIndex.
func (i *imageIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	idx, err := i.inner.ImageIndex(h)
	if err != nil {
		return nil, err
	}
	return i.c.ImageIndex(idx), nil
}

// Manifests is what partial.Manifests asks for.
func (i *imageIndex) Manifests() ([]partial.Describable, error) {
	children, err := partial.Manifests(i.inner)
	if err != nil {
		return nil, err
	}
	for n, child := range children {
		switch child := child.(type) {
		case v1.Image:
			children[n] = i.c.Image(child)
		case v1.ImageIndex:
			children[n] = i.c.ImageIndex(child)
		case v1.Layer:
			children[n] = i.c.Layer(child)
		}
	}
	return children, nil
}

// Descriptor is what partial.Descriptor asks for.
func (i *imageIndex) Descriptor() (*v1.Descriptor, error) { return partial.Descriptor(i.inner) }

// layerIndex is an index that has layers of its own.
type layerIndex struct {
	*imageIndex
	layers withLayer
}

// Layer returns the layer of a digest in the index.
func (i *layerIndex) Layer(h v1.Hash) (v1.Layer, error) {
	l, err := i.layers.Layer(h)
	if err != nil {
		return nil, err
	}
	return i.c.Layer(l), nil
}
