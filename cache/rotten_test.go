package cache_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// A blob rots in a way that its size, its time and its own checksums do not
// show. It decompresses to something else than it was verified to, and that
// shows: readers get what the origin has, and the right pair stays.
func TestRottenBlobDecompressed(t *testing.T) {
	tar := makeTar(1, 100_000)
	want := content{blob: stored(tar), tar: tar, mediaType: types.OCILayerZStd}
	for name, opts := range map[string][]cache.Option{"kept": nil, "not kept": {cache.WithoutTar()}} {
		t.Run(name, func(t *testing.T) {
			c := open(t, opts...)
			l := fake(want)
			checkForms(t, c.Layer(l), want)
			if name == "kept" {
				must(os.Remove(blobPath(dirOf(c), want.diffID())))
			}
			silently(t, blobPath(dirOf(c), want.digest()), []byte("rot in the middle of a frame"))
			got, err := tryRead(c.Layer(l).Uncompressed)
			if err == nil && !bytes.Equal(got, tar) || err != nil && !errors.Is(err, cache.ErrCorrupt) {
				t.Errorf("got %d bytes of %s, %v", len(got), digestOf(got), err)
			}
			checkForms(t, c.Layer(l), want)
			checkForms(t, mustGet(t, c, want.diffID()), want)
			if got := c.Stats().Repairs; got != 1 {
				t.Errorf("Repairs: got %d, want 1", got)
			}
		})
	}
}

// stored returns a zstd frame of raw blocks, without a checksum (RFC 8878,
// section 3.1.1).
func stored(b []byte) []byte {
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58} // a window of 2 MiB
	for len(b) > 0 {
		n := min(len(b), 100_000)
		head := n << 3
		if n == len(b) {
			head |= 1
		}
		out = append(append(out, byte(head), byte(head>>8), byte(head>>16)), b[:n]...)
		b = b[n:]
	}
	return out
}

// A reader of a layer that is compressed for it alone is dropped, and lets go
// of the tar; the helpers look for what is left.
func TestDroppedCompressor(t *testing.T) {
	dir := t.TempDir()
	l, tar := fromTar(t, 3_000_000)
	c := openDir(t, dir)
	if err := c.FillUncompressed(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	only := openDir(t, dir, cache.WithReadOnly())
	drop(t, mustGet(t, only, digestOf(tar)), v1.Layer.Compressed)
	runtime.GC()

	// Another process removes the tar.
	packed := mustGet(t, only, digestOf(tar))
	if _, err := packed.Digest(); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(digestOf(tar)); err != nil {
		t.Fatal(err)
	}
	if _, err := tryRead(packed.Compressed); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

// After Close, layers of every kind say so.
func TestGetAfterClose(t *testing.T) {
	dir := t.TempDir()
	l, tar := fromTar(t, 10_000)
	c := openDir(t, dir)
	if err := c.FillUncompressed(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	only := openDir(t, dir, cache.WithReadOnly())
	fresh, resolved := mustGet(t, only, digestOf(tar)), mustGet(t, only, digestOf(tar))
	if _, err := resolved.Digest(); err != nil {
		t.Fatal(err)
	}
	if err := only.Close(); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]v1.Layer{"fresh": fresh, "resolved": resolved} {
		for _, form := range []func() (io.ReadCloser, error){got.Compressed, got.Uncompressed} {
			if _, err := tryRead(form); !errors.Is(err, cache.ErrClosed) {
				t.Errorf("%s: got %v, want ErrClosed", name, err)
			}
		}
	}
	if _, err := fresh.Digest(); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("Digest: got %v, want ErrClosed", err)
	}
}

// fromTar returns a layer that has only an uncompressed form.
func fromTar(t *testing.T, size int) (v1.Layer, []byte) {
	t.Helper()
	tar := makeTar(1, size)
	l, err := partial.UncompressedToLayer(&tarLayer{tar: tar})
	if err != nil {
		t.Fatal(err)
	}
	return l, tar
}
