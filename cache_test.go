package ocicache_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/cache"
)

// The story of the cache, from the outside: two jobs pull one image, one of
// them offline, and a third sees it all in another directory.
func TestStory(t *testing.T) {
	img, err := random.Image(200_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	var gets atomic.Int64
	host := serve(t, &gets)
	pushed := push(t, img, host+"/app")
	gets.Store(0) // the config's GET is none of ours
	dir := filepath.Join(t.TempDir(), "cache")

	// A job scans the image: each layer is fetched once, for both forms.
	c := open(t, dir)
	wrapped := c.Image(pushed)
	if got := countFiles(t, wrapped); got != 3 {
		t.Errorf("found %d files, want one in each of 3 layers", got)
	}
	if got := gets.Load(); got != 3 {
		t.Errorf("blob GETs for a scan: got %d, want 3", got)
	}
	if err := validate.Image(wrapped); err != nil {
		t.Error(err)
	}
	if got := gets.Load(); got != 3 {
		t.Errorf("blob GETs after validating: got %d, want 3", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	// What stands on disk is what was proposed for go-containerregistry.
	diffIDs := readPairs(t, dir)
	layers, err := pushed.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		digest, diffID := hashes(t, l)
		if got := diffIDs[digest]; got != diffID {
			t.Errorf("index.json pairs %s with %q, want %s", digest, got, diffID)
		}
	}

	// A second job works with the registry gone.
	gets.Store(-1 << 40)
	c = open(t, dir)
	if err := validate.Image(c.Image(pushed)); err != nil {
		t.Error(err)
	}
	for _, l := range layers {
		digest, diffID := hashes(t, l)
		for _, h := range []v1.Hash{digest, diffID} {
			got, err := c.Get(h)
			if err != nil {
				t.Errorf("Get(%s): %v", h, err)
				continue
			}
			if err := validate.Layer(got); err != nil {
				t.Errorf("Get(%s): %v", h, err)
			}
		}
	}
	if s := c.Stats(); s.Misses != 0 || s.BytesRead != 0 || s.BytesSaved == 0 {
		t.Errorf("offline stats: %+v", s)
	}

	// One hash is deleted, the other stays.
	digest, diffID := hashes(t, layers[0])
	if err := c.Delete(diffID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(diffID); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Get after Delete: got %v, want ErrNotFound", err)
	}
	if _, err := c.Get(digest); err != nil {
		t.Errorf("Get of the other hash: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// serve starts a registry that counts the GETs of layers, and refuses them
// once the count is below zero.
func serve(t *testing.T, gets *atomic.Int64) (host string) {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && gets.Add(1) < 0 {
			http.Error(w, "gone", http.StatusServiceUnavailable)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func push(t *testing.T, img v1.Image, to string) v1.Image {
	t.Helper()
	ref, err := name.ParseReference(to)
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
	if _, err := pulled.RawConfigFile(); err != nil { // fetched now, so that only layers are counted
		t.Fatal(err)
	}
	return pulled
}

func hashes(t *testing.T, l v1.Layer) (digest, diffID v1.Hash) {
	t.Helper()
	digest, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if diffID, err = l.DiffID(); err != nil {
		t.Fatal(err)
	}
	return digest, diffID
}

// countFiles walks the layers as a scanner does: not to EOF.
func countFiles(t *testing.T, img v1.Image) (n int) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		tr := tar.NewReader(rc)
		for {
			if _, err := tr.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			n++
		}
		rc.Close()
	}
	return n
}

// readPairs reads index.json as any tool would.
func readPairs(t *testing.T, dir string) map[v1.Hash]v1.Hash {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := v1.ParseIndexManifest(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b) {
		t.Errorf("index.json is not JSON: %s", b)
	}
	pairs := map[v1.Hash]v1.Hash{}
	for _, d := range m.Manifests {
		if s, ok := d.Annotations[ocicache.AnnotationDiffID]; ok {
			h, err := v1.NewHash(s)
			if err != nil {
				t.Fatal(err)
			}
			pairs[d.Digest] = h
		}
	}
	return pairs
}
