package cache

import (
	"log/slog"
	"runtime"
	"time"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/layout"
)

// An Option changes how a cache is opened.
type Option func(*options)

type options struct {
	log             *slog.Logger
	codec           compression.Settings
	sync            SyncLevel
	readOnly        bool
	recovery        bool
	verifyReads     bool
	verifyBuilds    bool
	finishAbandoned bool
	keepTar         bool
	maxUncompressed int64
	maxFills        int
	maxDecompress   int
	minFree         int64
	maxRemembered   int
	prune           []PrunePolicy
	closeTimeout    time.Duration
	lockTimeout     time.Duration
	progress        func(Progress)
	origins         Origins
	hook            layout.Hook      // for tests
	clock           func() time.Time // likewise
	free            func(*layout.Layout) int64
}

func defaults() options {
	return options{
		log:             slog.New(slog.DiscardHandler),
		codec:           compression.DefaultSettings(),
		keepTar:         true,
		maxUncompressed: 128 << 30,
		maxFills:        16,
		maxDecompress:   max(4, 2*runtime.GOMAXPROCS(0)),
		minFree:         128 << 20,
		maxRemembered:   100_000,
		closeTimeout:    30 * time.Second,
		lockTimeout:     10 * time.Second,
		clock:           time.Now,
		free:            (*layout.Layout).Free,
	}
}

// WithLogger logs what goes wrong with the cache while reads go on. The
// default, and nil, is to log nothing.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.log = l
		}
	}
}

// WithCodec compresses with these settings when a layer is known only as a
// tar and its compressed form is asked for. The default is gzip at level 1,
// as go-containerregistry compresses. [Open] refuses settings that are none.
func WithCodec(s compression.Settings) Option { return func(o *options) { o.codec = s } }

// A SyncLevel says when bytes are brought to stable storage.
type SyncLevel int

const (
	// SyncCheckpoint syncs a blob before index.json lists it. It is the
	// default. After a power failure, what was committed since the last [Cache.Flush]
	// is hashed before it is served, and may be lost.
	SyncCheckpoint SyncLevel = iota
	// SyncCommit syncs a blob, and the record of it, before the reader that
	// filled it gets EOF.
	SyncCommit
	// SyncNever leaves it to the system. After a power failure, everything
	// that was committed without a sync is hashed before it is served.
	SyncNever
)

// WithSync sets when bytes are brought to stable storage.
func WithSync(level SyncLevel) Option { return func(o *options) { o.sync = level } }

// WithReadOnly takes no lock and writes nothing; the directory may be on a
// read-only file system. Misses are read from their origin, and not kept.
func WithReadOnly() Option { return func(o *options) { o.readOnly = true } }

// WithRecovery opens a cache whose index.json cannot be read. The file is set
// aside in .ocicache/quarantine, and counts as lost; so do the descriptors of
// other tools in it. What the journal does not tell anew comes back with
// [Cache.Verify] and Rebuild.
func WithRecovery() Option { return func(o *options) { o.recovery = true } }

// WithVerifyReads hashes every blob before its first byte is served, at every
// read, so that a change shows which left its size and modification time as
// they were. It costs a pass over the blob.
func WithVerifyReads() Option { return func(o *options) { o.verifyReads = true } }

// WithVerifyBuilds has [Cache.Build] run the build even if the layer is known,
// and compare: another layer is a [*DigestMismatchError], and its key does not
// name all that decides what is built. What has only a tar is compared by its
// diffID. It is what gocacheverify=1 is to Go's build cache.
func WithVerifyBuilds() Option { return func(o *options) { o.verifyBuilds = true } }

// WithFinishAbandoned finishes a fill whose readers all closed early, once
// they had read something. The default is to abort it, unless little is
// left.
func WithFinishAbandoned() Option { return func(o *options) { o.finishAbandoned = true } }

// WithoutTar does not keep the uncompressed form that an uncompressed read
// makes: the next one decompresses the blob again.
func WithoutTar() Option { return func(o *options) { o.keepTar = false } }

// WithMaxUncompressed limits what one layer may decompress to, in bytes.
// Reading more is [ErrTooLarge]. Of an origin that sends more compressed,
// nothing is kept. The default is 128 GiB.
func WithMaxUncompressed(bytes int64) Option { return func(o *options) { o.maxUncompressed = bytes } }

// WithMaxFills limits how many origins are read at a time. Further ones wait,
// ten seconds at most: an origin may wait for another. The default is 16.
func WithMaxFills(n int) Option { return func(o *options) { o.maxFills = max(n, 1) } }

// WithMinFree stops filling, not reading, when less than so many bytes are
// free on the disk. The default is 128 MiB.
func WithMinFree(bytes int64) Option { return func(o *options) { o.minFree = bytes } }

// WithPrune prunes by these policies in the background, after commits and
// never while a reader waits: when a fill is the first since [Open], and
// whenever a 64th of the least MaxBytes has come since the last time. What it
// removes, and what it cannot, is logged.
func WithPrune(policies ...PrunePolicy) Option { return func(o *options) { o.prune = policies } }

// WithMaxRemembered limits how many entries [Cache.Prune] leaves of blobs whose
// bytes are gone, or never were here: of more, pairs go before what builds
// made. The default is 100,000: each takes some 600 bytes of memory, and of a
// million, opening the cache takes seconds. Without a prune there may be more.
func WithMaxRemembered(n int) Option { return func(o *options) { o.maxRemembered = max(n, 0) } }

// WithCloseTimeout limits how long [Cache.Close] waits for fills before it
// interrupts them. The default is 30 seconds.
func WithCloseTimeout(d time.Duration) Option { return func(o *options) { o.closeTimeout = d } }

// WithLockTimeout limits the wait for a lock that another process holds. A
// read then ends well and uncached. The default is ten seconds.
func WithLockTimeout(d time.Duration) Option { return func(o *options) { o.lockTimeout = d } }

// WithProgress calls f as [Cache.Fill] and [Cache.FillUncompressed] go on,
// and once before they return, if that takes f less than a second. Each of
// them calls it from a goroutine of its own: a slow f gets fewer calls and
// slows no fill down.
func WithProgress(f func(Progress)) Option { return func(o *options) { o.progress = f } }
