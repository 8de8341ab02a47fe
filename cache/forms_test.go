package cache_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/compression"
)

// tarLayer is what has only an uncompressed form.
type tarLayer struct {
	tar   []byte
	opens int
}

func (l *tarLayer) DiffID() (v1.Hash, error)            { return digestOf(l.tar), nil }
func (l *tarLayer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }
func (l *tarLayer) Uncompressed() (io.ReadCloser, error) {
	l.opens++
	return io.NopCloser(bytes.NewReader(l.tar)), nil
}

// The compressed form of a layer that is known only as a tar.
func TestKnownOnlyAsTar(t *testing.T) {
	tar := makeTar(1, 500_000)
	for _, codec := range []compression.Settings{
		{}, {Format: compression.Gzip, Level: 9}, {Format: compression.Zstd, Level: 3},
	} {
		var opts []cache.Option
		if codec != (compression.Settings{}) {
			opts = append(opts, cache.WithCodec(codec))
		} else {
			codec = compression.DefaultSettings()
		}
		dir := t.TempDir()
		c := openDir(t, dir, opts...)
		inner := &tarLayer{tar: tar}
		built, err := partial.UncompressedToLayer(inner)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, c.Layer(built).Uncompressed); !bytes.Equal(got, tar) {
			t.Fatal("Uncompressed gave other bytes")
		}
		if inner.opens != 1 {
			t.Errorf("the tar was read %d times, want once: no digest was asked for", inner.opens)
		}

		l := mustGet(t, c, digestOf(tar))
		digest, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		blob := readAll(t, l.Compressed)
		if got := digestOf(blob); got != digest {
			t.Errorf("Compressed gave %s, Digest %s", got, digest)
		}
		want := content{blob: blob, tar: tar, mediaType: types.MediaType(compression.Compressed(string(types.OCILayer), codec.Format))}
		if compression.Detect(blob) != codec.Format {
			t.Errorf("compressed as %s, want %s", compression.Detect(blob), codec.Format)
		}
		checkFacts(t, l, want)
		checkForms(t, l, want)
		if codec.Format == compression.Gzip { // validate knows nothing else
			if err := validate.Layer(l); err != nil {
				t.Error(err)
			}
		}
		if got := c.Stats().Compressions; got != 1 {
			t.Errorf("compressed %d times, want once", got)
		}

		// The blob is made again of the tar, from what was recorded, by a
		// cache with another codec too; it is the same.
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(blobPath(dir, digest)); err != nil {
			t.Fatal(err)
		}
		again := openDir(t, dir, cache.WithCodec(compression.Settings{Format: compression.Gzip, Level: 5}))
		checkForms(t, mustGet(t, again, digest), want)
		checkForms(t, mustGet(t, again, digestOf(tar)), want)
		if got := again.Stats().Compressions; got != 1 {
			t.Errorf("compressed %d times again, want once", got)
		}
	}
}

// A pruned blob that somebody else compressed cannot be made again: it is a
// miss, and filled from the origin if there is one.
func TestRememberedPair(t *testing.T) {
	want := makeLayer(1, 100_000)
	c := open(t)
	l := fake(want)
	checkForms(t, c.Layer(l), want)
	if err := os.Remove(blobPath(dirOf(c), want.digest())); err != nil {
		t.Fatal(err)
	}
	wantNotFound(t, c, want.digest())

	byDiffID := mustGet(t, c, want.diffID())
	checkFacts(t, byDiffID, want) // remembered
	if got := readAll(t, byDiffID.Uncompressed); !bytes.Equal(got, want.tar) {
		t.Error("Uncompressed gave other bytes")
	}
	if _, err := byDiffID.Compressed(); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Compressed: got %v, want ErrNotFound", err)
	}
	checkForms(t, c.Layer(l), want)
	checkForms(t, mustGet(t, c, want.digest()), want)
}

// Several compressed forms of one diffID.
func TestVariants(t *testing.T) {
	gz := makeLayer(1, 100_000)
	zst := content{blob: zstded(gz.tar), tar: gz.tar, mediaType: types.OCILayerZStd}
	c := open(t)
	checkForms(t, c.Layer(fake(gz)), gz)
	checkForms(t, c.Layer(fake(zst)), zst)
	checkForms(t, mustGet(t, c, gz.digest()), gz)
	checkForms(t, mustGet(t, c, zst.digest()), zst)
	checkForms(t, mustGet(t, c, gz.diffID()), gz) // the first is preferred
	if err := c.Delete(gz.digest()); err != nil {
		t.Fatal(err)
	}
	checkForms(t, mustGet(t, c, gz.diffID()), zst)
}

func TestWithoutTar(t *testing.T) {
	want := makeLayer(1, 100_000)
	c := open(t, cache.WithoutTar())
	l := fake(want)
	checkForms(t, c.Layer(l), want)
	checkForms(t, c.Layer(l), want)
	if got := l.opens.Load(); got != 1 {
		t.Errorf("the origin was opened %d times, want once", got)
	}
	if n := len(blobs(t, dirOf(c))); n != 1 {
		t.Errorf("%d blobs, want the compressed one", n)
	}
	checkForms(t, mustGet(t, c, want.diffID()), want) // the pair is known
}

// A layer whose blob is a gzip of a gzip: its diffID is another's digest.
func TestTwiceCompressed(t *testing.T) {
	inner := makeLayer(1, 50_000)
	outer := content{blob: gzipped(inner.blob), tar: inner.blob, mediaType: types.DockerLayer}
	c := open(t)
	checkForms(t, c.Layer(fake(outer)), outer)
	checkForms(t, c.Layer(fake(inner)), inner)
	checkForms(t, mustGet(t, c, inner.digest()), inner) // the digest wins
	checkForms(t, mustGet(t, c, outer.digest()), outer)
	checkForms(t, mustGet(t, c, inner.diffID()), inner)
}

// The reader of what is on disk can do what a file can.
func TestHitReader(t *testing.T) {
	want := makeLayer(1, 200_000)
	c := open(t)
	l := c.Layer(fake(want))
	checkForms(t, l, want)
	rc, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	got := make([]byte, 100)
	if _, err := rc.(io.ReaderAt).ReadAt(got, 1000); err != nil || !bytes.Equal(got, want.tar[1000:1100]) {
		t.Errorf("ReadAt: %v", err)
	}
	if _, err := rc.(io.Seeker).Seek(5000, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var rest bytes.Buffer
	if n, err := rc.(io.WriterTo).WriteTo(&rest); err != nil || n != int64(len(want.tar)-5000) || !bytes.Equal(rest.Bytes(), want.tar[5000:]) {
		t.Errorf("WriteTo: %d bytes, %v", n, err)
	}
	if n, err := rc.Read(got); n != 0 || err != io.EOF {
		t.Errorf("Read at the end: %d, %v", n, err)
	}
}
