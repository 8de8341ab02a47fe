package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sync"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/layout"
)

// A hit reads a blob at file speed. It also is an io.WriterTo, an
// io.ReaderAt and an io.Seeker. A blob that cannot be read to its end is
// read on from the origin, if there is one, unless Seek was called. Close may
// be called while another goroutine reads.
type hit struct {
	c     *Cache
	blob  *layout.Blob
	off   int64
	again func() (io.ReadCloser, error) // nil: there is no origin, or Seek was called

	use     *blobUse
	dropped runtime.Cleanup // ends the use, unless Close does

	mu     sync.Mutex
	closed bool          // guarded by mu
	own    io.ReadCloser // guarded by mu: the origin, once the blob failed
}

func (c *Cache) newHit(h v1.Hash, b *layout.Blob, again func() (io.ReadCloser, error)) *hit {
	hit := &hit{c: c, blob: b, again: again, use: c.uses.begin(h, c.now())}
	hit.dropped = runtime.AddCleanup(hit, c.uses.done, hit.use)
	return hit
}

// done ends the use. It is called once.
func (h *hit) done() {
	h.dropped.Stop()
	runtime.KeepAlive(h) // else dropped may be under way
	h.c.uses.done(h.use)
}

// Read implements io.Reader.
func (h *hit) Read(p []byte) (int, error) {
	if own := h.origin(); own != nil {
		return own.Read(p)
	}
	n, err := h.blob.Read(p)
	h.off += int64(n)
	h.c.count.bytesSaved.Add(int64(n))
	if n > 0 || len(p) == 0 {
		return n, nil // an error comes again
	}
	if err := h.ended(err); err != nil {
		return 0, err
	}
	return h.origin().Read(p)
}

func (h *hit) origin() io.ReadCloser {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.own
}

// ended handles the end of the blob: EOF if it is where it should be. Else
// it returns nil after it has gone over to the origin.
func (h *hit) ended(err error) error {
	switch {
	case errors.Is(err, fs.ErrClosed), err == io.EOF && h.off >= h.blob.Size:
		return err
	case err == io.EOF:
		err = fmt.Errorf("%w: %s ends at %d of %d bytes", io.ErrUnexpectedEOF, h.blob.Name(), h.off, h.blob.Size)
	}
	h.c.o.log.Warn("cannot read a blob to its end", "file", h.blob.Name(), "err", err)
	if h.again == nil {
		return err
	}
	h.c.count.fallbacks.Add(1)
	own, aerr := h.again()
	if aerr != nil {
		return aerr
	}
	if cerr := h.skip(own); cerr != nil {
		return errors.Join(err, cerr, own.Close())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errors.Join(fs.ErrClosed, own.Close())
	}
	h.own = own
	return nil
}

// skip reads from the origin what was delivered already. That cannot be taken
// back, so what the blob still has of it must be the same: it may have been
// written in place.
func (h *hit) skip(own io.Reader) error {
	theirs, ours := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); at < h.off; {
		n, err := io.ReadFull(own, theirs[:min(int64(len(theirs)), h.off-at)])
		if err != nil {
			return err
		}
		m, _ := h.blob.ReadAt(ours[:n], at) // what cannot be read any more cannot be compared
		if !bytes.Equal(theirs[:m], ours[:m]) {
			return fmt.Errorf("%w: %s was changed while it was read", ErrCorrupt, h.blob.Name())
		}
		at += int64(n)
	}
	return nil
}

// WriteTo implements io.WriterTo, with whatever the system has to copy from
// a file.
func (h *hit) WriteTo(w io.Writer) (int64, error) {
	var n int64
	if h.origin() == nil {
		var err error
		n, err = h.blob.WriteTo(w)
		h.off += n
		h.c.count.bytesSaved.Add(n)
		if err == nil {
			err = io.EOF
		} else if !h.failed(err) {
			return n, err
		}
		if err := h.ended(err); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
	m, err := io.Copy(w, h.origin())
	return n + m, err
}

// failed tells whether it was the blob that could not be copied, or whatever
// it was copied to: the system's own copying does not say.
func (h *hit) failed(err error) bool {
	if errors.Is(err, syscall.EIO) {
		return true
	}
	_, err = h.blob.ReadAt(make([]byte, 1), h.off)
	return err != nil && err != io.EOF
}

// ReadAt implements io.ReaderAt. It does not fall back on the origin.
func (h *hit) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.blob.ReadAt(p, off)
	h.c.count.bytesSaved.Add(int64(n))
	if err == io.EOF && off+int64(n) < h.blob.Size {
		err = fmt.Errorf("%w: %s ends at %d of %d bytes", io.ErrUnexpectedEOF, h.blob.Name(), off+int64(n), h.blob.Size)
	}
	return n, err
}

// Seek implements io.Seeker. From then on, what the blob does not have is an
// error: what the origin has cannot be compared with it.
func (h *hit) Seek(offset int64, whence int) (int64, error) {
	if h.origin() != nil {
		return 0, fmt.Errorf("cache: seek in %s: it is being read from its origin", h.blob.Name())
	}
	off, err := h.blob.Seek(offset, whence)
	if err == nil {
		h.off, h.again = off, nil
	}
	return off, err
}

// Close implements io.Closer. Closing twice is harmless.
func (h *hit) Close() error {
	h.mu.Lock()
	own := h.own
	already := h.closed
	h.closed = true
	h.mu.Unlock()
	if already {
		return nil
	}
	h.done()
	_ = h.blob.Close() // it was only read
	if own != nil {
		return own.Close()
	}
	return nil
}
