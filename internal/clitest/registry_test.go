package clitest_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// newRegistry returns an empty registry.
func newRegistry() http.Handler {
	return registry.New(registry.Logger(log.New(io.Discard, "", 0)))
}

// serve starts a server on loopback, and returns its host.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// tarOf returns a tar of one file.
func tarOf(t *testing.T, file string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layerOf returns a layer of a tar, compressed with gzip.
func layerOf(t *testing.T, tar []byte, opts ...tarball.LayerOption) v1.Layer {
	t.Helper()
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tar)), nil }
	l, err := tarball.LayerFromOpener(open, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// noise returns bytes that no codec makes smaller, others for each name.
func noise(of string, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(of))).Read(b) // never fails
	return b
}

// gzipped returns a layer of one file of so many bytes, whose compressed form
// is as large.
func gzipped(t *testing.T, file string, n int) v1.Layer {
	t.Helper()
	return layerOf(t, tarOf(t, file, noise(file, n)))
}

func imageOf(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// indexOf returns an index of one image for each platform of Linux.
func indexOf(t *testing.T, archs ...string) v1.ImageIndex {
	t.Helper()
	idx := v1.ImageIndex(empty.Index)
	for _, arch := range archs {
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{
			Add:        imageOf(t, gzipped(t, "bin/"+arch, 1000)),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return idx
}

// twins returns two layers whose diffIDs begin with the same digits, and those.
func twins(t *testing.T) (layers []v1.Layer, prefix string) {
	t.Helper()
	seen := map[string][]byte{}
	for i := 0; ; i++ {
		tar := tarOf(t, "twin", fmt.Append(nil, i))
		sum := sha256.Sum256(tar)
		prefix := hex.EncodeToString(sum[:3])
		if other := seen[prefix]; other != nil {
			return []v1.Layer{layerOf(t, other), layerOf(t, tar)}, prefix
		}
		seen[prefix] = tar
	}
}

func push(t *testing.T, image string, img remote.Taggable) {
	t.Helper()
	ref, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	switch img := img.(type) {
	case v1.Image:
		err = remote.Write(ref, img)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pushDebian pushes an image for several platforms, this one among them.
func pushDebian(t *testing.T, image string) {
	t.Helper()
	archs := []string{"amd64", "arm64", runtime.GOARCH}
	slices.Sort(archs)
	push(t, image, indexOf(t, slices.Compact(archs)...))
}

// fillRegistry pushes the images of the scripts, and returns variables that
// name what is in them: X is the digest of layer x, X_TAR its diffID.
func fillRegistry(t *testing.T, host string) (vars []string) {
	t.Helper()
	layers := map[string]v1.Layer{
		"BASE": gzipped(t, "etc/base", 200_000),
		"APP1": gzipped(t, "bin/app1", 100_000),
		"APP2": gzipped(t, "bin/app2", 100_000),
		"ZSTD": layerOf(t, tarOf(t, "bin/zstd", noise("zstd", 1000)),
			tarball.WithCompression(compression.ZStd), tarball.WithMediaType(types.OCILayerZStd)),
	}
	push(t, host+"/app:1", imageOf(t, layers["BASE"], layers["APP1"]))
	push(t, host+"/app:2", imageOf(t, layers["BASE"], layers["APP2"]))
	push(t, host+"/app:zstd", imageOf(t, layers["BASE"], layers["ZSTD"]))
	push(t, host+"/app:both", indexOf(t, "amd64", "arm64"))
	alike, prefix := twins(t)
	push(t, host+"/app:twins", imageOf(t, alike...))
	vars = append(vars, "TWINS="+prefix)
	for name, l := range layers {
		digest, diffID := hashes(t, l)
		vars = append(vars, name+"="+digest.Hex, name+"_TAR="+diffID.Hex)
	}
	return vars
}

func hashes(t *testing.T, l v1.Layer) (digest, diffID v1.Hash) {
	t.Helper()
	digest, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	diffID, err = l.DiffID()
	if err != nil {
		t.Fatal(err)
	}
	return digest, diffID
}
