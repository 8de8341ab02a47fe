package compression

import (
	"bufio"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// gzipReader reads the members of a gzip stream one by one. The library could
// do it alone, but it takes a stream that is cut within the file name or
// comment of a later member's header for a complete one.
type gzipReader struct {
	br *bufio.Reader
	z  gzip.Reader
	in bool // within a member
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		if !g.in {
			if err := g.next(); err != nil {
				return 0, err
			}
		}
		n, err := g.z.Read(p)
		if err != io.EOF {
			return n, err
		}
		g.in = false
		if n > 0 {
			return n, nil
		}
	}
}

// next begins a member. The only regular end of a gzip stream is the end of
// its input after a member: bytes that are no member are an error, zeros too,
// as in the standard library.
func (g *gzipReader) next() error {
	if _, err := g.br.Peek(1); err != nil {
		return err
	}
	err := g.z.Reset(g.br)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	g.z.Multistream(false) // Reset turned it on
	g.in = err == nil
	return err
}

// maxWindow bounds the window a zstd frame may ask for, in bytes. The decoder
// allocates it before it has decompressed anything. 128 MiB is what the zstd command
// accepts unless told otherwise, and what it needs for its --long and --ultra
// -22; the library's own limit, which containerd leaves as it is, is 512 MiB.
const maxWindow = 128 << 20

func newZstdReader(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r,
		zstd.WithDecoderMaxWindow(maxWindow),
		// Decompress in the caller's goroutine. A cache reads several layers
		// at once, which uses the processors better than three goroutines a
		// layer, and a Reader that is dropped has nothing to leave behind.
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
	)
}
