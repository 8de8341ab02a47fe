// Package fill makes one pass over an origin into a file, and lets any
// number of readers follow the file as it grows.
//
// It knows nothing of catalogs and directories: where the bytes go, what
// they must hash to and what makes them a blob are its caller's functions.
package fill

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"
)

// A File is where a fill's bytes go.
type File interface {
	io.Writer
	io.ReaderAt
	// Release is called when no more will be written and Commit, if it came
	// to that, has returned: what it did not make something that stays is to
	// go. Readers may read on.
	Release() error
	// Close is called after Release, when nobody reads any more, or while
	// the last ReadAt runs.
	Close() error
}

// A Config says what a fill does.
type Config struct {
	// Open opens the origin. The context ends when the fill is over.
	Open func(context.Context) (io.ReadCloser, error)
	// Create makes the file.
	Create func() (File, error)
	// Hash is fed all bytes, by a goroutine of its own.
	Hash hash.Hash
	// Size is how many bytes the origin should have, -1 if that is unknown.
	// A fill that gets more stops there.
	Size int64
	// Limit is called as bytes arrive, with their number so far. Its error is
	// the file's.
	Limit func(n int64) error
	// Check is called with the hash and the number of the bytes; its error
	// is the origin's, unless it is [ErrAgain].
	Check func(sum []byte, n int64) error
	// Commit makes the file a blob. Its error is the cache's: readers have
	// got the right bytes and do not see it.
	Commit func(sum []byte, n int64) error
	// Fault is told of errors of the file and of Commit.
	Fault func(error)
	// Done is called when the fill has committed or failed.
	Done func()
	// Slots bounds how many fills read at a time, nil does not.
	Slots *Slots
	// Lazy reads the open origin, and takes a slot, only once a reader has
	// read.
	Lazy bool
	// Once says that the origin can be read only once: if the file fails, the
	// readers get the rest from the origin, at the pace of the slowest.
	Once bool
	// Persist finishes a fill that its readers abandoned, once they have
	// read something.
	Persist bool
}

// ErrAgain is returned by [Config.Check] if what was read is wrong, and is
// not if it is read again: all readers do.
var ErrAgain = errors.New("what was read has changed")

var errFile = errors.New("the fill cannot be kept")

// A Fill is one pass over an origin. It is safe for concurrent use.
type Fill struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when all is over but for the readers

	mu      sync.Mutex
	changed *sync.Cond // on mu: anything below changed, or ctx ended
	file    File       // guarded by mu, as is all below
	opened  bool       // the origin is open
	size    int64      // bytes that can be read
	over    bool       // no more will come
	err     error      // why not: nil if all is there, checked and committed
	sum     []byte     // of all bytes, if all are there

	stalled  bool  // nothing has come for stallPatience
	lookedAt int64 // size when that was last looked at

	readers map[*Ref]int64 // up to where each has read what was handed over
	wanted  bool           // a reader has read
	leftAt  int64          // size when the last reader left
	linger  *time.Timer    // since then

	handing bool   // the file failed, and bytes go from hand to hand
	tail    []byte // then: the last bytes before size, which are in no file
}

// Start starts a fill with one reader.
func Start(ctx context.Context, cfg Config) (*Fill, *Ref) {
	f := &Fill{cfg: cfg, ended: make(chan struct{})}
	r := &Ref{f: f}
	f.readers = map[*Ref]int64{r: 0}
	f.changed = sync.NewCond(&f.mu)
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	go f.run()
	return f, r
}

// Join adds a reader. It returns nil if the fill has ended, was abandoned, or
// cannot be kept: then another one is to be started.
func (f *Fill) Join() *Ref {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over || f.handing || f.ctx.Err() != nil {
		return nil
	}
	if len(f.readers) == 0 {
		f.doubt() // perhaps they left because its origin has stalled
	}
	if f.linger != nil {
		f.linger.Stop()
	}
	r := &Ref{f: f}
	f.readers[r] = 0
	return r
}

// Ended is closed when the fill has committed or failed.
func (f *Fill) Ended() <-chan struct{} { return f.ended }

// Progress returns the number of bytes so far.
func (f *Fill) Progress() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// run is the life of a fill.
func (f *Fill) run() {
	defer f.cfg.Done()
	defer close(f.ended)
	defer f.cancel(nil)
	stop := context.AfterFunc(f.ctx, f.wake)
	defer stop()

	sum, err := f.fill()
	if err == nil {
		err = f.awaitReader()
	}
	if err == nil && !f.handing { // which nobody else writes, nor size
		if cerr := f.cfg.Commit(sum, f.size); cerr != nil {
			f.cfg.Fault(cerr)
		}
	}
	if f.file != nil { // which nobody else sets
		if rerr := f.file.Release(); rerr != nil {
			f.cfg.Fault(rerr)
		}
	}
	f.mu.Lock()
	f.over, f.err, f.sum = true, err, sum
	f.changed.Broadcast()
	f.mu.Unlock()
	f.closeUnused()
}

// wake lets all look who wait for a change.
func (f *Fill) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed.Broadcast()
}

// awaitReader waits until a reader has read, so that opening and closing
// leaves nothing behind.
func (f *Fill) awaitReader() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.wanted {
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
		f.changed.Wait()
	}
	return nil
}

// fill copies the origin into the file, hashes and checks it.
func (f *Fill) fill() ([]byte, error) {
	if !f.cfg.Lazy {
		release, err := f.cfg.Slots.acquire(f.ctx)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	file, err := f.cfg.Create()
	if err != nil {
		return nil, f.fault(err)
	}
	f.mu.Lock()
	f.file = file
	f.mu.Unlock()

	rc, err := f.cfg.Open(f.ctx)
	if err != nil && f.ctx.Err() != nil {
		return nil, context.Cause(f.ctx)
	}
	if err != nil {
		return nil, &OriginError{err}
	}
	origin := &closeOnce{rc: rc}
	defer origin.Close() // before the slot is given back, if that was taken first
	stop := context.AfterFunc(f.ctx, func() { _ = origin.Close() })
	defer stop()
	f.mu.Lock()
	f.opened = true
	f.changed.Broadcast()
	f.mu.Unlock()
	if f.cfg.Lazy {
		if err := f.awaitReader(); err != nil {
			return nil, err
		}
		release, err := f.cfg.Slots.acquire(f.ctx)
		if err != nil {
			return nil, err
		}
		defer release()
	}

	h := startHasher(f.cfg.Hash)
	watch := f.watch()
	n, err := f.copy(origin, file, h)
	watch.Stop()
	sum := h.sum()
	if f.ctx.Err() != nil {
		return nil, context.Cause(f.ctx)
	}
	if err != nil {
		var oerr *OriginError
		if errors.As(err, &oerr) && n == f.cfg.Size {
			// All bytes came, and the origin itself says that they are wrong.
			if cerr := f.cfg.Check(sum, n); cerr != nil {
				return nil, &OriginError{fmt.Errorf("%w: %w", cerr, oerr.Err)}
			}
		}
		return nil, err
	}
	if err := origin.Close(); err != nil && n != f.cfg.Size {
		return nil, &OriginError{err}
	}
	if err := f.cfg.Check(sum, n); errors.Is(err, ErrAgain) {
		return nil, err
	} else if err != nil {
		return nil, &OriginError{err}
	}
	return sum, nil
}

// closeUnused closes the file once nobody uses it.
func (f *Fill) closeUnused() {
	f.mu.Lock()
	var file File
	if f.over && len(f.readers) == 0 {
		file, f.file = f.file, nil
	}
	f.mu.Unlock()
	if file == nil {
		return
	}
	if err := file.Close(); err != nil {
		f.cfg.Fault(err)
	}
}

// fault tells of an error of the file, and returns it as the fill's.
func (f *Fill) fault(err error) error {
	f.cfg.Fault(err)
	return fmt.Errorf("%w: %w", errFile, err)
}
