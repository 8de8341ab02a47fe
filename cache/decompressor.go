package cache

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ocicache/ocicache/compression"
)

// A decompressor reads the uncompressed form of a stream, and closes the
// stream. Close may be called while another goroutine reads.
type decompressor struct {
	src io.ReadCloser
	max int64 // bytes that may come out

	name string // of src, for errors

	mu sync.Mutex
	r  *compression.Reader // guarded by mu; made by the first Read
	n  int64               // guarded by mu

	corrupt func() // called once src is found to be whole, yet broken; may be nil
}

// Read implements io.Reader. If the data are broken because src is, which
// shows only at its end, the error is src's.
func (d *decompressor) Read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.r == nil {
		r, err := compression.NewReader(d.src)
		if err != nil {
			return 0, err
		}
		d.r = r
	}
	n, err := d.r.Read(p)
	d.n += int64(n)
	if d.n > d.max {
		return n, fmt.Errorf("cache: %s: %w of %d bytes", d.name, ErrTooLarge, d.max)
	}
	if errors.Is(err, compression.ErrCorrupt) {
		if _, serr := io.Copy(io.Discard, d.src); serr != nil {
			return n, serr
		}
		if d.corrupt != nil {
			d.corrupt()
		}
		err = fmt.Errorf("cache: %s: %w", d.name, err)
	}
	return n, err
}

// Close implements io.Closer.
func (d *decompressor) Close() error {
	err := d.src.Close() // lets a Read that waits for it go on
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.r != nil {
		err = errors.Join(err, d.r.Close())
	}
	return err
}
