package cache

import (
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
)

// A packedLayer is a layer that is known only as a tar, in a cache that
// cannot keep a compressed form: it is compressed for each reader anew.
type packedLayer struct {
	c      *Cache
	tar    index.Entry
	digest v1.Hash
	size   int64
}

// packUnkept compresses a tar to learn what comes out.
func (c *Cache) packUnkept(tar index.Entry) (*packedLayer, error) {
	rc, err := c.compress(tar, c.o.codec)
	if err != nil {
		return nil, err
	}
	p := &packedLayer{c: c, tar: tar}
	return p, p.measure(rc)
}

// measure reads the compressed form to learn its digest and size.
func (p *packedLayer) measure(rc io.ReadCloser) error {
	defer rc.Close()
	h := newHash("sha256")
	n, err := io.Copy(h, rc)
	if err != nil {
		return fmt.Errorf("compress %s: %w", p.tar.Digest, err)
	}
	p.digest, p.size = sumHash("sha256", h.Sum(nil)), n
	return nil
}

func (p *packedLayer) Digest() (v1.Hash, error) { return p.digest, nil }
func (p *packedLayer) DiffID() (v1.Hash, error) { return p.tar.Digest, nil }
func (p *packedLayer) Size() (int64, error)     { return p.size, nil }

func (p *packedLayer) MediaType() (types.MediaType, error) {
	return types.MediaType(compression.Compressed(p.tar.MediaType, p.c.o.codec.Format)), nil
}

func (p *packedLayer) Compressed() (io.ReadCloser, error) {
	if p.c.fills.isClosed() {
		return nil, fmt.Errorf("cache: read: %w", ErrClosed)
	}
	rc, err := p.c.compress(p.tar, p.c.o.codec)
	if err != nil {
		return nil, fmt.Errorf("cache: compressed: %w", err)
	}
	return verified(rc, expect{digest: p.digest, size: p.size}), nil
}

func (p *packedLayer) Uncompressed() (io.ReadCloser, error) {
	return (&tarBlob{p.c, p.tar}).Compressed()
}
