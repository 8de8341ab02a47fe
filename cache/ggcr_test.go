package cache_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ocicache/ocicache/cache"
)

// These are the tests of go-containerregistry's pkg/v1/cache, said of ours:
// once through its Image and ImageIndex over our Cache, once through our own.

type wrapping struct {
	name  string
	image func(*cache.Cache, v1.Image) v1.Image
	index func(*cache.Cache, v1.ImageIndex) v1.ImageIndex
}

var wrappings = []wrapping{
	{"ggcr", func(c *cache.Cache, i v1.Image) v1.Image { return ggcrcache.Image(i, c) },
		func(c *cache.Cache, i v1.ImageIndex) v1.ImageIndex { return ggcrcache.ImageIndex(i, c) }},
	{"own", (*cache.Cache).Image, (*cache.Cache).ImageIndex},
}

func eachWrapping(t *testing.T, f func(t *testing.T, w wrapping)) {
	for _, w := range wrappings {
		t.Run(w.name, func(t *testing.T) { f(t, w) })
	}
}

func TestImage(t *testing.T) {
	eachWrapping(t, func(t *testing.T, w wrapping) {
		img, err := random.Image(1024, 5)
		if err != nil {
			t.Fatal(err)
		}
		img = w.image(open(t), img)
		for _, opts := range [][]validate.Option{nil, {validate.Fast}, nil, {validate.Fast}} {
			if err := validate.Image(img, opts...); err != nil {
				t.Errorf("validate.Image(%d options): %v", len(opts), err)
			}
		}
	})
}

func TestImageFastFirst(t *testing.T) {
	// In ggcr's cache, validate.Fast opens and closes each layer, and leaves
	// empty files that are served as layers.
	eachWrapping(t, func(t *testing.T, w wrapping) {
		img, err := random.Image(1024, 5)
		if err != nil {
			t.Fatal(err)
		}
		c := open(t)
		img = w.image(c, img)
		for _, opts := range [][]validate.Option{{validate.Fast}, nil} {
			if err := validate.Image(img, opts...); err != nil {
				t.Errorf("validate.Image(%d options): %v", len(opts), err)
			}
			if n := len(blobs(t, dirOf(c))); len(opts) == 1 && n != 0 {
				t.Errorf("validate.Fast left %d blobs", n)
			}
		}
	})
}

func TestImageIndex(t *testing.T) {
	eachWrapping(t, func(t *testing.T, w wrapping) {
		idx, err := random.Index(1024, 5, 2)
		if err != nil {
			t.Fatal(err)
		}
		child, err := random.Index(1024, 5, 2)
		if err != nil {
			t.Fatal(err)
		}
		idx = w.index(open(t), mutate.AppendManifests(idx, mutate.IndexAddendum{Add: child}))
		for _, opts := range [][]validate.Option{nil, {validate.Fast}, nil} {
			if err := validate.Index(idx, opts...); err != nil {
				t.Errorf("validate.Index(%d options): %v", len(opts), err)
			}
		}
	})
}

func TestLayersLazy(t *testing.T) {
	eachWrapping(t, func(t *testing.T, w wrapping) {
		img, err := random.Image(1024, 5)
		if err != nil {
			t.Fatal(err)
		}
		c := open(t)
		layers := layersOf(t, w.image(c, img))
		if got := len(blobs(t, dirOf(c))); got != 0 {
			t.Errorf("Layers left %d blobs, want none", got)
		}
		readAll(t, layers[0].Compressed)
		if got := len(blobs(t, dirOf(c))); got != 1 {
			t.Errorf("reading one layer left %d blobs, want 1", got)
		}
	})
}

func TestFilesystemCache(t *testing.T) {
	eachWrapping(t, func(t *testing.T, w wrapping) {
		const numLayers = 5
		img, err := random.Image(10, numLayers)
		if err != nil {
			t.Fatal(err)
		}
		c := open(t)
		img = w.image(c, img)
		layers := layersOf(t, img)

		read := func(what string, open func(v1.Layer) (io.ReadCloser, error), want int) {
			t.Helper()
			for _, l := range layers {
				readAll(t, func() (io.ReadCloser, error) { return open(l) })
			}
			files := blobs(t, dirOf(c))
			if got := len(files); got != want {
				t.Errorf("after reading %s: %d blobs, want %d", what, got, want)
			}
			for h, path := range files {
				if fi, err := os.Stat(path); err != nil || fi.Size() == 0 {
					t.Errorf("blob %s is empty (%v)", h, err)
				}
			}
		}
		read("compressed", v1.Layer.Compressed, numLayers)
		read("uncompressed", v1.Layer.Uncompressed, 2*numLayers)

		h, err := layers[0].Digest()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(h); err != nil {
			t.Errorf("Delete: %v", err)
		}
		if got, want := len(blobs(t, dirOf(c))), 2*numLayers-1; got != want {
			t.Errorf("after Delete: %d blobs, want %d", got, want)
		}
		wantNotFound(t, c, h)
		read("compressed again", v1.Layer.Compressed, 2*numLayers)
	})
}

func TestErrNotFound(t *testing.T) {
	c := open(t)
	for _, h := range []v1.Hash{
		{Algorithm: "fake", Hex: "not-found"},
		{Algorithm: "sha256", Hex: "../../../../etc/passwd"},
		{},
		digestOf([]byte("never put")),
	} {
		if _, err := c.Get(h); !errors.Is(err, cache.ErrNotFound) || !errors.Is(err, ggcrcache.ErrNotFound) {
			t.Errorf("Get(%q): %v", h, err)
		}
		if err := c.Delete(h); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Delete(%q): %v", h, err)
		}
	}
}

func TestErrUnexpectedEOF(t *testing.T) {
	c := open(t)
	want := makeLayer(1, 1000)
	readAll(t, c.Layer(fake(want)).Compressed)
	path := blobPath(dirOf(c), want.digest())
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	wantNotFound(t, c, want.digest())
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the truncated blob is still there: %v", err)
	}
	if got := c.Stats().Repairs; got != 1 {
		t.Errorf("Repairs: got %d, want 1", got)
	}
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	want, other := makeLayer(1, 1000), makeLayer(2, 1000)
	rw := openDir(t, dir)
	readAll(t, rw.Layer(fake(want)).Uncompressed)
	if err := rw.Flush(); err != nil {
		t.Fatal(err)
	}

	tree := func() (names []string) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := d.Info()
			names = append(names, fmt.Sprint(path, fi.Size(), fi.Mode(), fi.ModTime()))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	untouched := tree()
	ro := openDir(t, dir, cache.WithReadOnly())
	checkForms(t, mustGet(t, ro, want.digest()), want)
	checkForms(t, mustGet(t, ro, want.diffID()), want)

	before := len(blobs(t, dir))
	l, err := ro.Put(fake(other))
	if err != nil {
		t.Fatal(err)
	}
	checkForms(t, l, other)
	if got := len(blobs(t, dir)); got != before {
		t.Errorf("a read-only cache kept %d blobs", got-before)
	}
	for what, err := range map[string]error{"Delete": ro.Delete(want.digest()), "Flush": ro.Flush()} {
		if !errors.Is(err, cache.ErrReadOnly) {
			t.Errorf("%s: got %v, want ErrReadOnly", what, err)
		}
	}

	if got := tree(); !slices.Equal(got, untouched) {
		t.Errorf("a read-only cache changed the directory:\n%q\nit was\n%q", got, untouched)
	}

	// What another handle does shows.
	if err := rw.Delete(want.diffID()); err != nil {
		t.Fatal(err)
	}
	if err := rw.Delete(want.digest()); err != nil {
		t.Fatal(err)
	}
	wantNotFound(t, ro, want.digest())
	wantNotFound(t, ro, want.diffID())

	// ggcr's own ReadOnly works over ours.
	wrapped := ggcrcache.ReadOnly(rw)
	if err := wrapped.Delete(want.digest()); err != nil {
		t.Errorf("ReadOnly.Delete: %v", err)
	}
}
