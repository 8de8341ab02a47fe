package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient"
	"github.com/regclient/regclient/types/descriptor"
	"github.com/regclient/regclient/types/ref"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/content/oci"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/interop/internal/sample"
)

// filled returns a directory with every sample layer in both forms, flushed,
// and no cache open in it.
func filled(t *testing.T) string {
	t.Helper()
	dir := newDir(t)
	c := open(t, dir)
	for _, img := range sample.Images() {
		readImage(t, c, img)
	}
	ok(t, c.Flush())
	return dir
}

func TestGGCRReadsTheLayout(t *testing.T) {
	dir := filled(t)
	path := must[layout.Path](t)(layout.FromPath(dir))
	idx := must[v1.ImageIndex](t)(path.ImageIndex())
	m := must[*v1.IndexManifest](t)(idx.IndexManifest())

	listed := map[v1.Hash]v1.Descriptor{}
	for _, d := range m.Manifests {
		if _, twice := listed[d.Digest]; twice {
			t.Errorf("%s is listed twice", d.Digest)
		}
		listed[d.Digest] = d
	}
	want := blobs(sample.Images()...)
	if len(listed) != len(want) {
		t.Errorf("%d descriptors, want %d", len(listed), len(want))
	}
	for _, img := range sample.Images() {
		for i, l := range img.Layers {
			checkPair(t, img.Name, i, l, listed)
		}
	}
	for h, d := range listed {
		b := must[[]byte](t)(path.Bytes(h))
		if !bytes.Equal(b, want[h.String()]) {
			t.Errorf("Bytes(%s) has %d bytes that are not the %d expected", h, len(b), len(want[h.String()]))
		}
		rc := must[io.ReadCloser](t)(path.Blob(h))
		got, n, err := v1.SHA256(rc)
		rc.Close()
		if err != nil || got != h || n != d.Size {
			t.Errorf("Blob(%s): %d bytes that hash to %s, error %v; listed with %d bytes", h, n, got, err, d.Size)
		}
	}
	if err := validate.Index(idx); err != nil {
		t.Errorf("validate.Index: %v", err)
	}
}

// checkPair checks the descriptors of a layer in both forms.
func checkPair(t *testing.T, image string, i int, l *sample.Layer, listed map[v1.Hash]v1.Descriptor) {
	t.Helper()
	digest, _ := l.Digest()
	diffID, _ := l.DiffID()
	d := listed[digest]
	if d.MediaType != l.Media || d.Size != int64(len(l.Blob)) {
		t.Errorf("%s, layer %d: listed as %s with %d bytes, want %s with %d", image, i, d.MediaType, d.Size, l.Media, len(l.Blob))
	}
	if got := d.Annotations[ocicache.AnnotationDiffID]; got != diffID.String() {
		t.Errorf("%s, layer %d: annotated with diffID %q, want %s", image, i, got, diffID)
	}
	if digest == diffID {
		return
	}
	tar := listed[diffID]
	if tar.Size != int64(len(l.Tar)) || tar.MediaType == "" || tar.MediaType == l.Media {
		t.Errorf("%s, layer %d: tar listed as %q with %d bytes, want %d", image, i, tar.MediaType, tar.Size, len(l.Tar))
	}
	if got := tar.Annotations[ocicache.AnnotationDigest]; got != digest.String() {
		t.Errorf("%s, layer %d: tar annotated with digest %q, want %s", image, i, got, digest)
	}
}

// orasStore is what both of oras-go's views of a layout can do.
type orasStore interface {
	oras.ReadOnlyTarget
	Tags(ctx context.Context, last string, fn func([]string) error) error
}

func TestOrasReadsTheLayout(t *testing.T) {
	ctx := t.Context()
	for name, openStore := range map[string]func(dir string) (orasStore, error){
		"New":       func(dir string) (orasStore, error) { return oci.New(dir) },
		"NewFromFS": func(dir string) (orasStore, error) { return oci.NewFromFS(ctx, os.DirFS(dir)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filled(t)
			store := must[orasStore](t)(openStore(dir))
			want := blobs(sample.Images()...)
			listed := ociIndex(t, dir).Manifests
			if len(listed) != len(want) {
				t.Errorf("%d descriptors, want %d", len(listed), len(want))
			}
			for _, d := range listed {
				checkOrasFetch(t, store, d, want[d.Digest.String()])
				got, err := store.Resolve(ctx, d.Digest.String())
				if err != nil || !content.Equal(got, d) {
					t.Errorf("Resolve(%s) = %+v, %v", d.Digest, got, err)
				}
				// A copy into another store also walks what it takes for manifests.
				if err := oras.CopyGraph(ctx, store, memory.New(), d, oras.DefaultCopyGraphOptions); err != nil {
					t.Errorf("CopyGraph(%s): %v", d.Digest, err)
				}
			}
			ok(t, store.Tags(ctx, "", func(tags []string) error {
				if len(tags) > 0 {
					t.Errorf("tags %v, want none", tags)
				}
				return nil
			}))
		})
	}
}

func checkOrasFetch(t *testing.T, store orasStore, d ocispec.Descriptor, want []byte) {
	t.Helper()
	if there, err := store.Exists(t.Context(), d); err != nil || !there {
		t.Errorf("Exists(%s) = %t, %v", d.Digest, there, err)
	}
	b, err := content.FetchAll(t.Context(), store, d)
	if err != nil || !bytes.Equal(b, want) {
		t.Errorf("Fetch(%s): %d bytes, error %v; want %d", d.Digest, len(b), err, len(want))
	}
}

func ociIndex(t *testing.T, dir string) ocispec.Index {
	t.Helper()
	var idx ocispec.Index
	ok(t, json.Unmarshal(readFile(t, dir, "index.json"), &idx))
	return idx
}

// A tag that oras-go puts on a descriptor of ours makes it resolvable, and
// stays through the cache's own writes.
func TestOrasTagsOurDescriptor(t *testing.T) {
	ctx := t.Context()
	dir := filled(t)
	want := ociIndex(t, dir).Manifests[0]
	store := must[*oci.Store](t)(oci.New(dir))
	ok(t, store.Tag(ctx, want, "base"))
	ok(t, store.Tag(ctx, want, "also"))

	c := open(t, dir)
	more := sample.Docker("more")
	readImage(t, c, more)
	ok(t, c.Flush())

	checkListed(t, dir, append(sample.Images(), more)...)
	store = must[*oci.Store](t)(oci.New(dir))
	for _, tag := range []string{"base", "also"} {
		got, err := store.Resolve(ctx, tag)
		if err != nil || !content.Equal(got, want) {
			t.Errorf("Resolve(%s) = %+v, %v, want %s", tag, got, err, want.Digest)
		}
	}
	for _, img := range sample.Images() {
		readImage(t, c, img)
	}
	if got := c.Stats(); got.Fills != int64(len(more.Layers)) {
		t.Errorf("%d fills, want %d: the tagged layer was filled again", got.Fills, len(more.Layers))
	}
}

// oras-go writes a descriptor of ours once for each tag that it gives it. One
// of the copies is the entry. What the cache learns later must be in the copy
// that is the entry the next time.
func TestTaggedTwice(t *testing.T) {
	ctx := t.Context()
	dir := newDir(t)
	c := open(t, dir)
	img := sample.Plain("img", amd64)
	ok(t, c.Fill(ctx, img.Layers[0])) // compressed only
	ok(t, c.Flush())

	store := must[*oci.Store](t)(oci.New(dir))
	desc := ociIndex(t, dir).Manifests[0]
	for _, tag := range []string{"one", "two", "three"} {
		ok(t, store.Tag(ctx, desc, tag))
	}

	readForms(t, c.Layer(img.Layers[0]), img.Layers[0]) // now the pair is verified, and both forms there
	ok(t, c.Close())

	again := open(t, dir)
	l := must[v1.Layer](t)(again.Get(must[v1.Hash](t)(img.Layers[0].DiffID())))
	if got := must[v1.Hash](t)(l.Digest()); got != must[v1.Hash](t)(img.Layers[0].Digest()) {
		t.Errorf("Digest() = %s", got)
	}
	if got := again.Stats(); got.Decompressions != 0 || got.Compressions != 0 {
		t.Errorf("the pair was forgotten: %+v", got)
	}
}

func TestRegclientReadsTheLayout(t *testing.T) {
	ctx := t.Context()
	dir := filled(t)
	before := readFile(t, dir, "index.json")
	rc := regclient.New()
	r := must[ref.Ref](t)(ref.New("ocidir://" + dir))
	want := blobs(sample.Images()...)
	for _, d := range ociIndex(t, dir).Manifests {
		br, err := rc.BlobGet(ctx, r, descriptor.Descriptor{Digest: d.Digest, MediaType: d.MediaType, Size: d.Size})
		if err != nil {
			t.Errorf("BlobGet(%s): %v", d.Digest, err)
			continue
		}
		b, err := io.ReadAll(br)
		br.Close()
		if err != nil || !bytes.Equal(b, want[d.Digest.String()]) {
			t.Errorf("BlobGet(%s): %d bytes, error %v; want %d", d.Digest, len(b), err, len(want[d.Digest.String()]))
		}
	}
	tags, err := rc.TagList(ctx, r)
	if err != nil {
		t.Errorf("TagList: %v", err)
	} else if len(tags.Tags) > 0 {
		t.Errorf("TagList = %v, want none", tags.Tags)
	}
	ok(t, rc.Close(ctx, r)) // collects garbage, if there was a write
	if !bytes.Equal(before, readFile(t, dir, "index.json")) {
		t.Error("reading changed index.json")
	}
}
