package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/ocicache/ocicache/layout"
)

// A hit reads a blob at file speed. It also is an io.WriterTo, an
// io.ReaderAt and an io.Seeker. A blob that cannot be read to its end is
// read on from the origin, if there is one.
type hit struct {
	c     *Cache
	blob  *layout.Blob
	off   int64
	again func() (io.ReadCloser, error) // may be nil
	own   io.ReadCloser                 // the origin, once the blob failed
}

// Read implements io.Reader.
func (h *hit) Read(p []byte) (int, error) {
	if h.own != nil {
		return h.own.Read(p)
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
	return h.own.Read(p)
}

// ended handles the end of the blob: EOF if it is where it should be. Else
// it returns nil after it has gone over to the origin.
func (h *hit) ended(err error) error {
	if err == io.EOF && h.off == h.blob.Size {
		return io.EOF
	}
	if err == io.EOF {
		err = fmt.Errorf("%w: the file ends at %d of %d bytes", io.ErrUnexpectedEOF, h.off, h.blob.Size)
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
	if _, aerr := io.CopyN(io.Discard, own, h.off); aerr != nil {
		return errors.Join(aerr, own.Close())
	}
	h.own = own
	return nil
}

// WriteTo implements io.WriterTo, with whatever the system has to copy from
// a file.
func (h *hit) WriteTo(w io.Writer) (int64, error) {
	var n int64
	if h.own == nil {
		var err error
		n, err = h.blob.WriteTo(w)
		h.off += n
		h.c.count.bytesSaved.Add(n)
		if err == nil {
			err = io.EOF
		} else if !isReadError(err) {
			return n, err
		}
		if err := h.ended(err); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
	m, err := io.Copy(w, h.own)
	return n + m, err
}

// isReadError tells an error of reading the file from one of writing what
// was read.
func isReadError(err error) bool {
	var perr *fs.PathError
	return errors.As(err, &perr) && perr.Op == "read"
}

// ReadAt implements io.ReaderAt.
func (h *hit) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.blob.ReadAt(p, off)
	h.c.count.bytesSaved.Add(int64(n))
	return n, err
}

// Seek implements io.Seeker.
func (h *hit) Seek(offset int64, whence int) (int64, error) {
	off, err := h.blob.Seek(offset, whence)
	if err != nil {
		return off, err
	}
	h.off = off
	if h.own == nil {
		return off, nil
	}
	err = h.own.Close()
	h.own = nil
	return off, err
}

// Close implements io.Closer. Closing twice is harmless.
func (h *hit) Close() error {
	err := h.blob.Close()
	if errors.Is(err, fs.ErrClosed) {
		err = nil
	}
	if h.own != nil {
		err = errors.Join(err, h.own.Close())
	}
	return err
}
