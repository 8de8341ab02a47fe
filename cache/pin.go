package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// maxPinName bounds the name of a pin, in bytes.
const maxPinName = 256

// Pin keeps the bytes of a hash from being pruned, by this process and by
// others, until release is called or this process ends, however it ends. Of a
// diffID whose tar is not there it keeps the compressed forms. Pins of one
// hash add up; releasing twice is harmless. Should the writers' lock not be had
// to release, the pin holds until Close. A hash whose bytes are not there
// is [ErrNotFound]. Delete still deletes.
func (c *Cache) Pin(h v1.Hash) (release func(), err error) {
	if c.fills.isClosed() {
		return nil, fmt.Errorf("cache: pin %s: %w", h, ErrClosed)
	}
	var held []v1.Hash
	err = c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		blobs, err := c.blobsOf(h)
		if err != nil {
			return err
		}
		for _, blob := range blobs {
			if err := tx.Hold(blob); err != nil {
				return err
			}
			held = append(held, blob)
		}
		if len(held) == 0 {
			return ErrNotFound
		}
		return nil
	})
	letGo := sync.OnceFunc(func() { c.letGo(held) })
	if err != nil {
		letGo()
		return nil, fmt.Errorf("cache: pin %s: %w", h, err)
	}
	return letGo, nil
}

func (c *Cache) letGo(held []v1.Hash) {
	if len(held) == 0 {
		return
	}
	err := c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		var errs []error
		for _, h := range held {
			errs = append(errs, tx.LetGo(h))
		}
		return errors.Join(errs...)
	})
	if err != nil && !c.fills.isClosed() { // which lets go of everything
		c.fault(err)
	}
}

// blobsOf returns the blobs that are there of a hash: its own, or else the
// compressed forms of a diffID.
func (c *Cache) blobsOf(h v1.Hash) ([]v1.Hash, error) {
	if _, ok := c.catalog.get(h); ok {
		if there, err := c.isThere(h); there || err != nil {
			return []v1.Hash{h}, err
		}
	}
	var hs []v1.Hash
	for _, v := range c.catalog.variants(h) {
		there, err := c.isThere(v.Digest)
		if err != nil {
			return nil, err
		}
		if there {
			hs = append(hs, v.Digest)
		}
	}
	return hs, nil
}

// isThere reports whether the bytes of a hash are there. A disk that does not
// tell is an error: what is there may be pinned.
func (c *Cache) isThere(h v1.Hash) (bool, error) {
	_, _, err := c.layout.StatBlob(h)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return false, nil
	}
	return err == nil, err
}

// PinAs keeps the bytes of some hashes from being pruned until [Cache.Unpin],
// in all processes and after they have ended: an image's layers, say. It takes
// the place of an earlier pin of that name. A hash whose bytes are not there
// is [ErrNotFound], and then nothing changes. The name, of any 1 to 256 bytes,
// may hold any number of hashes.
func (c *Cache) PinAs(name string, hs ...v1.Hash) error {
	switch {
	case c.fills.isClosed():
		return fmt.Errorf("cache: pin as %q: %w", name, ErrClosed)
	case name == "" || len(name) > maxPinName:
		return fmt.Errorf("cache: pin as %.80q: a name has 1 to %d bytes", name, maxPinName)
	}
	c.catchUp()
	err := c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		var blobs []v1.Hash
		for _, h := range once(hs) {
			of, err := c.blobsOf(h)
			if err != nil {
				return err
			}
			if len(of) == 0 {
				return notFound(h)
			}
			blobs = append(blobs, of...)
		}
		return tx.Append(index.PinRecords(name, c.catalog.pins()[name], once(blobs))...)
	})
	if err != nil {
		return fmt.Errorf("cache: pin as %q: %w", name, err)
	}
	return nil
}

// once returns hashes without those that came before.
func once(hs []v1.Hash) []v1.Hash {
	seen := map[v1.Hash]bool{}
	return slices.DeleteFunc(slices.Clone(hs), func(h v1.Hash) bool {
		again := seen[h]
		seen[h] = true
		return again
	})
}

// Unpin removes a pin that [Cache.PinAs] made. One that is not there is
// [ErrNotFound].
func (c *Cache) Unpin(name string) error {
	if c.fills.isClosed() {
		return fmt.Errorf("cache: unpin %q: %w", name, ErrClosed)
	}
	err := c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		if _, ok := c.catalog.pins()[name]; !ok {
			return ErrNotFound
		}
		return tx.Append(index.UnpinRecord(name))
	})
	if err != nil {
		return fmt.Errorf("cache: unpin %q: %w", name, err)
	}
	return nil
}

// Pins returns what each pin of [Cache.PinAs] holds, sorted by digest.
func (c *Cache) Pins() (map[string][]v1.Hash, error) {
	if c.fills.isClosed() {
		return nil, fmt.Errorf("cache: pins: %w", ErrClosed)
	}
	c.catchUp()
	return c.catalog.pins(), nil
}
