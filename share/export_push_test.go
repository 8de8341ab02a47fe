package share

import (
	"context"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// WithBackoff sets how requests are tried again.
func WithBackoff(b remote.Backoff) Option { return func(o *options) { o.backoff = &b } }

// WithClock has f tell the time.
func WithClock(f func() time.Time) Option { return func(o *options) { o.clock = f } }

// WithoutPause has a push go on at once.
func WithoutPause() Option {
	return func(o *options) { o.pause = func(context.Context, int) {} }
}
