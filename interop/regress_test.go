package interop_test

import (
	"fmt"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/oci"

	"github.com/ocicache/ocicache/interop/internal/sample"
)

// A layer of opaque bytes that happen to be gzip has its digest for a diffID
// in ggcr's static.NewLayer; what is read uncompressed has to agree with it.
func TestOpaqueGzip(t *testing.T) {
	l := sample.OpaqueGzip("opaque")
	for what, inner := range map[string]v1.Layer{"static": static.NewLayer(l.Blob, l.Media), "own": l} {
		t.Run(what, func(t *testing.T) {
			img := must[v1.Image](t)(mutate.Append(empty.Image, mutate.Addendum{Layer: inner, MediaType: l.Media}))
			c := open(t, newDir(t))
			for range 2 {
				readHashed(t, must[[]v1.Layer](t)(c.Image(img).Layers())[0])
				readHashed(t, c.Layer(inner))
			}
		})
	}
}

func readHashed(t *testing.T, l v1.Layer) {
	t.Helper()
	rc, err := l.Uncompressed()
	ok(t, err)
	defer rc.Close()
	got, _, err := v1.SHA256(rc)
	ok(t, err)
	if want := must[v1.Hash](t)(l.DiffID()); got != want {
		t.Errorf("Uncompressed() hashes to %s, DiffID() is %s", got, want)
	}
}

// ggcr rewrites index.json in place: whoever looks meanwhile may find half of
// it. Reads through the cache go on, and Open and Flush work.
func TestTornIndexWhileOthersWrite(t *testing.T) {
	dir := newDir(t)
	c := open(t, dir)
	readImage(t, c, sample.Docker("first"))
	ok(t, c.Flush())
	path := must[layout.Path](t)(layout.FromPath(dir))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_ = path.AppendDescriptor(v1.Descriptor{MediaType: "text/plain", Size: int64(i), Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064d", i)}})
		}
	})
	for i := range 40 {
		readImage(t, c, sample.Plain(fmt.Sprint("img", i), amd64))
		if err := c.Flush(); err != nil {
			t.Errorf("flush %d: %.300v", i, err)
		}
		again := open(t, dir)
		ok(t, again.Close())
	}
	close(stop)
	wg.Wait()
	if n := c.Stats().WriteFaults; n > 0 {
		t.Errorf("%d write faults", n)
	}
}

// `oras tag DIR@DIGEST TAG` writes the descriptor without the annotations that
// it had, and so makes an entry of the cache foreign. The tar still names the
// digest to prefer: that is what a layer got by its diffID has, and no blob is
// made in its place.
func TestTagWithoutAnnotations(t *testing.T) {
	ctx := t.Context()
	dir := newDir(t)
	img := sample.Plain("img", amd64)
	c := open(t, dir)
	readImage(t, c, img)
	ok(t, c.Close())

	want := must[v1.Hash](t)(img.Layers[0].Digest())
	store := must[*oci.Store](t)(oci.New(dir))
	plain := must[ocispec.Descriptor](t)(store.Resolve(ctx, want.String())) // digest, media type and size only
	ok(t, store.Tag(ctx, plain, "tagged"))

	c = open(t, dir)
	l := must[v1.Layer](t)(c.Get(must[v1.Hash](t)(img.Layers[0].DiffID())))
	if got := must[v1.Hash](t)(l.Digest()); got != want {
		t.Errorf("Digest() = %s, want %s", got, want)
	}
	if n := c.Stats().Compressions; n != 0 {
		t.Errorf("%d compressions, want none", n)
	}
}
