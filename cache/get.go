package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/index"
)

// Get returns the layer of a digest or a diffID, in a time that does not
// depend on the layer's size or the number of entries, save that a blob which
// changed on disk is hashed first. Where a hash is both, the digest wins. It
// is [ErrNotFound] if the layer's bytes cannot be had from the cache alone,
// and [ErrClosed] after Close.
func (c *Cache) Get(h v1.Hash) (v1.Layer, error) {
	if c.fills.isClosed() {
		return nil, fmt.Errorf("cache: get %s: %w", h, ErrClosed)
	}
	if l := c.get(h); l != nil {
		return l, nil
	}
	c.catchUp() // what is known may be out of date
	if l := c.get(h); l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("cache: get: %w", notFound(h))
}

func (c *Cache) get(h v1.Hash) v1.Layer {
	e, ok := c.catalog.get(h)
	if ok && (!e.Tar || e.Pair != index.Unknown) && c.obtainable(e) {
		return c.known(e, v1.Hash{})
	}
	if ok && e.Tar && c.present(e) {
		return &diffLayer{c: c, diffID: h}
	}
	for _, v := range c.catalog.variants(h) {
		if v.Digest != h && (c.hasOrigin(v) || c.present(v)) {
			return &diffLayer{c: c, diffID: h}
		}
	}
	return nil
}

// readable reports whether the bytes of an entry are there, or can be made
// of the tar.
func (c *Cache) readable(e index.Entry) bool {
	if c.present(e) {
		return true
	}
	if e.Codec == "" || e.Pair != index.Verified {
		return false
	}
	tar, ok := c.catalog.get(e.DiffID)
	return ok && c.present(tar)
}

// present reports whether the bytes of an entry are there. Bytes that are
// suspect are verified.
func (c *Cache) present(e index.Entry) bool {
	size, modTime, err := c.layout.StatBlob(e.Digest)
	if err != nil {
		return false
	}
	return !c.suspect(e, size, modTime) || c.verify(e) == nil
}

// A diffLayer is a layer that was got by its diffID. Which compressed form
// it has is found out when that is asked for: only a pair that this cache
// verified decides it.
type diffLayer struct {
	c      *Cache
	diffID v1.Hash

	mu       sync.Mutex
	resolved v1.Layer // guarded by mu
}

// resolve returns the layer of the compressed form.
func (d *diffLayer) resolve() (v1.Layer, error) {
	if d.c.fills.isClosed() {
		return nil, fmt.Errorf("cache: compressed form of %s: %w", d.diffID, ErrClosed)
	}
	d.mu.Lock()
	l := d.resolved
	d.mu.Unlock()
	if l != nil {
		return l, nil
	}
	l, err := d.c.resolve(d.diffID) // which may read all of the layer
	if err != nil && d.c.fills.isClosed() {
		err = ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("cache: compressed form of %s: %w", d.diffID, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.resolved == nil {
		d.resolved = l
	}
	return d.resolved, nil
}

// resolve returns a layer whose digest is verified to decompress to a diffID:
// one whose bytes can be had before one that is only remembered. A claimed
// pair is verified first, by decompressing the blob once. A layer that is
// known only as a tar is compressed, and the pair recorded.
func (c *Cache) resolve(diffID v1.Hash) (v1.Layer, error) {
	var remembered v1.Layer
	for _, v := range c.variants(diffID) {
		if v.Pair == index.Claimed && !c.confirm(v, diffID) {
			continue
		}
		l := c.known(v, diffID)
		if c.obtainable(v) {
			return l, nil
		}
		if remembered == nil {
			remembered = l
		}
	}
	if remembered != nil {
		return remembered, nil
	}
	tar, ok := c.entry(diffID)
	switch {
	case !ok || !c.present(tar):
		return nil, notFound(diffID)
	case tar.Variant == v1.Hash{}:
		return c.pack(tar)
	}
	if _, listed := c.catalog.get(tar.Variant); listed { // and is not of this diffID
		return c.pack(tar)
	}
	return &layer{c: c, digest: tar.Variant, diffID: diffID}, nil // another tool has taken its descriptor out of the index
}

// confirm verifies a claimed pair by decompressing the blob, and reports
// whether it holds. Either way the catalog knows from then on, and if it can
// record nothing, this process does.
func (c *Cache) confirm(v index.Entry, diffID v1.Hash) bool {
	pair := [2]v1.Hash{v.Digest, diffID}
	if holds, ok := c.checks.pairs.Load(pair); ok {
		return holds.(bool)
	}
	if !c.hasOrigin(v) && !c.present(v) {
		return false
	}
	rc, err := c.known(v, diffID).Uncompressed()
	if err != nil {
		return false
	}
	defer rc.Close()
	_, err = io.Copy(io.Discard, rc)
	if c.o.readOnly {
		c.checks.pairs.Store(pair, err == nil)
	}
	return err == nil
}

// holdsPair looks, once in each process, whether a pair is what it was
// recorded to be, by decompressing the blob. It is asked when an image says
// otherwise: either that lies, or the index does.
func (c *Cache) holdsPair(e index.Entry) bool {
	pair := [2]v1.Hash{e.Digest, e.DiffID}
	if holds, ok := c.checks.pairs.Load(pair); ok {
		return holds.(bool)
	}
	if !c.present(e) {
		return false
	}
	var got v1.Hash
	rc, err := (&layer{c: c, digest: e.Digest}).decompressing(e.Digest, e.DiffID.Algorithm, func(sum []byte, _ int64) error {
		got = sumHash(e.DiffID.Algorithm, sum)
		return nil
	})
	if err != nil {
		return false
	}
	defer rc.Close()
	if _, err := io.Copy(io.Discard, rc); err != nil {
		return false
	}
	c.checks.pairs.Store(pair, got == e.DiffID)
	return got == e.DiffID
}

// Digest implements v1.Layer.
func (d *diffLayer) Digest() (v1.Hash, error) {
	l, err := d.resolve()
	if err != nil {
		return v1.Hash{}, err
	}
	return l.Digest()
}

// DiffID implements v1.Layer.
func (d *diffLayer) DiffID() (v1.Hash, error) { return d.diffID, nil }

// Size implements v1.Layer.
func (d *diffLayer) Size() (int64, error) {
	l, err := d.resolve()
	if err != nil {
		return 0, err
	}
	return l.Size()
}

// MediaType implements v1.Layer.
func (d *diffLayer) MediaType() (types.MediaType, error) {
	l, err := d.resolve()
	if err != nil {
		return "", err
	}
	return l.MediaType()
}

// Compressed implements v1.Layer.
func (d *diffLayer) Compressed() (io.ReadCloser, error) {
	l, err := d.resolve()
	if err != nil {
		return nil, err
	}
	return l.Compressed()
}

// Uncompressed implements v1.Layer. A blob that is only claimed to have the
// diffID is decompressed too: what comes out is verified before EOF.
func (d *diffLayer) Uncompressed() (io.ReadCloser, error) {
	if d.c.fills.isClosed() {
		return nil, fmt.Errorf("cache: read: %w", ErrClosed)
	}
	if tar, ok := d.c.entry(d.diffID); ok {
		if rc := d.c.openHit(tar, nil); rc != nil {
			return rc, nil
		}
	}
	for _, v := range d.c.variants(d.diffID) {
		if d.c.obtainable(v) {
			return d.c.known(v, d.diffID).Uncompressed()
		}
	}
	return nil, fmt.Errorf("cache: uncompressed: %w", d.c.missing(d.diffID))
}

// Exists is what partial.Exists asks for.
func (d *diffLayer) Exists() (bool, error) { return d.c.get(d.diffID) != nil, nil }

// pack compresses a tar with the configured codec. What cannot be kept is
// compressed for each reader.
func (c *Cache) pack(tar index.Entry) (v1.Layer, error) {
	if c.o.readOnly {
		return c.packUnkept(tar)
	}
	e, err := c.packKept(tar)
	switch {
	case errors.Is(err, errChanged):
		return c.resolve(tar.Digest)
	case errors.Is(err, ErrClosed):
		return nil, err
	case err == nil && c.present(e):
		return &layer{c: c, digest: e.Digest, diffID: tar.Digest}, nil
	}
	return c.packUnkept(tar)
}

// packKept compresses a tar into the cache, and returns the entry of what came
// out. It is errChanged if the tar's entry is another one by now.
func (c *Cache) packKept(tar index.Entry) (index.Entry, error) {
	key := fillKey{of: tar.Digest, form: packed, alg: "sha256"}
	ref, _, err := c.fills.join(c.ctx, key, c.catalog.differs(tar), func() config { return c.packing(tar) })
	if err != nil {
		return index.Entry{}, err
	}
	defer ref.Leave()
	if err := ref.Wait(context.Background()); err != nil {
		return index.Entry{}, err
	}
	h := sumHash("sha256", ref.Sum())
	e, ok := c.catalog.get(h)
	if !ok { // it could not be written, or was pruned
		return index.Entry{}, notFound(h)
	}
	return e, nil
}
