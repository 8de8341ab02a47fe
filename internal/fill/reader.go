package fill

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"runtime"
	"sync"
)

// A Ref is a place among a fill's readers. It is given up by handing it to
// [NewReader], or by Leave.
type Ref struct {
	f    *Fill
	once sync.Once
}

// Leave gives the place up. Repeating it is harmless.
func (r *Ref) Leave() { r.once.Do(r.f.leave) }

// Opened waits until the origin is open. It returns an [*OriginError] if it
// could not be opened, another error if the fill came to an end before.
func (r *Ref) Opened() error {
	<-r.f.opened
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.f.openErr
}

// Wait waits until the fill is over, as a reader that wants all of it and
// none of the bytes. It returns the fill's error, or the context's.
func (r *Ref) Wait(ctx context.Context) error {
	r.f.want()
	select {
	case <-r.f.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.f.err
}

// want notes that somebody reads.
func (f *Fill) want() {
	f.mu.Lock()
	first := !f.wanted
	f.wanted = true
	f.changed.Broadcast()
	f.mu.Unlock()
	if first && f.cfg.Wanted != nil {
		f.cfg.Wanted()
	}
}

// Options are what one reader expects, and what it can fall back on.
type Options struct {
	// Own says that the reader's own origin is the one that the fill reads:
	// its errors are the reader's.
	Own bool
	// Lazy says that reading is not yet wanting: see [Reader.Want].
	Lazy bool
	// Again reads the reader's own origin from the start, checking all that
	// Check would. It is used when the fill fails and the bytes can still be
	// had. It may be nil.
	Again func() (io.ReadCloser, error)
	// Check is called with the hash and the number of all bytes before EOF
	// is given. It may be nil.
	Check func(sum []byte, n int64) error
	// Fallback is told when Again is used, and why. It may be nil.
	Fallback func(error)
}

// NewReader reads what the fill of r reads. EOF comes only after all bytes
// were checked and committed. A reader that is dropped without Close gives
// its place up when it is collected.
func NewReader(r *Ref, o Options) *Reader {
	rd := &Reader{core: &core{ref: r, o: o}}
	rd.core.sum.SetSeed(seed)
	if r.f.cfg.Once {
		r.f.mu.Lock()
		r.f.offsets[rd.core] = 0
		r.f.mu.Unlock()
	}
	rd.cleanup = runtime.AddCleanup(rd, func(c *core) { c.close() }, rd.core)
	return rd
}

var seed = maphash.MakeSeed()

// A Reader follows a fill. Read and Close may be called by different
// goroutines; otherwise it is for one.
type Reader struct {
	core    *core
	cleanup runtime.Cleanup
}

// core is what a Reader consists of, so that the Reader can be collected
// while the fill goes on.
type core struct {
	ref *Ref
	o   Options
	off int64
	sum maphash.Hash // of what was delivered, to compare another origin with
	err error        // what Read goes on to return

	mu     sync.Mutex
	closed bool          // guarded by mu
	own    io.ReadCloser // guarded by mu: the reader's own origin, after the fill failed
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.core.read(p)
	runtime.KeepAlive(r)
	return n, err
}

// WriteTo implements io.WriterTo.
func (r *Reader) WriteTo(w io.Writer) (n int64, err error) {
	buf := make([]byte, chunk)
	for {
		m, rerr := r.Read(buf)
		if m > 0 {
			wn, werr := w.Write(buf[:m])
			n += int64(wn)
			if werr != nil {
				return n, werr
			}
			if wn < m {
				return n, io.ErrShortWrite
			}
		}
		if rerr == io.EOF { //nolint:errorlint // an error that wraps io.EOF is a failure
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

// Want says that what a lazy reader reads is wanted: without that, the fill
// is not committed, and gives no EOF.
func (r *Reader) Want() { r.core.ref.f.want() }

// Offset returns how many bytes were read.
func (r *Reader) Offset() int64 { return r.core.off }

// Close gives the reader's place up. Repeating it is harmless.
func (r *Reader) Close() error {
	r.cleanup.Stop()
	return r.core.close()
}

func (c *core) close() error {
	c.mu.Lock()
	own := c.own
	already := c.closed
	c.closed, c.own = true, nil
	c.mu.Unlock()
	if already {
		return nil
	}
	f := c.ref.f
	f.mu.Lock()
	delete(f.offsets, c)
	f.changed.Broadcast() // a Read of ours may be waiting
	f.mu.Unlock()
	c.ref.Leave()
	if own != nil {
		return own.Close()
	}
	return nil
}

func (c *core) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// origin returns the reader's own origin if it has fallen back on it.
func (c *core) origin() io.ReadCloser {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.own
}

func (c *core) read(p []byte) (int, error) {
	if c.isClosed() {
		return 0, errClosed
	}
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	if own := c.origin(); own != nil {
		return own.Read(p)
	}
	n, err := c.follow(p)
	if n > 0 {
		c.off += int64(n)
		c.sum.Write(p[:n])
		return n, nil // an error comes again
	}
	if c.canFallBack(err) {
		if err = c.fallBack(err); err == nil {
			return c.read(p)
		}
	}
	c.err = plain(err)
	return 0, c.err
}

// plain takes off what this package wrapped an error in.
func plain(err error) error {
	var own expectation
	var origin *OriginError
	switch {
	case errors.As(err, &own):
		err = own.error
	case errors.As(err, &origin) && origin.Err == io.EOF: //nolint:errorlint // EOF itself would read as success
		err = io.ErrUnexpectedEOF
	case errors.As(err, &origin):
		err = origin.Err
	}
	return err
}

var errClosed = errors.New("read of a closed layer")

// follow reads from the fill's file, and waits for it to grow. It returns
// bytes or an error, never both.
func (c *core) follow(p []byte) (int, error) {
	f := c.ref.f
	if !c.o.Lazy {
		f.want()
	}
	f.mu.Lock()
	if f.cfg.Once {
		f.offsets[c] = c.off
		f.changed.Broadcast()
	}
	for f.size == c.off && !f.over && !c.isClosed() {
		f.changed.Wait()
	}
	file, size, err, sum := f.file, f.size, f.err, f.sum
	if inFile := size - int64(len(f.tail)); f.handing && inFile <= c.off && c.off < size {
		n := copy(p, f.tail[c.off-inFile:])
		f.mu.Unlock()
		return n, nil
	} else if f.handing {
		size = max(inFile, c.off)
	}
	f.mu.Unlock()

	switch {
	case c.isClosed():
		return 0, errClosed
	case err != nil:
		return 0, err // bytes of a failed fill are not worth reading
	case size > c.off:
		n, err := file.ReadAt(p[:min(int64(len(p)), size-c.off)], c.off)
		if n > 0 {
			return n, nil
		}
		return 0, f.fault(err)
	case c.o.Check != nil:
		if err := c.o.Check(sum, size); err != nil {
			return 0, expectation{err}
		}
	}
	return 0, io.EOF
}

// An expectation of the reader's own was not met: another origin would not
// meet it either.
type expectation struct{ error }

func (e expectation) Unwrap() error { return e.error }

// canFallBack reports whether the reader's own origin may do better than the
// fill did.
func (c *core) canFallBack(err error) bool {
	if c.o.Again == nil || err == io.EOF || errors.Is(err, errClosed) || errors.Is(err, ErrStopped) { //nolint:errorlint // io.EOF is success only as itself
		return false
	}
	var own expectation
	var origin *OriginError
	return !errors.As(err, &own) && !(c.o.Own && errors.As(err, &origin))
}

// Sum returns the hash of all bytes, after Wait has returned no error.
func (r *Ref) Sum() []byte {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.f.sum
}

// ErrStopped is the cause to cancel a fill's context with when no reader
// shall go on.
var ErrStopped = errors.New("stopped")

// fallBack opens the reader's own origin, reads again what was delivered
// already, and compares.
func (c *core) fallBack(cause error) error {
	if c.o.Fallback != nil {
		c.o.Fallback(cause)
	}
	own, err := c.o.Again()
	if err != nil {
		return err
	}
	var again maphash.Hash
	again.SetSeed(seed)
	n, err := io.Copy(&again, io.LimitReader(own, c.off))
	if err == nil && (n != c.off || again.Sum64() != c.sum.Sum64()) {
		err = cause // the origins differ, and what was delivered cannot be taken back
	}
	c.mu.Lock()
	closed := c.closed
	if err == nil && !closed {
		c.own = own
	}
	c.mu.Unlock()
	if closed && err == nil {
		err = errClosed
	}
	if err != nil {
		own.Close()
	}
	return err
}
