package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// A bigLayer is a layer of which both forms are files. It is what a bare
// read of a file reads, and an origin of caches that are filled in advance.
type bigLayer struct {
	tarPath, gzipPath string
	digest, diffID    v1.Hash
	tarSize, gzipSize int64
}

func (b *bigLayer) Digest() (v1.Hash, error)            { return b.digest, nil }
func (b *bigLayer) DiffID() (v1.Hash, error)            { return b.diffID, nil }
func (b *bigLayer) Size() (int64, error)                { return b.gzipSize, nil }
func (b *bigLayer) MediaType() (types.MediaType, error) { return types.DockerLayer, nil }
func (b *bigLayer) Compressed() (io.ReadCloser, error)  { return os.Open(b.gzipPath) }
func (b *bigLayer) layer() (v1.Layer, error)            { return partial.CompressedToLayer(b) }
func (b *bigLayer) openTar() (io.ReadCloser, error)     { return os.Open(b.tarPath) }
func (b *bigLayer) tarOnly() (l v1.Layer, err error)    { return partial.UncompressedToLayer(tarLayer{b}) }

// tarLayer is the big layer known only as a tar.
type tarLayer struct{ b *bigLayer }

func (t tarLayer) DiffID() (v1.Hash, error)             { return t.b.diffID, nil }
func (t tarLayer) Uncompressed() (io.ReadCloser, error) { return t.b.openTar() }
func (t tarLayer) MediaType() (types.MediaType, error)  { return types.DockerLayer, nil }

// makeBig writes both forms in one pass.
func (e *env) makeBig() (_ *bigLayer, err error) {
	b := &bigLayer{tarPath: e.path(), gzipPath: e.path()}
	tarFile, err := os.Create(b.tarPath)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tarFile.Close()) }()
	gzipFile, err := os.Create(b.gzipPath)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, gzipFile.Close()) }()

	digest, diffID := newCounter(), newCounter()
	z, err := gzip.NewWriterLevel(io.MultiWriter(gzipFile, digest), gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if err := writeTar(io.MultiWriter(tarFile, diffID, z), e.size); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	b.digest, b.gzipSize = digest.sum()
	b.diffID, b.tarSize = diffID.sum()
	return b, errors.Join(tarFile.Sync(), gzipFile.Sync()) // not while others are measured
}

// writeTar writes about size bytes that compress like a layer does: files of
// many sizes, most of them text that repeats itself, some not compressible.
func writeTar(w io.Writer, size int64) error {
	rnd := rand.New(rand.NewPCG(1, 2))
	words := make([][]byte, 3000)
	for i := range words {
		words[i] = fmt.Appendf(nil, "%x ", rnd.Uint64()>>(rnd.UintN(8)*8))
	}
	tw := tar.NewWriter(w)
	var body []byte
	for i, n := 0, int64(0); n < size; i++ {
		body = appendBody(body[:0], rnd, words, i)
		hdr := &tar.Header{Name: fmt.Sprintf("usr/lib/%d/file", i), Mode: 0o644, Size: int64(len(body))}
		if err := tw.WriteHeader(hdr); err != nil {
			return err
		}
		if _, err := tw.Write(body); err != nil {
			return err
		}
		n += 512 + (int64(len(body))+511)/512*512
	}
	return tw.Close()
}

func appendBody(body []byte, rnd *rand.Rand, words [][]byte, i int) []byte {
	size := int(rnd.ExpFloat64() * 30_000)
	for len(body) < size {
		switch {
		case i%12 == 0:
			body = binary.LittleEndian.AppendUint64(body, rnd.Uint64())
		case len(body) > 2000 && rnd.UintN(8) == 0: // a line that was there before
			at := rnd.IntN(len(body) - 100)
			body = append(body, body[at:at+100]...)
		default:
			body = append(body, words[rnd.IntN(rnd.IntN(len(words))+1)]...)
		}
	}
	return body
}

// smallLayer returns the nth layer of 1 KiB. Its digest is known already.
func smallLayer(n int) (v1.Layer, error) {
	b := make([]byte, 1024)
	rnd := rand.New(rand.NewPCG(3, uint64(n)))
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rnd.Uint64())
	}
	l := static.NewLayer(b, types.OCIUncompressedLayer)
	_, err := l.Digest()
	return l, err
}

// smallLayers returns n layers that nobody was given before.
func (e *env) smallLayers(n int) ([]v1.Layer, error) {
	layers := make([]v1.Layer, n)
	for i := range layers {
		e.layers++
		l, err := smallLayer(e.layers)
		if err != nil {
			return nil, err
		}
		layers[i] = l
	}
	return layers, nil
}

// counter hashes and counts what is written to it.
type counter struct {
	h interface {
		io.Writer
		Sum([]byte) []byte
	}
	n int64
}

func newCounter() *counter { return &counter{h: sha256.New()} }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.h.Write(p)
}

func (c *counter) sum() (v1.Hash, int64) {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(c.h.Sum(nil))}, c.n
}

// An opener opens something to be read.
type opener func() (io.ReadCloser, error)

// readLoop reads all, in pieces of 64 KiB as net/http does, and checks the
// number of bytes.
func readLoop(open opener, size int64) error {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	buf := make([]byte, 64<<10)
	for n := int64(0); ; {
		m, err := rc.Read(buf)
		n += int64(m)
		if err == io.EOF {
			return wantSize(n, size)
		}
		if err != nil {
			return err
		}
	}
}

// readCopy reads all by io.Copy, which takes whatever short cut the reader
// offers.
func readCopy(open opener, size int64) error {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	n, err := io.Copy(io.Discard, rc)
	if err != nil {
		return err
	}
	return wantSize(n, size)
}

func wantSize(got, want int64) error {
	if got != want {
		return fmt.Errorf("%d bytes instead of %d", got, want)
	}
	return nil
}

// verify reads all and checks the hash: outside of what is timed.
func verify(open opener, want v1.Hash) error {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	c := newCounter()
	if _, err := io.CopyBuffer(c, struct{ io.Reader }{rc}, make([]byte, 64<<10)); err != nil {
		return err
	}
	if got, n := c.sum(); got != want {
		return fmt.Errorf("read %d bytes of %s instead of %s", n, got, want)
	}
	return nil
}

// contentOf returns what a small layer holds.
func contentOf(l v1.Layer) ([]byte, error) {
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(rc)
	return b.Bytes(), err
}
