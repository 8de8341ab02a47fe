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

// A File is where a fill's bytes go. Close discards them, unless the
// caller's Commit made them something that stays.
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
}

// A Config says what a fill does.
type Config struct {
	// Open opens the origin. The context ends when the fill is aborted.
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
	// is the origin's.
	Check func(sum []byte, n int64) error
	// Commit makes the file a blob. Its error is the cache's: readers have
	// got the right bytes and do not see it.
	Commit func(sum []byte, n int64) error
	// Fault is told of errors of the file and of Commit.
	Fault func(error)
	// Wanted is called once, when a reader first reads. It may be nil.
	Wanted func()
	// Done is called when the fill has committed or failed.
	Done func()
	// Slots bounds how many fills read at a time, nil does not.
	Slots *Slots
	// Once says that the origin can be read only once: if the file fails, the
	// readers get the rest from the origin, at the pace of the slowest.
	Once bool
	// Persist finishes a fill that its readers abandoned, once they have
	// read something.
	Persist bool
}

// linger is how much further a fill reads after its last reader has left, in
// bytes and in time: enough for the end of an archive whose end marker was
// the last that the reader wanted.
const (
	lingerBytes = 1 << 20
	lingerTime  = 5 * time.Second
)

// chunk is the size of the writes. Larger ones are slower.
const chunk = 64 << 10

var (
	errAbandoned = errors.New("all readers left")
	errFile      = errors.New("the fill cannot be kept")
)

// A Fill is one pass over an origin. It is safe for concurrent use.
type Fill struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelCauseFunc
	opened chan struct{} // closed when the origin is open, or could not be
	ended  chan struct{} // closed when all is over but for the readers

	mu       sync.Mutex
	changed  *sync.Cond // on mu: anything below changed
	file     File       // guarded by mu, as is all below; set before opened is closed
	size     int64      // bytes that can be read
	over     bool       // no more will come
	err      error      // why not: nil if all is there, checked and committed
	sum      []byte     // of all bytes, if all are there
	readers  int
	wanted   bool  // a reader has read
	leftAt   int64 // size when the last reader left
	isOpened bool
	openErr  error // why the origin was not opened

	handing bool            // the file failed, and bytes go from hand to hand
	tail    []byte          // then: the last bytes before size, which are in no file
	offsets map[*core]int64 // up to where each reader has read, if Config.Once
}

// Start starts a fill with one reader.
func Start(ctx context.Context, cfg Config) (*Fill, *Ref) {
	f := &Fill{cfg: cfg, offsets: map[*core]int64{}, opened: make(chan struct{}), ended: make(chan struct{}), readers: 1}
	f.changed = sync.NewCond(&f.mu)
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	go f.run()
	return f, &Ref{f: f}
}

// Join adds a reader. It returns nil if the fill has failed or was
// abandoned: then another one is to be started.
func (f *Fill) Join() *Ref {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil || f.handing || f.ctx.Err() != nil || f.over && f.readers == 0 {
		return nil
	}
	f.readers++
	return &Ref{f: f}
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

	sum, err := f.fill()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		err = f.awaitReader()
	}
	if err == nil && !f.handing {
		f.mu.Unlock()
		n := f.size // nobody else writes it
		if cerr := f.cfg.Commit(sum, n); cerr != nil {
			f.cfg.Fault(cerr)
		}
		f.mu.Lock()
	}
	f.over, f.err, f.sum = true, err, sum
	f.setOpened(err)
	f.changed.Broadcast()
	f.closeFile()
}

// setOpened lets those go on who wait for the origin to be open. mu is held.
func (f *Fill) setOpened(err error) {
	if !f.isOpened {
		f.isOpened, f.openErr = true, err
		close(f.opened)
	}
}

// awaitReader waits until a reader has read, so that opening and closing
// leaves nothing behind. mu is held.
func (f *Fill) awaitReader() error {
	stop := context.AfterFunc(f.ctx, f.wake)
	defer stop()
	for !f.wanted {
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
		f.changed.Wait()
	}
	return nil
}

func (f *Fill) wake() {
	f.mu.Lock()
	f.changed.Broadcast()
	f.mu.Unlock()
}

// fill copies the origin into the file, hashes and checks it.
func (f *Fill) fill() ([]byte, error) {
	if err := f.cfg.Slots.acquire(f.ctx); err != nil {
		return nil, err
	}
	defer f.cfg.Slots.release()

	file, err := f.cfg.Create()
	if err != nil {
		return nil, f.fault(err)
	}
	f.mu.Lock()
	f.file = file
	f.mu.Unlock()

	rc, err := f.cfg.Open(f.ctx)
	if err != nil {
		return nil, &OriginError{err}
	}
	origin := &closeOnce{rc: rc}
	defer origin.Close() // before the slot is released
	stop := context.AfterFunc(f.ctx, func() { origin.Close() })
	defer stop()
	f.mu.Lock()
	f.setOpened(nil)
	f.mu.Unlock()

	h := startHasher(f.cfg.Hash)
	n, err := f.copy(origin, file, h)
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
	if err := f.cfg.Check(sum, n); err != nil {
		return nil, &OriginError{err}
	}
	return sum, nil
}

// copy is the loop of a fill. It publishes each chunk as it is written.
func (f *Fill) copy(origin io.Reader, file File, h *hasher) (n int64, err error) {
	for {
		buf := h.buffer()
		m, rerr := origin.Read(buf)
		if m > 0 {
			if err := f.keep(file, buf[:m], n+int64(m)); err != nil {
				return n, err
			}
			n += int64(m)
			if err := f.publish(n); err != nil {
				return n, err
			}
			h.write(buf[:m]) // the buffer is the hasher's from here on
		}
		switch {
		case rerr == io.EOF: //nolint:errorlint // an error that wraps io.EOF is a failure
			return n, nil
		case rerr != nil:
			return n, &OriginError{rerr}
		case f.cfg.Size >= 0 && n > f.cfg.Size:
			return n, nil // Check says what is wrong
		}
	}
}

// publish lets readers have the first n bytes, and looks whether there are
// any readers.
func (f *Fill) publish(n int64) error {
	f.mu.Lock()
	f.size = n
	f.changed.Broadcast()
	lingered := f.readers == 0 && !f.cfg.Persist && n-f.leftAt > lingerBytes
	if lingered {
		f.cancel(errAbandoned)
	}
	f.mu.Unlock()
	if lingered {
		return errAbandoned
	}
	return nil
}

// keep writes b, which are the bytes up to n, to the file.
func (f *Fill) keep(file File, b []byte, n int64) error {
	if !f.handing {
		err := f.cfg.Limit(n)
		if err == nil {
			_, err = file.Write(b)
		}
		if err == nil {
			return nil
		}
		err = f.fault(err)
		if !f.cfg.Once {
			return err
		}
	}
	return f.handOver(b, n)
}

// handOver gives b to the readers from memory, and waits until all have it.
func (f *Fill) handOver(b []byte, n int64) error {
	stop := context.AfterFunc(f.ctx, f.wake)
	defer stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handing, f.tail, f.size = true, b, n
	f.changed.Broadcast()
	for f.ctx.Err() == nil && !f.allHave(n) {
		f.changed.Wait()
	}
	return context.Cause(f.ctx)
}

// allHave reports whether every reader has read the first n bytes. mu is
// held.
func (f *Fill) allHave(n int64) bool {
	for _, off := range f.offsets {
		if off < n {
			return false
		}
	}
	return len(f.offsets) == f.readers
}

// leave takes a reader away.
func (f *Fill) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers--
	f.changed.Broadcast()
	if f.readers > 0 {
		return
	}
	f.closeFile()
	if f.over || f.wanted && f.cfg.Persist {
		return
	}
	f.leftAt = f.size
	if !f.wanted || f.cfg.Size-f.size > lingerBytes {
		f.cancel(errAbandoned)
		return
	}
	time.AfterFunc(lingerTime, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.readers == 0 && !f.over {
			f.cancel(errAbandoned)
		}
	})
}

// closeFile closes the file once nobody uses it. mu is held.
func (f *Fill) closeFile() {
	if f.over && f.readers == 0 && f.file != nil {
		if err := f.file.Close(); err != nil {
			f.cfg.Fault(err)
		}
		f.file = nil
	}
}

func (f *Fill) fault(err error) error {
	f.cfg.Fault(err)
	return fmt.Errorf("%w: %w", errFile, err)
}

// An OriginError is why a fill failed: an error of the origin it read, not
// of the cache.
type OriginError struct{ Err error }

func (e *OriginError) Error() string { return e.Err.Error() }
func (e *OriginError) Unwrap() error { return e.Err }

// closeOnce makes Close safe to repeat, also from another goroutine.
type closeOnce struct {
	rc   io.ReadCloser
	once sync.Once
	err  error
}

func (c *closeOnce) Read(p []byte) (int, error) { return c.rc.Read(p) }

func (c *closeOnce) Close() error {
	c.once.Do(func() { c.err = c.rc.Close() })
	return c.err
}
