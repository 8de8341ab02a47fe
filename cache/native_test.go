package cache

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// What native finds out of ggcr's layers, by the names of exported fields of
// unexported types: an update of ggcr that changes these must be noticed.
func TestNative(t *testing.T) {
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer s.Close()
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(strings.TrimPrefix(s.URL, "http://") + "/repo")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	first := func(img v1.Image) v1.Layer {
		ls, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		return ls[0]
	}
	digest, err := first(img).Digest()
	if err != nil {
		t.Fatal(err)
	}
	bare, err := remote.Layer(ref.Context().Digest(digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(make([]byte, 1024))), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name                                 string
		l                                    v1.Layer
		uncompressed, knowsDiffID, described bool
	}{
		{"of a pulled image", first(pulled), false, true, true},
		{"bare remote", bare, false, false, false},
		{"random", first(img), true, true, false},
		{"tarball", opened, false, true, true},
		{"static", static.NewLayer(nil, types.DockerLayer), false, true, false},
	} {
		if got := isUncompressed(tc.l); got != tc.uncompressed {
			t.Errorf("%s: isUncompressed: got %v, want %v", tc.name, got, tc.uncompressed)
		}
		if got := knowsDiffID(tc.l); got != tc.knowsDiffID {
			t.Errorf("%s: knowsDiffID: got %v, want %v", tc.name, got, tc.knowsDiffID)
		}
		if got := descriptor(tc.l) != nil; got != tc.described {
			t.Errorf("%s: has a descriptor: got %v, want %v", tc.name, got, tc.described)
		}
	}
}
