package cache

import (
	"context"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// A Remembered is a layer that somebody says there is.
type Remembered struct {
	Descriptor v1.Descriptor // of its blob: the digest, size and media type count
	DiffID     v1.Hash       // that it is claimed to have; zero if none is
	Origin     string        // the repository that has it; see [WithOrigins]
	// Keys are build keys that stand for it. What a key stands for cannot be
	// checked: only those of somebody who is trusted belong here. They are not
	// shareable, unless a build here says so: to trust is not to publish.
	Keys []string
}

// rememberBatch is how many entries are recorded at a time, so that other
// writers need not wait for long.
const rememberBatch = 500

// Remember records layers without their bytes, and returns how many were not
// known before. What is known already stays as it is, save that a diffID or
// an origin, if the bytes are not here, is recorded where there was none; a key that stands for something
// keeps doing so. The errors are [ErrReadOnly], [ErrClosed], [ErrLocked], and
// the context's. Doing it again is harmless.
func (c *Cache) Remember(ctx context.Context, rs []Remembered) (added int, err error) {
	if c.fills.isClosed() {
		return 0, fmt.Errorf("cache: remember: %w", ErrClosed)
	}
	for batch := range slices.Chunk(rs, rememberBatch) {
		n := 0
		err := c.layout.Update(ctx, func(tx *layout.Tx) error {
			var records [][]byte
			records, n = c.remembering(batch)
			if len(records) == 0 {
				return nil
			}
			return tx.Append(records...)
		})
		if err != nil {
			return added, fmt.Errorf("cache: remember: %w", err)
		}
		added += n
		c.compact()
	}
	return added, nil
}

// remembering returns the records of what is new, and how many layers are.
func (c *Cache) remembering(rs []Remembered) (records [][]byte, added int) {
	for _, r := range rs {
		h := r.Descriptor.Digest
		if !c.layout.Valid(h) || r.Descriptor.Size < 0 {
			continue
		}
		e, known := c.catalog.get(h)
		was := e
		if !known {
			e = index.Entry{Digest: h, Size: r.Descriptor.Size, MediaType: string(r.Descriptor.MediaType), Created: c.now()}
			added++
		}
		if c.isClaimable(e, r.DiffID) {
			e.DiffID, e.Pair = r.DiffID, index.Claimed
		}
		if there, err := c.isThere(h); e.Origin == "" && err == nil && !there { // what is here did not come from there
			e.Origin = r.Origin
		}
		if e != was {
			records = append(records, index.PutRecord(e))
		}
		for _, key := range r.Keys {
			if _, _, ok := c.catalog.key(key); !ok && key != "" && len(key) <= maxKey {
				k := index.BuildKey{Digest: h, MediaType: string(r.Descriptor.MediaType), Created: c.now()}
				records = append(records, index.KeyRecord(key, k))
			}
		}
	}
	return records, added
}
