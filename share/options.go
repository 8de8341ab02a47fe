package share

import (
	"log/slog"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// An Option changes a [Push], a [Pull] or [Origins]. What one of them has no
// use for, it passes over.
type Option func(*options)

type options struct {
	keychain  authn.Keychain
	transport http.RoundTripper
	log       *slog.Logger
	jobs      int
	progress  func(Progress)

	trustKeys    bool
	maxEntries   int
	scopes       []name.Reference
	bytes        bool     // are fetched
	bytesFilters []string // of which layers

	pushOptions
}

func makeOptions(opts []Option) options {
	o := options{
		keychain:   authn.DefaultKeychain,
		transport:  remote.DefaultTransport,
		log:        slog.New(slog.DiscardHandler),
		jobs:       8,
		maxEntries: 1_000_000,

		pushOptions: pushDefaults(),
	}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// Progress is how far a [Push] or a [Pull] has come.
type Progress struct {
	Done, Total       int   // shards when metadata is pulled, else layers
	Bytes, BytesTotal int64 // of layers
}

// WithKeychain asks k for credentials. The default is that of docker and crane.
func WithKeychain(k authn.Keychain) Option { return func(o *options) { o.keychain = k } }

// WithTransport sends requests with t, which retries and authentication go on
// top of.
func WithTransport(t http.RoundTripper) Option { return func(o *options) { o.transport = t } }

// WithLogger logs what goes wrong and is no error.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// WithJobs bounds the requests that are under way at a time. The default is 8.
func WithJobs(n int) Option { return func(o *options) { o.jobs = max(n, 1) } }

// WithProgress calls f now and then, and when it is over. It must return soon.
func WithProgress(f func(Progress)) Option { return func(o *options) { o.progress = f } }

// TrustKeys has a [Pull] take over build keys. What a key stands for cannot be
// checked: whoever writes to the repository then decides what builds return.
// The default is to take none.
func TrustKeys() Option { return func(o *options) { o.trustKeys = true } }

// WithMaxEntries bounds how many entries a [Pull] takes, of all scopes, and a
// [Push] takes over from the tag; more are [ErrTooManyEntries]. The default is a
// million. [cache.Cache.Prune] forgets those beyond [cache.WithMaxRemembered],
// which by default are fewer.
func WithMaxEntries(n int) Option { return func(o *options) { o.maxEntries = n } }

// WithScopes has a [Pull] take further snapshots after the first one, in order:
// a branch's, then main's. Of a layer that several have, the first one's word
// counts. None of them needs to be there.
func WithScopes(refs ...name.Reference) Option {
	return func(o *options) { o.scopes = append(o.scopes, refs...) }
}

// WithBytes has a [Pull] also fetch the bytes of what it pulled and the cache
// does not hold: of the layers that any of the filters matches, of all without
// one. They are those of [cache.Cache.DiskUsage].
func WithBytes(filters ...string) Option {
	return func(o *options) { o.bytes, o.bytesFilters = true, append(o.bytesFilters, filters...) }
}
