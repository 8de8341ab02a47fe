package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

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
// other processes wait and look again. A failed build is not remembered. What
// another process did to a key is seen within a second.
//
// The key, of any 1 to 4096 bytes, has to name everything that decides what build
// returns. If the bytes are gone when they are needed, build is run again, and
// must return the same: else reading is a [*DigestMismatchError], and the key
// is dropped.
//
// When ctx ends, Build returns; a build that others wait for goes on. Close
// ends it: its context does, and who waits gets [ErrClosed]. A panic of build
// is one of all who wait. A build may build under other keys, with the context
// that it was given; under its own it is an error.
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
	l, err := c.buildOnce(ctx, key, build, o)
	if err != nil {
		return nil, fmt.Errorf("cache: build %.80q: %w", key, err)
	}
	return l, nil
}

var errWithin = errors.New("it would wait for itself: it was called by the build of the same key")

// buildOnce runs a build, or joins the one that is under way. That may have
// been asked for with other options.
func (c *Cache) buildOnce(ctx context.Context, key string, build func(context.Context) (v1.Layer, error), o buildOptions) (v1.Layer, error) {
	if c.isWithin(ctx, key) {
		return nil, errWithin
	}
	for {
		l, joined, err := c.builds.do(ctx, key, func(ctx context.Context) (v1.Layer, error) {
			return c.build(ctx, key, build, o)
		})
		if err != nil || !joined {
			return l, err
		}
		if own := c.built(key, build, o); own != nil {
			return own, nil
		}
		if o.maxAge == 0 {
			return l, nil // it could not be recorded, or was dropped since
		}
	}
}

// built returns the layer that a key stands for, nil if it stands for none.
func (c *Cache) built(key string, build func(context.Context) (v1.Layer, error), o buildOptions) v1.Layer {
	c.glance()
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
	return c.rebuildable(key, e, build)
}

// freshKey returns what a key stands for, if it has not expired.
func (c *Cache) freshKey(key string, o buildOptions) (index.BuildKey, index.Entry, bool) {
	k, e, ok := c.catalog.key(key)
	return k, e, ok && (o.maxAge == 0 || c.o.clock().Sub(at(k.Created)) <= o.maxAge)
}

// rebuildable returns the layer of an entry, whose bytes come from a build if
// they are gone.
func (c *Cache) rebuildable(key string, e index.Entry, build func(context.Context) (v1.Layer, error)) v1.Layer {
	if e.Pair == index.Refuted {
		e.DiffID = v1.Hash{}
	}
	return &layer{
		c:      c,
		digest: e.Digest,
		diffID: e.DiffID,
		inner:  &builtLayer{c: c, key: key, e: e, build: build},
		from:   origin{desc: expected(e)},
	}
}

// build runs a build while no other process does, unless one has by then.
func (c *Cache) build(ctx context.Context, key string, build func(context.Context) (v1.Layer, error), o buildOptions) (v1.Layer, error) {
	ctx, cancel := c.untilClose(ctx)
	defer cancel()
	unlock, err := c.lockBuild(ctx, key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	known := c.built(key, build, o)
	if known != nil && !c.o.verifyBuilds {
		return known, nil
	}
	l, err := c.runBuild(ctx, key, build)
	if err == nil && known != nil {
		return known, closing(ctx, compareBuilt(ctx, known, l))
	}
	if err != nil || c.o.readOnly {
		return l, closing(ctx, err)
	}
	e, err := c.keep(ctx, l)
	if err != nil {
		return nil, closing(ctx, err)
	}
	c.remember(key, index.BuildKey{Digest: e.Digest, MediaType: e.MediaType, Shareable: o.shareable, Created: c.now()}, e)
	return c.rebuildable(key, e, build), nil
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
		case now.Pair == index.Unknown && e.Pair != index.Unknown, // the fill was not told
			now.Codec == "" && e.Codec != "": // it was not made here
			now.DiffID, now.Pair, now.Codec = e.DiffID, e.Pair, e.Codec
			records = append([][]byte{index.PutRecord(now)}, records...)
		}
		return tx.Append(records...)
	})
	c.faulted(err)
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
