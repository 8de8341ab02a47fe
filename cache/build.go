package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// A BuildOption changes one [Cache.Build].
type BuildOption func(*buildOptions)

type buildOptions struct {
	shareable bool
	maxAge    time.Duration
}

// Shareable marks the key as one that may be published, also if it is there
// already. Without it, it stays in this directory.
func Shareable() BuildOption { return func(o *buildOptions) { o.shareable = true } }

// MaxAge has a key that was recorded longer ago count as none: the layer is
// built again, and recorded anew. Without it, keys do not expire.
func MaxAge(d time.Duration) BuildOption { return func(o *buildOptions) { o.maxAge = d } }

// maxKey is how long a build's key may be, in bytes.
const maxKey = 4 << 10

// Build returns the layer that a key stands for. If there is one, nothing is
// run, read, hashed or compressed: its digest, diffID, size and media type are
// known, and its bytes are in the cache. Else build is run, and its layer read
// into the cache and remembered. Only one build of a key is run at a time, in
// all processes: others of this process get its layer or its error, those of
// other processes wait and look again. A failed build is not remembered.
//
// The key, of any 1 to 4096 bytes, has to name everything that decides what build
// returns. If the bytes are gone when they are needed, build is run again, and
// must return the same: else reading is a [*DigestMismatchError].
//
// When ctx ends, Build returns; a build that others wait for goes on.
func (c *Cache) Build(ctx context.Context, key string, build func(context.Context) (v1.Layer, error), opts ...BuildOption) (v1.Layer, error) {
	var o buildOptions
	for _, opt := range opts {
		opt(&o)
	}
	if key == "" || len(key) > maxKey {
		return nil, fmt.Errorf("cache: build %.80q: a key has 1 to %d bytes", key, maxKey)
	}
	if c.fills.isClosed() {
		return nil, fmt.Errorf("cache: build %.80q: %w", key, ErrClosed)
	}
	if !c.o.verifyBuilds {
		if l := c.built(key, build, o); l != nil {
			return l, nil
		}
	}
	l, err := c.builds.do(ctx, key, func(ctx context.Context) (v1.Layer, error) {
		return c.build(ctx, key, build, o)
	})
	if err != nil {
		return nil, fmt.Errorf("cache: build %.80q: %w", key, err)
	}
	return l, nil
}

// built returns the layer that a key stands for, nil if it stands for none.
func (c *Cache) built(key string, build func(context.Context) (v1.Layer, error), o buildOptions) v1.Layer {
	k, e, ok := c.freshKey(key, o)
	if !ok {
		c.catchUp()
		if k, e, ok = c.freshKey(key, o); !ok {
			return nil
		}
	}
	if o.shareable && !k.Shareable {
		k.Shareable = true
		c.remember(key, k, e)
	}
	if !c.o.verifyBuilds {
		c.count.buildHits.Add(1)
	}
	c.uses.note(k.Digest, c.now())
	e.MediaType = k.MediaType
	return c.rebuildable(e, build)
}

// freshKey returns what a key stands for, if it has not expired.
func (c *Cache) freshKey(key string, o buildOptions) (index.BuildKey, index.Entry, bool) {
	k, e, ok := c.catalog.key(key)
	return k, e, ok && (o.maxAge == 0 || c.o.clock().Sub(at(k.Created)) <= o.maxAge)
}

// rebuildable returns the layer of an entry, whose bytes come from a build if
// they are gone.
func (c *Cache) rebuildable(e index.Entry, build func(context.Context) (v1.Layer, error)) v1.Layer {
	if e.Pair == index.Refuted {
		e.DiffID = v1.Hash{}
	}
	return &layer{
		c:      c,
		digest: e.Digest,
		diffID: e.DiffID,
		inner:  &builtLayer{c: c, e: e, build: build},
		from:   origin{desc: &v1.Descriptor{Digest: e.Digest, Size: e.Size, MediaType: types.MediaType(e.MediaType)}},
	}
}

// build runs a build while no other process does, unless one has by then.
func (c *Cache) build(ctx context.Context, key string, build func(context.Context) (v1.Layer, error), o buildOptions) (v1.Layer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.ctx, func() { cancel(ErrClosed) })
	defer stop()
	sum := sha256.Sum256([]byte(key))
	unlock, err := c.layout.LockKey(ctx, hex.EncodeToString(sum[:]))
	switch {
	case err == nil:
		defer func() { c.faulted(unlock()) }()
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case !errors.Is(err, ErrReadOnly):
		c.fault(err) // the build may be run twice
	}
	known := c.built(key, build, o)
	if known != nil && !c.o.verifyBuilds {
		return known, nil
	}
	c.count.builds.Add(1)
	l, err := build(ctx)
	if err != nil {
		return nil, err
	}
	if known != nil {
		if err := compareBuilt(ctx, known, l); err != nil {
			return nil, err
		}
		return known, nil
	}
	if c.o.readOnly {
		return l, nil
	}
	e, err := c.keep(ctx, l)
	if err != nil {
		return nil, err
	}
	c.remember(key, index.BuildKey{Digest: e.Digest, MediaType: e.MediaType, Shareable: o.shareable, Created: c.now()}, e)
	return c.rebuildable(e, build), nil
}

// keep reads a layer that was built into the cache, and returns what is known
// of it, with the media type that it was built with. Its bytes may be gone by
// then, pruned or never kept on a full disk.
func (c *Cache) keep(ctx context.Context, l v1.Layer) (index.Entry, error) {
	if isUncompressed(l) {
		return c.keepTar(ctx, l)
	}
	w := c.Layer(l)
	err := c.fillOne(ctx, w, v1.Layer.Compressed, &layerProgress{p: startProgress(nil, Progress{})})
	if err != nil && !errors.Is(err, ErrNotKept) {
		return index.Entry{}, err
	}
	e, err := c.describe(w)
	if err != nil {
		return index.Entry{}, err
	}
	e = c.claimBuilt(ctx, e, w, l)
	mediaType, err := l.MediaType()
	e.MediaType = string(mediaType)
	return e, err
}

// keepTar is keep for a layer that has no compressed form yet.
func (c *Cache) keepTar(ctx context.Context, l v1.Layer) (index.Entry, error) {
	if err := c.FillUncompressed(ctx, l); err != nil && !errors.Is(err, ErrNotKept) {
		return index.Entry{}, err
	}
	diffID, err := l.DiffID()
	if err != nil {
		return index.Entry{}, err
	}
	packed, err := c.resolve(diffID)
	if err != nil && !errors.Is(err, ErrClosed) { // the tar was not kept, or cannot be read
		packed, err = c.packBuilt(l, diffID)
	}
	if err != nil {
		return index.Entry{}, err
	}
	e, err := c.describe(packed)
	if err != nil {
		return index.Entry{}, err
	}
	if e.Pair != index.Verified {
		e.DiffID, e.Pair, e.Codec = diffID, index.Verified, c.o.codec.String()
	}
	mediaType, err := l.MediaType()
	e.MediaType = inFamilyOf(string(mediaType), e.MediaType)
	return e, err
}

// packBuilt compresses a layer that was built, to learn what comes out.
func (c *Cache) packBuilt(l v1.Layer, diffID v1.Hash) (v1.Layer, error) {
	mediaType, err := l.MediaType()
	if err != nil {
		return nil, err
	}
	tar, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	p := &packedLayer{c: c, tar: index.Entry{Digest: diffID, MediaType: compression.Uncompressed(string(mediaType))}}
	return p, p.measure(compressStream(tar, c.o.codec))
}

// describe returns the entry of a layer, and what would be one if there is
// none.
func (c *Cache) describe(l v1.Layer) (index.Entry, error) {
	digest, err := l.Digest()
	if err != nil {
		return index.Entry{}, err
	}
	if e, ok := c.catalog.get(digest); ok {
		return e, nil
	}
	size, serr := l.Size()
	mediaType, merr := l.MediaType()
	return index.Entry{Digest: digest, Size: size, MediaType: string(mediaType), Created: c.now()}, errors.Join(serr, merr)
}

// remember records what a key stands for. If it cannot, the next one builds
// again.
func (c *Cache) remember(key string, k index.BuildKey, e index.Entry) {
	if c.o.readOnly || !c.layout.Valid(e.Digest) {
		return
	}
	err := c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		records := [][]byte{index.KeyRecord(key, k)}
		now, ok := c.catalog.get(e.Digest)
		switch {
		case !ok: // it was pruned already
			e.ModTime, e.Unsynced = 0, ""
			records = append([][]byte{index.PutRecord(e)}, records...)
		case now.Pair == index.Unknown && e.Pair != index.Unknown: // the fill was not told
			now.DiffID, now.Pair = e.DiffID, e.Pair
			records = append([][]byte{index.PutRecord(now)}, records...)
		}
		return tx.Append(records...)
	})
	c.faulted(err)
}

// A builtLayer is what its build returns, run when its bytes are asked for.
type builtLayer struct {
	c     *Cache
	e     index.Entry
	build func(context.Context) (v1.Layer, error)
}

func (b *builtLayer) Digest() (v1.Hash, error)             { return b.e.Digest, nil }
func (b *builtLayer) DiffID() (v1.Hash, error)             { return b.e.DiffID, nil }
func (b *builtLayer) Size() (int64, error)                 { return b.e.Size, nil }
func (b *builtLayer) MediaType() (types.MediaType, error)  { return types.MediaType(b.e.MediaType), nil }
func (b *builtLayer) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

// Compressed fetches the layer from its home, if it has one, or builds it
// again, in the form that it had.
func (b *builtLayer) Compressed() (io.ReadCloser, error) {
	if b.c.hasOrigin(b.e) {
		rc, err := (&home{c: b.c, e: b.e}).Compressed()
		if err == nil {
			return rc, nil
		}
		b.c.o.log.Warn("building again what cannot be fetched", "digest", b.e.Digest, "err", err)
	}
	b.c.count.builds.Add(1)
	l, err := b.build(b.c.ctx)
	if err != nil {
		return nil, err
	}
	settings, serr := compression.ParseSettings(b.e.Codec)
	if b.e.Codec == "" || serr != nil {
		return l.Compressed()
	}
	tar, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	return compressStream(tar, settings), nil
}

// A Key is what a build's key stands for.
type Key struct {
	Key       string
	Digest    v1.Hash // of the layer
	Shareable bool
	Created   time.Time
}

// Keys returns all build keys, in no particular order.
func (c *Cache) Keys() ([]Key, error) {
	if c.fills.isClosed() {
		return nil, fmt.Errorf("cache: keys: %w", ErrClosed)
	}
	c.catchUp()
	var keys []Key
	for key, k := range c.catalog.keys() {
		keys = append(keys, Key{Key: key, Digest: k.Digest, Shareable: k.Shareable, Created: at(k.Created)})
	}
	return keys, nil
}

// DropKeys forgets build keys; the layers stay. One that is not there is
// passed over. The errors are [ErrReadOnly], [ErrClosed] and [ErrLocked].
func (c *Cache) DropKeys(keys ...string) error {
	if c.fills.isClosed() {
		return fmt.Errorf("cache: drop keys: %w", ErrClosed)
	}
	err := c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		for _, key := range keys {
			if _, _, ok := c.catalog.key(key); !ok {
				continue
			}
			if err := tx.Append(index.DropKeyRecord(key)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cache: drop keys: %w", err)
	}
	return nil
}

// builds are the builds under way in this process.
type builds struct {
	mu sync.Mutex
	m  map[string]*buildCall // guarded by mu
}

type buildCall struct {
	waiting int // guarded by builds.mu
	cancel  context.CancelFunc
	done    chan struct{} // closed when layer and err are set
	layer   v1.Layer
	err     error
}

// do runs fn once for all who ask for a key meanwhile. Its context ends when
// nobody waits any more.
func (b *builds) do(ctx context.Context, key string, fn func(context.Context) (v1.Layer, error)) (v1.Layer, error) {
	b.mu.Lock()
	call, ok := b.m[key]
	if !ok {
		if b.m == nil {
			b.m = map[string]*buildCall{}
		}
		bctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		call = &buildCall{cancel: cancel, done: make(chan struct{})}
		b.m[key] = call
		go b.run(bctx, key, call, fn)
	}
	call.waiting++
	b.mu.Unlock()
	defer b.leave(key, call)
	select {
	case <-call.done:
		return call.layer, call.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (b *builds) run(ctx context.Context, key string, call *buildCall, fn func(context.Context) (v1.Layer, error)) {
	defer call.cancel()
	call.layer, call.err = fn(ctx)
	b.forget(key, call)
	close(call.done)
}

func (b *builds) forget(key string, call *buildCall) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m[key] == call {
		delete(b.m, key)
	}
}

// leave ends a build that nobody waits for.
func (b *builds) leave(key string, call *buildCall) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if call.waiting--; call.waiting > 0 {
		return
	}
	call.cancel()
	if b.m[key] == call {
		delete(b.m, key) // who comes now starts another
	}
}
