package cache

import (
	"time"

	"github.com/ocicache/ocicache/layout"
)

// WithHook calls f before each operation on the file system.
func WithHook(f layout.Hook) Option { return func(o *options) { o.hook = f } }

// WithClock has f tell the time.
func WithClock(f func() time.Time) Option { return func(o *options) { o.clock = f } }
