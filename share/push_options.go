package share

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// pushOptions are the options of a [Push] alone.
type pushOptions struct {
	sendFilters  []string
	filtered     bool  // there are to be some
	budget       int64 // bytes; negative: none
	verifiedOnly bool
	check        bool
	dryRun       bool
	grace        time.Duration

	backoff *remote.Backoff                      // of requests; nil: go-containerregistry's
	clock   func() time.Time                     // of contributions
	pause   func(ctx context.Context, round int) // before a round of merging
}

func pushDefaults() pushOptions {
	return pushOptions{budget: -1, grace: time.Hour, clock: time.Now, pause: pauseAtRandom}
}

// pauseAtRandom waits longer with each round, up to five seconds.
func pauseAtRandom(ctx context.Context, round int) {
	most := min(50*time.Millisecond<<min(round, 10), 5*time.Second)
	wait(ctx, rand.N(most))
}

// WithFilters has a [Push] send what any of the filters matches, which are
// those of [cache.Cache.DiskUsage]. The default is all that can be sent; no
// filter, or a blank one, is an error: it might be meant to be one.
//
// [cache.Cache.DiskUsage]: https://pkg.go.dev/github.com/ocicache/ocicache/cache#Cache.DiskUsage
func WithFilters(filters ...string) Option {
	return func(o *options) { o.sendFilters = append(o.sendFilters, filters...); o.filtered = true }
}

// filters returns what is to be sent.
func (o *pushOptions) filters() ([]string, error) {
	isBlank := func(f string) bool { return strings.TrimSpace(f) == "" }
	if o.filtered && len(o.sendFilters) == 0 || slices.ContainsFunc(o.sendFilters, isBlank) {
		return nil, errors.New("a filter is blank, and would send everything")
	}
	return o.sendFilters, nil
}

// WithBudget bounds a [Push] to so many bytes of layers: those that were read
// most often, of these those that were last read. What others pushed does not
// count.
func WithBudget(bytes int64) Option { return func(o *options) { o.budget = bytes } }

// VerifiedOnly has a [Push] leave out what this cache has not decompressed
// yet. The default is to decompress it first.
func VerifiedOnly() Option { return func(o *options) { o.verifiedOnly = true } }

// WithCheck has a [Push] ask for every blob and every shard of the tag, one
// request each. What the registry has lost is sent again if it is here, and
// else dropped from the tag.
func WithCheck() Option { return func(o *options) { o.check = true } }

// WithGrace says how long the contribution of a push is kept, for pushes at
// the same time to find. The default is an hour. The last part of a push, after
// all layers are sent, must be over in a third of that; the clocks of those
// who push may differ by another third. All who push to a tag must give the same.
func WithGrace(d time.Duration) Option { return func(o *options) { o.grace = d } }

// DryRun has a [Push] send nothing: its report says what it would send, and
// from which repositories that came.
func DryRun() Option { return func(o *options) { o.dryRun = true } }
