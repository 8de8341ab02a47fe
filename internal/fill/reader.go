package fill

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"runtime"
	"sync"
)

// Options are what one reader expects, and what it can fall back on.
type Options struct {
	// Own says that the reader's own origin is the one that the fill reads:
	// its errors are the reader's.
	Own bool
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
	rd.cleanup = runtime.AddCleanup(rd, func(c *core) {
		go func() { _ = c.close() }() // a cleanup must not block
	}, rd.core)
	return rd
}

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

	mu     sync.Mutex // may be locked while the fill's is held
	closed bool       // guarded by mu
	own    *closeOnce // guarded by mu: the reader's own origin, after the fill failed
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
		if rerr == io.EOF { // an error that wraps it is a failure
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

// Offset returns how many bytes were read.
func (r *Reader) Offset() int64 { return r.core.off }

// Close gives the reader's place up. Repeating it is harmless.
func (r *Reader) Close() error {
	r.cleanup.Stop()
	return r.core.close()
}

func (c *core) close() error {
	c.mu.Lock()
	own, already := c.own, c.closed
	c.closed = true
	c.mu.Unlock()
	if already {
		return nil
	}
	c.ref.Leave() // wakes a Read of ours that waits
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

var errClosed = errors.New("read of a closed layer")

func (c *core) read(p []byte) (int, error) {
	if c.isClosed() {
		return 0, errClosed
	}
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	if own := c.origin(); own != nil {
		n, err := own.Read(p)
		c.off += int64(n)
		return n, err
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

// follow reads what the fill has, and waits for more if that was read
// already. It returns bytes or an error, never both.
func (c *core) follow(p []byte) (int, error) {
	f := c.ref.f
	f.want()
	f.mu.Lock()
	for c.off == f.size && !f.over && f.ctx.Err() == nil && !c.isClosed() && (!f.stalled || !c.canLeave()) {
		f.changed.Wait()
	}
	inFile := f.size - int64(len(f.tail))
	if f.err == nil && inFile <= c.off && c.off < f.size && !c.isClosed() {
		n := copy(p, f.tail[c.off-inFile:])
		f.readers[c.ref] = c.off + int64(n)
		f.changed.Broadcast()
		f.mu.Unlock()
		return n, nil
	}
	file, over, err, sum, stalled := f.file, f.over, f.err, f.sum, f.stalled
	f.mu.Unlock()

	switch {
	case c.isClosed():
		return 0, errClosed
	case err != nil:
		return 0, err // bytes of a failed fill are not worth reading
	case c.off < inFile:
		return c.readAt(file, p[:min(int64(len(p)), inFile-c.off)])
	case !over && f.ctx.Err() == nil && stalled:
		c.ref.Leave() // it may end, if only those wait for it that left
		return 0, errStalled
	case !over:
		return 0, context.Cause(f.ctx)
	case c.o.Check != nil:
		if err := c.o.Check(sum, c.off); err != nil {
			return 0, expectation{err}
		}
	}
	return 0, io.EOF
}

// readAt reads from the fill's file.
func (c *core) readAt(file File, p []byte) (int, error) {
	n, err := file.ReadAt(p, c.off)
	switch {
	case n > 0:
		return n, nil
	case c.isClosed(): // and so may be the file
		return 0, errClosed
	}
	return 0, c.ref.f.fault(err)
}
