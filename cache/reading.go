package cache

import (
	"cmp"
	"context"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/layout"
)

// contents is what reading a blob to its end tells.
type contents struct {
	digest       v1.Hash
	format       compression.Format
	decompressed bool
	diffID       v1.Hash // if it was decompressed
	broken       error   // why it was not, though it was tried
}

const scrubChunk = 64 << 10

// A reading is one pass over a blob, at the pace that the scrub allows.
type reading struct {
	ctx context.Context
	s   *scrub
	b   *layout.Blob
	p   *progress

	err     error // of the file
	stopped error // of the context
}

// read hashes the blob, and what it decompresses to if that is wanted, in one
// pass.
func (r *reading) read(alg, diffAlg string, decompress bool) (c contents) {
	prefix := make([]byte, compression.DetectLen)
	n, _ := r.b.ReadAt(prefix, 0)
	c.format = compression.Detect(prefix[:n])

	h := newHash(alg)
	all := io.TeeReader(r, h)
	if decompress {
		diff := newHash(diffAlg)
		d := r.s.c.decompress(io.NopCloser(all), r.b.Name())
		_, err := io.CopyBuffer(struct{ io.Writer }{diff}, struct{ io.Reader }{d}, make([]byte, scrubChunk))
		c.decompressed, c.diffID, c.broken = err == nil, sumHash(diffAlg, diff.Sum(nil)), errors.Join(err, d.Close())
	}
	_, _ = io.CopyBuffer(io.Discard, struct{ io.Reader }{all}, make([]byte, scrubChunk)) // the error is in r
	c.digest = sumHash(alg, h.Sum(nil))
	return c
}

// Read implements io.Reader.
func (r *reading) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		r.stopped = context.Cause(r.ctx)
		return 0, r.stopped
	}
	n, err := r.b.Read(p[:min(len(p), scrubChunk)])
	r.p.bytes.Add(int64(n))
	if werr := r.s.limit.WaitN(r.ctx, n); werr != nil { // it knows before the deadline has come
		r.stopped = cmp.Or(context.Cause(r.ctx), context.DeadlineExceeded)
		return 0, r.stopped
	}
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
