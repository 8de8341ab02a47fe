package cache

import (
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/layout"
)

// WithHook calls f before each operation on the file system.
func WithHook(f layout.Hook) Option { return func(o *options) { o.hook = f } }

// WithClock has f tell the time.
func WithClock(f func() time.Time) Option { return func(o *options) { o.clock = f } }

// WithFree has f tell how many bytes are free on the disk.
func WithFree(f func() int64) Option {
	return func(o *options) { o.free = func(*layout.Layout) int64 { return f() } }
}

// RecordUse does for a use what a hit does beside opening and closing the blob.
func RecordUse(c *Cache, h v1.Hash) { c.newHit(h, nil, nil).done() }

// JournalUses does now what is done a minute after a use.
func JournalUses(c *Cache) { c.journalUsesLater() }
