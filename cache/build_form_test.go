package cache_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// A key gives the media type that its build did, also if the blob came with
// another one: by another build, an image, or as the tar of a layer.
func TestBuildMediaType(t *testing.T) {
	w := makeLayer(1, 3000)
	of := func(mt types.MediaType) map[string]func() (v1.Layer, error) {
		plain := types.DockerUncompressedLayer
		if mt == types.OCILayer {
			plain = types.OCIUncompressedLayer
		}
		return map[string]func() (v1.Layer, error){
			string(mt):    func() (v1.Layer, error) { return static.NewLayer(w.blob, mt), nil },
			string(plain): func() (v1.Layer, error) { return static.NewLayer(w.tar, plain), nil },
			"of a tar: " + string(mt): func() (v1.Layer, error) {
				return partial.UncompressedToLayer(&typedTar{tarLayer{tar: w.tar}, mt})
			},
		}
	}
	dir := t.TempDir()
	c := openDir(t, dir)
	checkForms(t, c.Layer(fake(w)), w)
	for _, what := range []string{"built", "again", "reopened"} {
		for _, family := range []types.MediaType{types.DockerLayer, types.OCILayer} {
			for key, make := range of(family) {
				b := &builder{make: make}
				l := mustBuild(t, c, key, b)
				want := types.MediaType(strings.TrimPrefix(key, "of a tar: "))
				if got, err := l.MediaType(); err != nil || got != want {
					t.Errorf("%s: %s: got %s, %v", what, key, got, err)
				}
				if diffID, err := l.DiffID(); err != nil || diffID != w.diffID() {
					t.Errorf("%s: %s: diffID: got %s, %v", what, key, diffID, err)
				}
				if what != "built" && b.n.Load() != 0 {
					t.Errorf("%s: %s: built again", what, key)
				}
			}
		}
		if what == "again" {
			must(c.Close())
			c = openDir(t, dir)
		}
	}
}

// typedTar is a tarLayer of another media type.
type typedTar struct {
	tarLayer
	mediaType types.MediaType
}

func (l *typedTar) MediaType() (types.MediaType, error) { return l.mediaType, nil }

// What an image claimed of a blob, and lied, is not what a build says of it.
func TestBuildDiffIDAgainstClaim(t *testing.T) {
	w, other := makeLayer(1, 1000), makeLayer(2, 1000)
	for name, make := range map[string]func() (v1.Layer, error){
		"known":   func() (v1.Layer, error) { return fake(w), nil },
		"unknown": func() (v1.Layer, error) { return partial.CompressedToLayer(&blobLayer{fake(w)}) },
	} {
		c := open(t)
		desc := v1.Descriptor{Digest: w.digest(), Size: int64(len(w.blob)), MediaType: w.mediaType}
		_, err := c.Remember(t.Context(), []cache.Remembered{{Descriptor: desc, DiffID: other.diffID()}})
		must(err)
		for range 2 {
			l := mustBuild(t, c, "key", &builder{make: make})
			if got, err := l.DiffID(); err != nil || got != w.diffID() {
				t.Errorf("%s: got %s, %v; want %s", name, got, err, w.diffID())
			}
		}
	}
}

// WithVerifyBuilds compares what is built, of whatever kind, in a cache that
// is read-only too.
func TestVerifyBuilds(t *testing.T) {
	tar := makeTar(2, 1000)
	others := map[string]func() (v1.Layer, error){
		"compressed": func() (v1.Layer, error) { return fake(makeLayer(2, 1000)), nil },
		"tar":        func() (v1.Layer, error) { return partial.UncompressedToLayer(&tarLayer{tar: tar}) },
		"stream":     func() (v1.Layer, error) { return stream.NewLayer(io.NopCloser(bytes.NewReader(tar))), nil },
	}
	for kind, make := range kindsOfBuilt(t) {
		dir := t.TempDir()
		c := openDir(t, dir)
		want, err := mustBuild(t, c, "key", &builder{make: make}).Digest()
		must(err)
		for name, opts := range map[string][]cache.Option{"": nil, ", read-only": {cache.WithReadOnly()}} {
			strict := openDir(t, dir, append(opts, cache.WithVerifyBuilds())...)
			same := &builder{make: make}
			l := mustBuild(t, strict, "key", same)
			if got, err := l.Digest(); err != nil || got != want || same.n.Load() != 1 {
				t.Errorf("%s%s: got %s, %v, built %d times; want %s", kind, name, got, err, same.n.Load(), want)
			}
			other := &builder{make: others[kind]}
			var mismatch *cache.DigestMismatchError
			if _, err := strict.Build(t.Context(), "key", other.build); !errors.As(err, &mismatch) {
				t.Errorf("%s%s: another layer: got %v, want a mismatch", kind, name, err)
			}
		}
	}
}

// Keys are any bytes, none is taken for another, and each is a hit in this
// process, in another, and after a checkpoint.
func TestBuildKeysAreBytes(t *testing.T) {
	keys := []string{"\xff", "\xfe", "\ufffd", "a\x00b", "\n", "<>&", ",:%+", `"\`, " ", strings.Repeat("\xff", 4096), strings.Repeat("\x00", 4096)}
	dir := t.TempDir()
	c := openDir(t, dir)
	check := func(what string, c *cache.Cache, builds int64) {
		t.Helper()
		for i, key := range keys {
			want := makeLayer(uint64(i), 1000)
			b := builderOf(want)
			if got, err := mustBuild(t, c, key, b).Digest(); err != nil || got != want.digest() || b.n.Load() != builds {
				t.Errorf("%s: %.9q: got %s, %v, built %d times; want %s, %d", what, key, got, err, b.n.Load(), want.digest(), builds)
			}
		}
	}
	check("new", c, 1)
	check("again", c, 0)
	check("another process", openDir(t, dir), 0)
	must(c.Flush())
	c = openDir(t, dir)
	check("reopened", c, 0)
	must(c.DropKeys(keys...))
	if left, err := c.Keys(); err != nil || len(left) != 0 {
		t.Errorf("dropped: got %v, %v", left, err)
	}
}
