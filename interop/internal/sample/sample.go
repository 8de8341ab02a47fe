// Package sample makes images with layers of every kind that a cache meets.
// The same names give the same bytes, each time. It never does I/O.
package sample

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/containerd/stargz-snapshotter/estargz"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Media types that go-containerregistry has no name for.
const (
	ArtifactType   types.MediaType = "application/vnd.example.model.v1"
	ArtifactConfig types.MediaType = "application/vnd.example.model.config.v1+json"
)

// TOCDigest is the annotation that eStargz layers carry.
const TOCDigest = estargz.TOCJSONDigestAnnotation

// A Layer is a v1.Layer in memory that knows everything about itself.
type Layer struct {
	Blob      []byte // as a registry has it
	Tar       []byte // what Blob decompresses to; Blob itself if it is not compressed
	Media     types.MediaType
	Annotated map[string]string // in the manifest

	digest, diffID v1.Hash
}

var _ v1.Layer = (*Layer)(nil)

func newLayer(media types.MediaType, blob, tar []byte) *Layer {
	return &Layer{Blob: blob, Tar: tar, Media: media, digest: hash(blob), diffID: hash(tar)}
}

func hash(b []byte) v1.Hash {
	h, _, err := v1.SHA256(bytes.NewReader(b))
	check(err)
	return h
}

// Digest implements v1.Layer.
func (l *Layer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID implements v1.Layer.
func (l *Layer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Size implements v1.Layer.
func (l *Layer) Size() (int64, error) { return int64(len(l.Blob)), nil }

// MediaType implements v1.Layer.
func (l *Layer) MediaType() (types.MediaType, error) { return l.Media, nil }

// Compressed implements v1.Layer.
func (l *Layer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.Blob)), nil
}

// Uncompressed implements v1.Layer.
func (l *Layer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.Tar)), nil
}

// An Image is an image and the layers that it was made of, in order.
type Image struct {
	v1.Image
	Name   string
	Layers []*Layer
}

// Images returns one image of each kind: Docker's, OCI's, with eStargz
// layers, and an artifact of opaque blobs.
func Images() []Image { return images() }

var images = sync.OnceValue(func() []Image {
	return []Image{Docker("docker"), OCI("oci"), EStargz("estargz"), Artifact("artifact")}
})

// Docker returns an image of Docker's media types: gzip, gzip, plain tar.
func Docker(name string) Image {
	t := tarball(name + "/plain")
	return image(name, types.DockerManifestSchema2, types.DockerConfigJSON,
		Gzip(types.DockerLayer, name+"/1"),
		Gzip(types.DockerLayer, name+"/2"),
		newLayer(types.DockerUncompressedLayer, t, t))
}

// OCI returns an image of OCI's media types: gzip, zstd, plain tar.
func OCI(name string) Image {
	t := tarball(name + "/plain")
	return image(name, types.OCIManifestSchema1, types.OCIConfigJSON,
		Gzip(types.OCILayer, name+"/gzip"),
		Zstd(types.OCILayerZStd, name+"/zstd"),
		newLayer(types.OCIUncompressedLayer, t, t))
}

// Plain returns an image of Docker's media types with gzip layers only, which
// is what go-containerregistry's validate knows, for a platform.
func Plain(name string, p v1.Platform) Image {
	img := image(name, types.DockerManifestSchema2, types.DockerConfigJSON,
		Gzip(types.DockerLayer, name+"/1"), Gzip(types.DockerLayer, name+"/2"))
	cf, err := img.ConfigFile()
	check(err)
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = p.OS, p.Architecture
	img.Image, err = mutate.ConfigFile(img.Image, cf)
	check(err)
	return img
}

// Variants returns an image whose layers are one tar, compressed in three ways,
// the first of which comes twice.
func Variants(name string) Image {
	t := tarball(name)
	one, two := newLayer(types.OCILayer, gzipped(t), t), Zstd(types.OCILayerZStd, name)
	three := newLayer(types.OCILayer, append(gzipped(t[:1000]), gzipped(t[1000:])...), t)
	return image(name, types.OCIManifestSchema1, types.OCIConfigJSON, one, two, three, one)
}

// EStargz returns an image with a layer that can be read lazily: gzip in many
// members, and an annotation on its descriptor.
func EStargz(name string) Image {
	t := tarball(name)
	b, err := estargz.Build(io.NewSectionReader(bytes.NewReader(t), 0, int64(len(t))), estargz.WithChunkSize(4096))
	check(err)
	defer b.Close()
	blob, err := io.ReadAll(b)
	check(err)
	zr, err := gzip.NewReader(bytes.NewReader(blob))
	check(err)
	content, err := io.ReadAll(zr)
	check(err)
	l := newLayer(types.OCILayer, blob, content)
	l.Annotated = map[string]string{TOCDigest: b.TOCDigest().String()}
	return image(name, types.OCIManifestSchema1, types.OCIConfigJSON, l)
}

// Artifact returns an image that is none: its layers are opaque bytes, and
// its config is no image config.
func Artifact(name string) Image {
	one, two := noise(name+"/1", 50_000), noise(name+"/2", 7)
	return image(name, types.OCIManifestSchema1, ArtifactConfig,
		newLayer(ArtifactType, one, one),
		newLayer(ArtifactType, two, two))
}

// OpaqueGzip returns a layer of opaque bytes that happen to be gzip: as
// go-containerregistry's static.NewLayer makes them, its diffID is its digest.
func OpaqueGzip(name string) *Layer {
	blob := gzipped([]byte("opaque: " + name))
	return newLayer(ArtifactType, blob, blob)
}

// Index returns an index of two platforms' images, with an index below it
// that holds a third.
func Index(name string) v1.ImageIndex {
	amd := v1.Platform{OS: "linux", Architecture: "amd64"}
	arm := v1.Platform{OS: "linux", Architecture: "arm64"}
	nested := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.DockerManifestList),
		mutate.IndexAddendum{Add: Plain(name+"/nested", amd).Image, Descriptor: v1.Descriptor{Platform: &amd}})
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: Plain(name+"/amd64", amd).Image, Descriptor: v1.Descriptor{Platform: &amd}},
		mutate.IndexAddendum{Add: Plain(name+"/arm64", arm).Image, Descriptor: v1.Descriptor{Platform: &arm}},
		mutate.IndexAddendum{Add: nested})
}

// IndexWithLayers returns an index that lists two gzip layers directly, beside
// an image.
func IndexWithLayers(name string) v1.ImageIndex {
	amd := v1.Platform{OS: "linux", Architecture: "amd64"}
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: Plain(name+"/image", amd).Image},
		mutate.IndexAddendum{Add: Gzip(types.DockerLayer, name+"/a")},
		mutate.IndexAddendum{Add: Gzip(types.DockerLayer, name+"/b")})
}

// Gzip returns a layer that is compressed with gzip.
func Gzip(media types.MediaType, name string) *Layer {
	t := tarball(name)
	return newLayer(media, gzipped(t), t)
}

// Zstd returns a layer that is compressed with zstd.
func Zstd(media types.MediaType, name string) *Layer {
	t := tarball(name)
	w, err := zstd.NewWriter(nil)
	check(err)
	return newLayer(media, w.EncodeAll(t, nil), t)
}

func gzipped(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(b)
	check(err)
	check(w.Close())
	return buf.Bytes()
}

func image(name string, manifest, config types.MediaType, layers ...*Layer) Image {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, manifest), config)
	for i, l := range layers {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:       l,
			MediaType:   l.Media,
			Annotations: l.Annotated,
			History:     v1.History{CreatedBy: fmt.Sprintf("%s, layer %d", name, i)},
		})
		check(err)
	}
	return Image{Image: img, Name: name, Layers: layers}
}

// tarball returns a tar of a few files, one of them larger than the buffers
// that readers use.
func tarball(name string) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range []struct {
		name string
		size int
	}{{"empty", 0}, {"small", 10}, {"large", 150_000}} {
		check(w.WriteHeader(&tar.Header{Name: name + "/" + f.name, Mode: 0o644, Size: int64(f.size), Format: tar.FormatPAX}))
		_, err := w.Write(noise(name+f.name, f.size))
		check(err)
	}
	check(w.Close())
	return buf.Bytes()
}

// noise returns bytes that compress a little.
func noise(seed string, n int) []byte {
	var key [32]byte
	sum := hash([]byte(seed))
	copy(key[:], sum.Hex)
	r := rand.NewChaCha8(key)
	b := make([]byte, n)
	_, _ = r.Read(b) // never fails
	for i := range b {
		b[i] &= 0x3f
	}
	return b
}

func check(err error) {
	if err != nil {
		panic(err) // all of it is made in memory, of constants
	}
}
