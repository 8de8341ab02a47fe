package cache

import "github.com/ocicache/ocicache/layout"

// WithHook calls f before each operation on the file system.
func WithHook(f layout.Hook) Option { return func(o *options) { o.hook = f } }
