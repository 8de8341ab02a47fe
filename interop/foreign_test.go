package interop_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"

	"github.com/ocicache/ocicache/interop/internal/sample"
)

var amd64 = v1.Platform{OS: "linux", Architecture: "amd64", Variant: "v3", OSFeatures: []string{"x"}}

// fillAndFlush opens a cache in dir, fills it twice with a checkpoint after
// each, closes it, opens it again and reads everything back from it.
func fillAndFlush(t *testing.T, dir string) {
	t.Helper()
	before := readIndex(t, dir)
	imgs := sample.Images()
	c := open(t, dir)
	readImage(t, c, imgs[0])
	ok(t, c.Flush())
	checkKept(t, before, dir)
	for _, img := range imgs[1:] {
		readImage(t, c, img)
	}
	ok(t, c.Flush())
	checkKept(t, before, dir)
	checkListed(t, dir, imgs...)
	ok(t, c.Close())

	c = open(t, dir)
	for _, img := range imgs {
		readImage(t, c, img)
	}
	if got := c.Stats(); got.Fills != 0 {
		t.Errorf("after opening again: %d fills, want 0", got.Fills)
	}
	ok(t, c.Close())
	checkKept(t, before, dir)
}

func TestLayoutOfGGCRIsKept(t *testing.T) {
	dir := newDir(t)
	// The index has annotations of its own, as buildkit and others write them.
	idx := mutate.Annotations(empty.Index, map[string]string{"com.example.owner": "somebody", "com.example.quoted": `a "b" <c> ü`}).(v1.ImageIndex)
	path := must[layout.Path](t)(layout.Write(dir, idx))

	plain := sample.Plain("ggcr", amd64)
	ok(t, path.AppendImage(plain.Image, layout.WithPlatform(amd64), layout.WithURLs([]string{"https://example.com/a?b=c&d=e"}),
		layout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: "v1", "com.example.unknown": "x"})))
	ok(t, path.AppendImage(sample.OCI("ggcr").Image))
	ok(t, path.AppendImage(sample.Artifact("ggcr").Image))
	desc := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: must[v1.Hash](t)(plain.Digest()), Size: must[int64](t)(plain.Size())}
	signature := mutate.Subject(mutate.MediaType(sample.OCI("signature").Image, types.OCIManifestSchema1), desc).(v1.Image)
	ok(t, path.AppendImage(signature))
	ok(t, path.AppendIndex(sample.Index("ggcr")))
	ok(t, path.AppendDescriptor(v1.Descriptor{
		MediaType: "application/vnd.example.inline+json", ArtifactType: "application/vnd.example",
		Digest: must[v1.Hash](t)(v1.NewHash("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")),
		Size:   2, Data: []byte("{}"), Annotations: map[string]string{},
	}))

	fillAndFlush(t, dir)

	read := must[v1.ImageIndex](t)(path.ImageIndex())
	for _, img := range []v1.Image{plain.Image, sample.Artifact("ggcr").Image} {
		h := must[v1.Hash](t)(img.Digest())
		got := must[v1.Image](t)(read.Image(h))
		if err := validate.Image(got); err != nil {
			t.Errorf("validate.Image(%s): %v", h, err)
		}
	}
	nested := must[v1.ImageIndex](t)(read.ImageIndex(must[v1.Hash](t)(sample.Index("ggcr").Digest())))
	if err := validate.Index(nested); err != nil {
		t.Errorf("validate.Index: %v", err)
	}
	got := must[*v1.Manifest](t)(must[v1.Image](t)(read.Image(must[v1.Hash](t)(signature.Digest()))).Manifest())
	if got.Subject == nil || got.Subject.Digest != desc.Digest {
		t.Errorf("subject = %v, want %s", got.Subject, desc.Digest)
	}
}

func TestLayoutOfOrasIsKept(t *testing.T) {
	ctx := t.Context()
	dir := newDir(t)
	store := must[*oci.Store](t)(oci.New(dir))
	packed := must[ocispec.Descriptor](t)(oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, "application/vnd.example", oras.PackManifestOptions{
		Layers: []ocispec.Descriptor{
			must[ocispec.Descriptor](t)(oras.PushBytes(ctx, store, "application/vnd.example.text", []byte("pushed by oras"))),
		},
	}))
	packed.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64", OSFeatures: []string{"y"}}
	packed.Annotations = map[string]string{"com.example.unknown": "x"}
	ok(t, store.Tag(ctx, packed, "v1"))
	ok(t, store.Tag(ctx, packed, "v2"))
	referrer := must[ocispec.Descriptor](t)(oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, "application/vnd.example.sbom",
		oras.PackManifestOptions{Subject: &packed}))
	// A descriptor in a manifest's place that is a blob, with its data inline.
	blob := content.NewDescriptorFromBytes("application/vnd.example.blob", []byte("tagged blob"))
	blob.Data = []byte("tagged blob")
	ok(t, store.Push(ctx, blob, strings.NewReader("tagged blob")))
	ok(t, store.Tag(ctx, blob, "blob"))

	fillAndFlush(t, dir)

	store = must[*oci.Store](t)(oci.New(dir))
	for _, tag := range []string{"v1", "v2", "blob"} {
		desc := must[ocispec.Descriptor](t)(store.Resolve(ctx, tag))
		if _, err := content.FetchAll(ctx, store, desc); err != nil {
			t.Errorf("fetch %s: %v", tag, err)
		}
	}
	got := must[ocispec.Descriptor](t)(store.Resolve(ctx, "v1"))
	if !content.Equal(got, packed) || got.Platform == nil || got.Platform.Architecture != "arm64" || got.Annotations["com.example.unknown"] != "x" {
		t.Errorf("v1 = %+v, want %+v", got, packed)
	}
	refs := must[[]ocispec.Descriptor](t)(store.Predecessors(ctx, packed))
	if len(refs) != 1 || refs[0].Digest != referrer.Digest {
		t.Errorf("Predecessors = %v, want %s", refs, referrer.Digest)
	}
}

// What no tool writes today, and the spec allows: fields of another version,
// spacing, escapes, and a descriptor that cannot be an entry.
func TestUnknownFieldsAreKept(t *testing.T) {
	const written = `{
  "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
  "artifactType": "application/vnd.example.index", "x-future": {"a" : [1, 2.50, 1e3, null]},
  "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 7, "digest": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
  "annotations": {"com.example": "\u00fcber"},
  "manifests": [
    {
      "mediaType": "application/vnd.oci.image.manifest.v1+json",
      "size":  9007199254740993, "x-future": 1.0,
      "digest": "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
      "annotations": {"a\/b": "\u003c&>"}
    },
    {"mediaType":"a/b","size":1,"digest":"blake3:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","annotations":null},
    {"digest":"sha512:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","size":3,"mediaType":"c/d"},
    {"mediaType":"a/b","size":1,"digest":"sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"},
    {"mediaType":"a/b","size":1,"digest":"sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"}
  ]
}`
	dir := t.TempDir() // not checked: a digest in it is of no algorithm that Validate knows
	ok(t, os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion": "1.0.0", "x": 1}`), 0o644))
	ok(t, os.WriteFile(filepath.Join(dir, "index.json"), []byte(written), 0o644))

	fillAndFlush(t, dir)

	var before, after map[string]json.RawMessage
	ok(t, json.Unmarshal([]byte(written), &before))
	ok(t, json.Unmarshal(readFile(t, dir, "index.json"), &after))
	for _, field := range []string{"artifactType", "x-future", "subject", "schemaVersion", "mediaType"} {
		if compact(t, before[field]) != compact(t, after[field]) {
			t.Errorf("%s is now %s, was %s", field, after[field], before[field])
		}
	}
}

// compact takes the spacing out of JSON, and leaves numbers as they are.
func compact(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var b bytes.Buffer
	ok(t, json.Compact(&b, raw))
	return b.String()
}

// A tool's layout often holds the very layers that the cache is asked for,
// unlisted, below an image's manifest, or listed.
func TestLayersOfOthersImagesAreFilledToo(t *testing.T) {
	dir := newDir(t)
	path := must[layout.Path](t)(layout.Write(dir, empty.Index))
	for _, img := range sample.Images() {
		ok(t, path.AppendImage(img.Image))
	}
	for _, l := range sample.Docker("docker").Layers {
		ok(t, path.AppendDescriptor(v1.Descriptor{MediaType: l.Media, Size: int64(len(l.Blob)), Digest: must[v1.Hash](t)(l.Digest())}))
	}

	fillAndFlush(t, dir)

	idx := must[v1.ImageIndex](t)(path.ImageIndex())
	for _, img := range sample.Images() {
		got := must[v1.Image](t)(idx.Image(must[v1.Hash](t)(img.Digest())))
		layers := must[[]v1.Layer](t)(got.Layers())
		for i, l := range layers {
			if got := must[v1.Hash](t)(l.Digest()); got != must[v1.Hash](t)(img.Layers[i].Digest()) {
				t.Errorf("%s, layer %d is now %s", img.Name, i, got)
			}
		}
	}
}
