package compression

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// ErrCorrupt is answered for compressed data that cannot be decompressed: it is
// damaged or truncated (then [io.ErrUnexpectedEOF] is answered too), something
// other than compressed data follows it, or it asks for what a [Reader] does
// not give, which is a zstd window above 128 MiB or a dictionary.
var ErrCorrupt = errors.New("corrupt compressed data")

var errReaderClosed = errors.New("compression: reader is closed")

const (
	// inputBuffer is how many compressed bytes are read at a time.
	inputBuffer = 32 << 10

	// chunk is what WriteTo hands on at a time. Fewer bytes cost more calls,
	// and writes to files get several times slower above this.
	chunk = 64 << 10
)

// Reader decompresses a stream. It starts no goroutines. One goroutine at a
// time may use it.
type Reader struct {
	format Format
	src    *source
	dec    io.Reader
	free   func() // lets go of dec's memory
	err    error  // what ended the stream, answered from then on
}

// NewReader returns a Reader of the decompressed form of r. It waits for the
// first [DetectLen] bytes of r and tells the format by them; bytes in none of
// the known formats are passed on as they are. The only errors it returns are
// those of r.
//
// The caller closes the Reader, and r after it.
func NewReader(r io.Reader) (*Reader, error) {
	src := &source{r: r}
	br := bufio.NewReaderSize(src, inputBuffer)
	prefix, err := br.Peek(DetectLen)
	if err != nil && err != io.EOF {
		return nil, err
	}

	d := &Reader{format: Detect(prefix), src: src, dec: br, free: func() {}}
	switch d.format {
	case Gzip:
		d.dec = &gzipReader{br: br}
	case Zstd:
		z, err := newZstdReader(br)
		if err != nil {
			return nil, err
		}
		d.dec, d.free = z, z.Close
	}
	return d, nil
}

// Format is the format that was detected.
func (r *Reader) Format() Format { return r.format }

// Read reads decompressed bytes. At io.EOF the compressed stream has been read
// to its end, and what checksums it has were right: until then, bytes may turn
// out to be wrong. How many bytes a small stream decompresses to is not
// limited here.
//
// An error that r returned is passed through as it is; any other is an
// [ErrCorrupt]. Errors stay: later calls return the same.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	n, err := r.dec.Read(p)
	if err != nil {
		r.err = r.explain(err)
	}
	return n, r.err
}

// WriteTo writes the rest of the decompressed bytes to w, 64 KiB at a time, the
// last time fewer. Bytes that were decompressed before an error are written
// before it is returned. The errors are those of Read and of w; after an error
// of w, bytes are lost and Read returns it too.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	buf := make([]byte, chunk)
	for r.err == nil {
		n := r.fill(buf)
		if n == 0 {
			continue
		}
		written, err := w.Write(buf[:n])
		total += int64(written)
		if err == nil && written < n {
			err = io.ErrShortWrite
		}
		if err != nil {
			r.err = err
		}
	}
	if r.err == io.EOF {
		return total, nil
	}
	return total, r.err
}

// fill reads until buf is full or the stream has ended.
func (r *Reader) fill(buf []byte) int {
	n := 0
	for n < len(buf) && r.err == nil {
		m, _ := r.Read(buf[n:]) // the error is r.err
		n += m
	}
	return n
}

// explain turns an error of the decompressor into the one to return.
func (r *Reader) explain(err error) error {
	// Looked at first, also when err is io.EOF: the zstd decoder takes an
	// io.ErrUnexpectedEOF of its input between two frames, such as a cut
	// connection's, for the regular end.
	if srcErr := r.src.err; srcErr != nil && srcErr != io.EOF {
		return srcErr
	}
	if err == io.EOF || err == io.ErrNoProgress { // the latter is bufio's word about r
		return err
	}
	return fmt.Errorf("compression: %s: %w: %w", r.format, ErrCorrupt, err)
}

// Close lets go of the memory the Reader holds, which for zstd may be 128 MiB,
// and makes later reads fail. It does not close the underlying reader, does
// not wait, and may be called again. It returns nil.
func (r *Reader) Close() error {
	r.free()
	r.dec, r.free, r.err = nil, func() {}, errReaderClosed
	return nil
}

// source remembers how its reader failed, to tell that from corrupt data.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.err = err
	return n, err
}
