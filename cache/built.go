package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// A builtLayer is what its build returns, run when its bytes are asked for.
type builtLayer struct {
	c     *Cache
	key   string
	e     index.Entry
	build func(context.Context) (v1.Layer, error)
}

func (b *builtLayer) Digest() (v1.Hash, error)             { return b.e.Digest, nil }
func (b *builtLayer) DiffID() (v1.Hash, error)             { return b.e.DiffID, nil }
func (b *builtLayer) Size() (int64, error)                 { return b.e.Size, nil }
func (b *builtLayer) MediaType() (types.MediaType, error)  { return types.MediaType(b.e.MediaType), nil }
func (b *builtLayer) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

// Compressed fetches the layer from its home, if it has one, or builds it
// again, in the form that it had. The key is locked only while the build
// function runs: how fast the result is read is up to the reader, who may wait
// for another one.
func (b *builtLayer) Compressed() (io.ReadCloser, error) {
	if rc := b.fromHome(); rc != nil {
		return rc, nil
	}
	unlock, err := b.c.lockBuild(b.c.ctx, b.key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return b.again(b.c.ctx)
}

// fill is Compressed for the fill of the digest, whose origin is read as fast
// as it can be. The key is locked until the blob is there, so that who waits
// for that finds it.
func (b *builtLayer) fill(ctx context.Context) (io.ReadCloser, error) {
	if rc := b.fromHome(); rc != nil {
		return rc, nil
	}
	unlock, err := b.c.lockBuild(ctx, b.key)
	if err != nil {
		return nil, err
	}
	if rc := b.found(); rc != nil {
		unlock()
		return rc, nil
	}
	rc, err := b.again(ctx)
	if err != nil {
		unlock()
		return nil, err
	}
	return &lockedBuild{ReadCloser: rc, unlock: unlock, over: ctx.Done()}, nil
}

// found returns the blob if another process has made it meanwhile.
func (b *builtLayer) found() io.ReadCloser {
	b.c.catchUp()
	e, ok := b.c.catalog.get(b.e.Digest)
	if !ok {
		return nil
	}
	if hit := b.c.openHit(e, b.Compressed); hit != nil {
		return hit
	}
	return nil
}

func (b *builtLayer) fromHome() io.ReadCloser {
	if !b.c.hasOrigin(b.e) {
		return nil
	}
	rc, err := (&home{c: b.c, e: b.e}).Compressed()
	if err == nil {
		return rc
	}
	b.c.o.log.Warn("building again what cannot be fetched", "digest", b.e.Digest, "err", err)
	return nil
}

// again runs the build.
func (b *builtLayer) again(ctx context.Context) (io.ReadCloser, error) {
	l, err := b.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("cache: build %.80q again: %w", b.key, err)
	}
	rc, err := b.form(l)
	if err != nil {
		return nil, err
	}
	e := expect{digest: b.e.Digest, size: -1}
	return &verifier{ReadCloser: rc, h: newHash(b.e.Digest.Algorithm), size: e.size, check: func(sum []byte, n int64) error {
		if e.checkSum(sum, n) != nil {
			b.c.outlived(b.key, b.e.Digest)
		}
		return nil // who reads will see
	}}, nil
}

// run runs the build function. Its panic is an error: it comes to a reader, or
// in a fill, which has no caller.
func (b *builtLayer) run(ctx context.Context) (l v1.Layer, err error) {
	defer func() {
		if p := asPanicked(recover()); p != nil {
			err = p
		}
	}()
	return b.c.runBuild(ctx, b.key, b.build)
}

// form opens what was built in the form that it had.
func (b *builtLayer) form(l v1.Layer) (io.ReadCloser, error) {
	if inner := b.c.unwrap(l, b.e.Digest); inner != l {
		return inner.Compressed()
	}
	settings, err := compression.ParseSettings(b.e.Codec)
	if b.e.Codec == "" || err != nil {
		return l.Compressed()
	}
	tar, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	return compressStream(tar, settings), nil
}

// unwrap returns what a layer of this cache with that digest holds. Reading it
// through the cache would wait for the fill that it is read for.
func (c *Cache) unwrap(l v1.Layer, h v1.Hash) v1.Layer {
	for {
		inner := l
		if m, ok := inner.(*remote.MountableLayer); ok {
			inner = m.Layer
		}
		own, ok := inner.(*layer)
		if !ok || own.c != c || own.inner == nil || isUncompressed(own.inner) {
			return l
		}
		if digest, err := own.Digest(); err != nil || digest != h {
			return l
		}
		l = own.inner
	}
}

// outlived drops a key whose build gives another layer by now, unless somebody
// has done so.
func (c *Cache) outlived(key string, was v1.Hash) {
	if c.o.readOnly {
		return
	}
	c.faulted(c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		if k, _, ok := c.catalog.key(key); !ok || k.Digest != was {
			return nil
		}
		return tx.Append(index.DropKeyRecord(key))
	}))
}

// A lockedBuild is the origin of a fill that has a key locked.
type lockedBuild struct {
	io.ReadCloser
	unlock func()
	over   <-chan struct{} // closed when the fill has committed or failed
}

// Close implements io.Closer. A fill may wait for its reader before it is over:
// not for long does the key.
func (l *lockedBuild) Close() error {
	err := l.ReadCloser.Close()
	go func() {
		defer l.unlock()
		select {
		case <-l.over:
		case <-time.After(10 * time.Second):
		}
	}()
	return err
}
