package cache_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

func mustDigest(t *testing.T, s string) name.Digest {
	t.Helper()
	d, err := name.NewDigest(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func readTar(t *testing.T, r io.Reader) {
	t.Helper()
	tr := tar.NewReader(r)
	for {
		if _, err := tr.Next(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// liar returns an image whose config claims a diffID for a layer that
// decompresses to something else.
func liar(t *testing.T, l content, claim v1.Hash) v1.Image {
	t.Helper()
	f := fake(l)
	f.claim = claim
	return imageOf(t, f)
}

// An image that lies about its diffID cannot place its bytes under it.
func TestLiar(t *testing.T) {
	honest, evil := makeLayer(1, 100_000), makeLayer(2, 100_000)
	for name, reads := range map[string][]func(v1.Layer) (io.ReadCloser, error){
		"compressed":   {v1.Layer.Compressed},
		"uncompressed": {v1.Layer.Uncompressed},
		"both":         {v1.Layer.Compressed, v1.Layer.Uncompressed},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			lie := layersOf(t, c.Image(liar(t, evil, honest.diffID())))[0]
			for _, form := range reads {
				_, _ = tryRead(func() (io.ReadCloser, error) { return form(lie) }) // it may fail, and must do no harm
			}

			if l, err := c.Get(honest.diffID()); err == nil {
				// All that there is is a claim. It must not decide anything.
				if b, err := tryRead(l.Compressed); err == nil {
					t.Errorf("Compressed gave %d bytes of %s", len(b), digestOf(b))
				}
				if d, err := l.Digest(); err == nil {
					t.Errorf("Digest gave %s", d)
				}
				if _, err := l.Size(); err == nil {
					t.Error("Size gave one")
				}
				var mismatch *cache.DigestMismatchError
				if _, err := tryRead(l.Uncompressed); err == nil {
					t.Error("Uncompressed gave EOF")
				} else if !errors.As(err, &mismatch) && !errors.Is(err, cache.ErrNotFound) {
					t.Errorf("Uncompressed: %v", err)
				}
			}
			wantNotFound(t, c, honest.diffID()) // the claim was refuted, and stays so

			var mismatch *cache.DigestMismatchError
			if _, err := tryRead(lie.Uncompressed); !errors.As(err, &mismatch) {
				t.Errorf("reading the liar: got %v, want a DigestMismatchError", err)
			} else if mismatch.Want != honest.diffID() || mismatch.Got != evil.diffID() {
				t.Errorf("got %v", mismatch)
			}

			// The honest image, and the honest name of the liar's layer, work.
			checkForms(t, layersOf(t, c.Image(imageOf(t, fake(honest))))[0], honest)
			checkForms(t, mustGet(t, c, honest.diffID()), honest)
			checkForms(t, mustGet(t, c, evil.digest()), evil)
			checkForms(t, mustGet(t, c, evil.diffID()), evil)
		})
	}
}

// A liar and an honest image of one digest share a fill. Only the liar's
// reader fails.
func TestLiarSharesFill(t *testing.T) {
	honest, other := makeLayer(1, 500_000), makeLayer(2, 1000)
	for _, liarFirst := range []bool{true, false} {
		c := open(t)
		gate := make(chan struct{})
		slow := func() (io.ReadCloser, error) {
			return &gatedReader{r: bytes.NewReader(honest.blob), gate: gate}, nil
		}
		good, bad := fake(honest), fake(honest)
		good.compressed, bad.compressed = slow, slow
		bad.claim = other.diffID()
		images := []v1.Image{imageOf(t, good), imageOf(t, bad)}
		order := []int{0, 1}
		if liarFirst {
			order = []int{1, 0}
		}
		got := make([][]byte, 2)
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for _, n := range order {
			l := layersOf(t, c.Image(images[n]))[0]
			wg.Go(func() { got[n], errs[n] = tryRead(l.Uncompressed) })
		}
		close(gate)
		wg.Wait()
		if errs[0] != nil || !bytes.Equal(got[0], honest.tar) {
			t.Errorf("liar first %v: honest reader: %d bytes, %v", liarFirst, len(got[0]), errs[0])
		}
		var mismatch *cache.DigestMismatchError
		if !errors.As(errs[1], &mismatch) {
			t.Errorf("liar first %v: liar's reader: %v, want a DigestMismatchError", liarFirst, errs[1])
		}
		if n := good.opens.Load() + bad.opens.Load(); n != 1 {
			t.Errorf("liar first %v: origins were opened %d times, want 1", liarFirst, n)
		}
		checkForms(t, mustGet(t, c, honest.diffID()), honest)
		wantNotFound(t, c, other.diffID())
	}
}

// gatedReader reads nothing until its gate is open.
type gatedReader struct {
	r    io.Reader
	gate <-chan struct{}
}

func (g *gatedReader) Read(p []byte) (int, error) {
	<-g.gate
	return g.r.Read(p)
}

func (g *gatedReader) Close() error { return nil }

// A manifest that lies about a layer's size fails its own readers.
func TestLyingSize(t *testing.T) {
	want := makeLayer(1, 50_000)
	honest := imageOf(t, fake(want))
	for _, delta := range []int64{-10, 10} {
		c := open(t)
		m, err := honest.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		m = m.DeepCopy()
		m.Layers[0].Size += delta
		lying := &manifestImage{honest, m}
		for range 2 { // cold, warm
			for form, open := range map[string]func(v1.Layer) (io.ReadCloser, error){"compressed": v1.Layer.Compressed, "uncompressed": v1.Layer.Uncompressed} {
				l := layersOf(t, c.Image(lying))[0]
				var size *cache.SizeMismatchError
				var digest *cache.DigestMismatchError
				if _, err := tryRead(func() (io.ReadCloser, error) { return open(l) }); !errors.As(err, &size) && !errors.As(err, &digest) && form == "compressed" {
					t.Errorf("size off by %d, %s: got %v, want a mismatch", delta, form, err)
				}
			}
			checkForms(t, layersOf(t, c.Image(honest))[0], want)
		}
	}
}

type manifestImage struct {
	v1.Image
	m *v1.Manifest
}

func (i *manifestImage) Manifest() (*v1.Manifest, error) { return i.m, nil }

// Compressed data that are broken, under their right digest.
func TestBrokenGzip(t *testing.T) {
	good := makeLayer(1, 100_000)
	broken := content{blob: append([]byte{}, good.blob...), tar: good.tar, mediaType: types.DockerLayer}
	broken.blob[len(broken.blob)/2] ^= 0x55
	c := open(t)
	l := layersOf(t, c.Image(imageOf(t, fake(broken))))[0]
	for range 2 {
		if _, err := tryRead(l.Uncompressed); !errors.Is(err, cache.ErrCorrupt) {
			t.Errorf("Uncompressed: got %v, want ErrCorrupt", err)
		}
		if got := readAll(t, l.Compressed); !bytes.Equal(got, broken.blob) {
			t.Error("Compressed is not passed as it is")
		}
	}
	wantNotFound(t, c, good.diffID())
}

func TestBomb(t *testing.T) {
	zeros := make([]byte, 10<<20)
	for name, blob := range map[string][]byte{"gzip": gzipped(zeros), "zstd": zstded(zeros)} {
		c := open(t, cache.WithMaxUncompressed(1<<20))
		bomb := content{blob: blob, tar: zeros, mediaType: types.DockerLayer}
		l := c.Layer(fake(bomb))
		if _, err := tryRead(l.Uncompressed); !errors.Is(err, cache.ErrTooLarge) {
			t.Errorf("%s: got %v, want ErrTooLarge", name, err)
		}
		if got := readAll(t, l.Compressed); !bytes.Equal(got, blob) {
			t.Errorf("%s: Compressed is not passed as it is", name)
		}
		wantNotFound(t, c, bomb.diffID())
	}
}
