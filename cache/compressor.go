package cache

import (
	"errors"
	"io"
	"io/fs"
	"runtime"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
)

// A compressor reads the compressed form of a tar. One that is
// dropped without Close lets go of the tar when it is collected.
type compressor struct{ pipe *io.PipeReader }

func (c *Cache) compress(tar index.Entry, s compression.Settings) (io.ReadCloser, error) {
	b, err := c.openBlob(tar)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c.missing(tar.Digest)
	}
	if err != nil && c.fills.isClosed() {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, err
	}
	c.count.compressions.Add(1)
	return compressStream(b, s), nil
}

// compressStream compresses a stream, and closes it.
func compressStream(tar io.ReadCloser, s compression.Settings) *compressor {
	pr, pw := io.Pipe()
	go func() {
		defer tar.Close()
		pw.CloseWithError(compressTo(pw, tar, s))
	}()
	r := &compressor{pr}
	runtime.AddCleanup(r, func(pr *io.PipeReader) { _ = pr.Close() }, pr)
	return r
}

func compressTo(pw io.Writer, tar io.Reader, s compression.Settings) error {
	w, err := compression.NewWriter(pw, s)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(w, struct{ io.Reader }{tar}, make([]byte, 64<<10))
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	return err
}

// Read implements io.Reader.
func (r *compressor) Read(p []byte) (int, error) {
	n, err := r.pipe.Read(p)
	runtime.KeepAlive(r)
	return n, err
}

// Close implements io.Closer.
func (r *compressor) Close() error { return r.pipe.Close() }
