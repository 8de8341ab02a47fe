package cache

import (
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/internal/fill"
	"github.com/ocicache/ocicache/layout"
)

var (
	// ErrNotFound is returned for a hash that the cache has no bytes of, and
	// no way to get them. It is the one of go-containerregistry's cache, so
	// that its cache.Image works over a *Cache.
	ErrNotFound = ggcrcache.ErrNotFound
	// ErrCorrupt is returned for a layer whose compressed data are broken.
	ErrCorrupt = compression.ErrCorrupt
	// ErrReadOnly is returned by what would change a cache that was opened
	// with [WithReadOnly].
	ErrReadOnly = layout.ErrReadOnly
	// ErrClosed is returned by what comes after [Cache.Close], or is
	// interrupted by it.
	ErrClosed = errors.New("cache is closed")
	// ErrTooLarge is returned for a layer that decompresses to more than
	// [WithMaxUncompressed] allows.
	ErrTooLarge = errors.New("layer decompresses to more than the limit")
	// ErrNotKept is returned by [Cache.Fill] for a layer that was read, and
	// that the cache had no room for or could not write.
	ErrNotKept = errors.New("the layer was read, and could not be kept")
	// ErrLocked is returned by [Cache.Flush], [Cache.Delete] and
	// [Cache.Verify], and by [Open] for a new directory, when a lock was held
	// for too long. It names the lock file.
	ErrLocked = layout.ErrLocked
	// ErrNotLayout is returned by [Open] for a path that is something else
	// than an OCI image layout.
	ErrNotLayout = layout.ErrNotLayout

	// ErrVersion is returned by [Open] for a layout, or a cache, of a version
	// that this package does not know.
	ErrVersion = layout.ErrVersion
	// ErrMalformed is returned by [Open] for an index.json that is none. The
	// error says where.
	ErrMalformed = index.ErrMalformed

	errFull = errors.New("less than the reserve is free on the disk")
)

// DigestMismatchError says that bytes do not have the digest, or the diffID,
// that they were read by.
type DigestMismatchError struct {
	Want, Got v1.Hash
}

func (e *DigestMismatchError) Error() string {
	return fmt.Sprintf("digest mismatch: want %s, got %s", e.Want, e.Got)
}

// SizeMismatchError says that a blob does not have the size, in bytes, that
// a manifest gives it.
type SizeMismatchError struct {
	Digest    v1.Hash
	Want, Got int64
}

func (e *SizeMismatchError) Error() string {
	return fmt.Sprintf("size mismatch: %s: want %d bytes, got %d", e.Digest, e.Want, e.Got)
}

// closedError is what ends the fills that Close interrupts.
type closedError struct{}

func (closedError) Error() string { return ErrClosed.Error() }

func (closedError) Is(target error) bool { return target == ErrClosed || target == fill.ErrStopped }

// missing is the error for a layer whose bytes are not to be had: after Close,
// none are.
func (c *Cache) missing(h v1.Hash) error {
	if c.fills.isClosed() {
		return ErrClosed
	}
	return notFound(h)
}

func notFound(h v1.Hash) error { return fmt.Errorf("%w: %s", ErrNotFound, h) }
