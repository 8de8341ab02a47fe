package cache_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// imageOf makes an image of layers, with the diffIDs that they claim.
func imageOf(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// The layer is downloaded once, whichever form is read first, and not at all
// after reopening: https://github.com/google/go-containerregistry/issues/950
func TestIssue950(t *testing.T) {
	want := makeLayer(1, 200_000)
	forms := map[string]func(v1.Layer) (io.ReadCloser, error){
		"compressed": v1.Layer.Compressed, "uncompressed": v1.Layer.Uncompressed,
	}
	for _, order := range [][2]string{{"compressed", "uncompressed"}, {"uncompressed", "compressed"}} {
		eachWrapping(t, func(t *testing.T, w wrapping) {
			t.Run(order[0]+" first", func(t *testing.T) {
				r := newRegistry(t)
				pulled := r.push(imageOf(t, fake(want)), "repo")
				dir := t.TempDir()
				c := openDir(t, dir)
				for _, form := range order {
					l := layersOf(t, w.image(c, pulled))[0]
					readAll(t, func() (io.ReadCloser, error) { return forms[form](l) })
				}
				if got := r.blobGets(want.digest()); got != 1 {
					t.Errorf("blob GETs: got %d, want 1", got)
				}
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				r.Close() // the registry is gone

				again := openDir(t, dir)
				checkForms(t, layersOf(t, w.image(again, pulled))[0], want)
				checkForms(t, mustGet(t, again, want.digest()), want)
				checkForms(t, mustGet(t, again, want.diffID()), want)
			})
		})
	}
}

// A bare remote layer knows no diffID but by being read; it is read once.
// https://github.com/google/go-containerregistry/issues/1821
func TestBareRemoteLayer(t *testing.T) {
	want := makeLayer(1, 100_000)
	r := newRegistry(t)
	r.push(imageOf(t, fake(want)), "repo")
	c := open(t)
	bare, err := remote.Layer(mustDigest(t, r.host+"/repo@"+want.digest().String()))
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Put(bare)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.total.Load(); got != 0 {
		t.Errorf("Put asked for %d blobs", got)
	}
	if _, ok := l.(*remote.MountableLayer); !ok {
		t.Errorf("Put returned a %T, want a *remote.MountableLayer", l)
	}
	if got, err := l.DiffID(); err != nil || got != want.diffID() {
		t.Errorf("DiffID: got %s, %v, want %s", got, err, want.diffID())
	}
	checkForms(t, l, want)
	if got := r.blobGets(want.digest()); got != 1 {
		t.Errorf("blob GETs: got %d, want 1", got)
	}
}

func TestPutAsksNothing(t *testing.T) {
	l := fake(makeLayer(1, 1000))
	c := open(t)
	put, err := c.Put(l)
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, put.Compressed)
	if l.diffIDs.Load() != 0 || l.opens.Load() != 1 {
		t.Errorf("DiffID was called %d times, Compressed %d times; want 0 and 1", l.diffIDs.Load(), l.opens.Load())
	}
}

// A scanner that stops at the archive's end marker leaves a complete cache.
func TestEarlyStop(t *testing.T) {
	for _, tail := range []int{0, 10 << 10, 300 << 10} {
		want := makeLayer(1, 300_000)
		want.tar = append(want.tar, make([]byte, tail)...) // padding behind the end marker
		want.blob = gzipped(want.tar)
		c := open(t)
		rc, err := c.Layer(fake(want)).Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		readTar(t, rc)
		rc.Close()
		if err := c.Close(); err != nil { // waits for what is under way
			t.Fatal(err)
		}
		again := openDir(t, dirOf(c))
		checkForms(t, mustGet(t, again, want.diffID()), want)
		if n := again.Stats().Decompressions; n != 0 {
			t.Errorf("tail of %d: the tar was not kept", tail)
		}
	}
}

func TestMediaTypes(t *testing.T) {
	tar := makeTar(1, 20_000)
	for _, tc := range []struct {
		mediaType types.MediaType
		blob      []byte
		tar       []byte
		tarType   types.MediaType // "" if there is no second blob
	}{
		{types.DockerLayer, gzipped(tar), tar, types.DockerUncompressedLayer},
		{types.OCILayer, gzipped(tar), tar, types.OCIUncompressedLayer},
		{types.OCILayerZStd, zstded(tar), tar, types.OCIUncompressedLayer},
		{types.DockerLayer, append(gzipped(tar[:7000]), gzipped(tar[7000:])...), tar, types.DockerUncompressedLayer},
		{types.OCILayer, zstded(tar), tar, types.OCIUncompressedLayer}, // the media type lies
		{types.OCIUncompressedLayer, tar, tar, ""},
		{types.DockerUncompressedLayer, tar, tar, ""},
		{types.OCIRestrictedLayer, gzipped(tar), tar, types.OCIUncompressedRestrictedLayer},
		{"application/vnd.example.model", []byte("weights"), []byte("weights"), ""},
		{types.OCILayer, []byte{}, []byte{}, ""},
	} {
		want := content{blob: tc.blob, tar: tc.tar, mediaType: tc.mediaType}
		c := open(t)
		checkForms(t, c.Layer(fake(want)), want)
		checkForms(t, c.Layer(fake(want)), want)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}

		again := openDir(t, dirOf(c))
		l := mustGet(t, again, want.digest())
		checkForms(t, l, want)
		if got, _ := l.MediaType(); got != tc.mediaType {
			t.Errorf("MediaType: got %s, want %s", got, tc.mediaType)
		}
		if got, err := l.DiffID(); got != want.diffID() || err != nil {
			t.Errorf("%s: DiffID: got %s, %v, want %s", tc.mediaType, got, err, want.diffID())
		}
		idx, err := again.Index()
		if err != nil {
			t.Fatal(err)
		}
		m, err := idx.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		types := map[v1.Hash]types.MediaType{}
		for _, d := range m.Manifests {
			types[d.Digest] = d.MediaType
		}
		if got := types[want.digest()]; got != tc.mediaType {
			t.Errorf("listed as %q, want %q", got, tc.mediaType)
		}
		if want.digest() != want.diffID() {
			if got := types[want.diffID()]; got != tc.tarType {
				t.Errorf("%s: tar is listed as %q, want %q", tc.mediaType, got, tc.tarType)
			}
		} else if len(types) != 1 {
			t.Errorf("%s: %d entries for a layer that is distributed uncompressed, want 1", tc.mediaType, len(types))
		}
	}
}

func TestSHA512(t *testing.T) {
	want := makeLayer(1, 10_000)
	l := fake(want)
	l.named = hashOf("sha512", want.blob)
	c := open(t)
	checkForms(t, c.Layer(l), want)
	checkForms(t, mustGet(t, c, l.named), want)
	if got := l.opens.Load(); got != 1 {
		t.Errorf("opened %d times, want 1", got)
	}

	// A diffID of sha512 is found by it too.
	img := imageOf(t, fake(want))
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.RootFS.DiffIDs[0] = hashOf("sha512", want.tar)
	img, err = mutate.ConfigFile(img, cf)
	if err != nil {
		t.Fatal(err)
	}
	checkForms(t, layersOf(t, c.Image(img))[0], want)
	checkForms(t, mustGet(t, c, hashOf("sha512", want.tar)), want)
}

func TestUnknownAlgorithm(t *testing.T) {
	want := makeLayer(1, 1000)
	l := fake(want)
	l.named = v1.Hash{Algorithm: "blake3", Hex: "00"}
	c := open(t)
	if got := readAll(t, c.Layer(l).Compressed); !bytes.Equal(got, want.blob) {
		t.Error("an unknown algorithm is not passed through")
	}
	wantNotFound(t, c, l.named)
	if n := len(blobs(t, dirOf(c))); n != 0 {
		t.Errorf("%d blobs kept", n)
	}
}

// ggcr's static layer says that its diffID is its digest, also of gzip.
func TestDiffIDIsNotDigestOfCompressed(t *testing.T) {
	want := makeLayer(1, 10_000)
	c := open(t)
	l := c.Image(imageOf(t, static.NewLayer(want.blob, types.DockerLayer)))
	checkForms(t, layersOf(t, l)[0], want)
	got, err := mustGet(t, c, want.digest()).DiffID()
	if err != nil || got != want.diffID() {
		t.Errorf("DiffID: got %s, %v, want %s", got, err, want.diffID())
	}
}

// A type that the cache knows nothing of is bytes, also if it looks like gzip.
func TestOpaqueGzip(t *testing.T) {
	blob := gzipped([]byte("weights"))
	want := content{blob: blob, tar: blob, mediaType: "application/vnd.example.model"}
	inner := static.NewLayer(blob, want.mediaType)
	c := open(t)
	for _, l := range []v1.Layer{c.Layer(inner), layersOf(t, c.Image(imageOf(t, inner)))[0]} {
		for range 2 {
			checkForms(t, l, want)
			checkFacts(t, l, want)
		}
	}
}

// Another tool dropped the compressed descriptor, and kept the tar's: the
// recorded digest is still the layer's.
func TestDroppedDescriptor(t *testing.T) {
	want := makeLayer(1, 10_000)
	dir := t.TempDir()
	c := openDir(t, dir)
	checkForms(t, c.Layer(fake(want)), want)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := v1.ParseIndexManifest(bytes.NewReader(readFile(t, filepath.Join(dir, "index.json"))))
	if err != nil {
		t.Fatal(err)
	}
	m.Manifests = slices.DeleteFunc(m.Manifests, func(d v1.Descriptor) bool { return d.Digest == want.digest() })
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}

	again := openDir(t, dir)
	l := mustGet(t, again, want.diffID())
	if got, err := l.Digest(); got != want.digest() || err != nil {
		t.Errorf("Digest: got %s, %v, want %s", got, err, want.digest())
	}
	_, sizeErr := l.Size()
	_, typeErr := l.MediaType()
	_, readErr := l.Compressed()
	for what, err := range map[string]error{"Size": sizeErr, "MediaType": typeErr, "Compressed": readErr} {
		if !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", what, err)
		}
	}
	checkForms(t, again.Layer(fake(want)), want)
}

func TestDelete(t *testing.T) {
	want := makeLayer(1, 10_000)
	for _, tc := range []struct {
		name         string
		gone, stays  v1.Hash
		read         func(v1.Layer) (io.ReadCloser, error)
		wantAfterGet []byte
	}{
		{"digest", want.digest(), want.diffID(), v1.Layer.Uncompressed, want.tar},
		{"diffID", want.diffID(), want.digest(), v1.Layer.Compressed, want.blob},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := open(t)
			l := fake(want)
			checkForms(t, c.Layer(l), want)
			if err := c.Delete(tc.gone); err != nil {
				t.Fatal(err)
			}
			wantNotFound(t, c, tc.gone)
			if err := c.Delete(tc.gone); !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("Delete again: got %v, want ErrNotFound", err)
			}
			left := mustGet(t, c, tc.stays)
			if got := readAll(t, func() (io.ReadCloser, error) { return tc.read(left) }); !bytes.Equal(got, tc.wantAfterGet) {
				t.Error("the other hash's bytes are not what they were")
			}
			checkForms(t, c.Layer(l), want)
		})
	}
}

// An image whose layers have no compressed form would have to compress them
// all to tell their digests. Nobody asked for these.
func TestUncompressedImage(t *testing.T) {
	tar := makeTar(1, 100_000)
	inner := &tarLayer{tar: tar}
	built, err := partial.UncompressedToLayer(inner)
	if err != nil {
		t.Fatal(err)
	}
	img := &layersImage{empty.Image, []v1.Layer{built}}
	c := open(t)
	for range 2 {
		l := layersOf(t, c.Image(img))[0]
		if got := readAll(t, l.Uncompressed); !bytes.Equal(got, tar) {
			t.Error("Uncompressed gave other bytes")
		}
	}
	if inner.opens != 1 {
		t.Errorf("the tar was read %d times, want once", inner.opens)
	}
	// Both forms of one layer: the cache pairs them.
	l := layersOf(t, c.Image(img))[0]
	blob := readAll(t, l.Compressed)
	want := content{blob: blob, tar: tar}
	checkForms(t, mustGet(t, c, want.digest()), want)
	checkForms(t, mustGet(t, c, want.diffID()), want)
}

// layersImage is an image that can tell its layers and no manifest.
type layersImage struct {
	v1.Image
	layers []v1.Layer
}

func (i *layersImage) Layers() ([]v1.Layer, error) { return i.layers, nil }

func (i *layersImage) Manifest() (*v1.Manifest, error) {
	return nil, errors.New("the manifest was asked for")
}
