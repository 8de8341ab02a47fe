package interop_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/interop/internal/sample"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newDir returns a directory that is checked when the test is over.
func newDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { checkDir(t, dir) })
	return dir
}

// open opens a cache that is closed when the test is over.
func open(t *testing.T, dir string, opts ...cache.Option) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, opts...)
	ok(t, err)
	t.Cleanup(func() { ok(t, c.Close()) })
	return c
}

// checkDir checks what holds of a cache directory whenever nobody is writing:
// it is a layout by the image-spec, each blob has its name, and nothing of
// unfinished work is left.
func checkDir(t *testing.T, dir string) {
	t.Helper()
	var il ocispec.ImageLayout
	if err := json.Unmarshal(readFile(t, dir, "oci-layout"), &il); err != nil || il.Version != "1.0.0" {
		t.Errorf("oci-layout: version %q, error %v", il.Version, err)
	}
	var idx ocispec.Index
	if err := json.Unmarshal(readFile(t, dir, "index.json"), &idx); err != nil || idx.SchemaVersion != 2 {
		t.Errorf("index.json: schema version %d, error %v", idx.SchemaVersion, err)
	}
	for _, d := range idx.Manifests {
		if err := d.Digest.Validate(); err != nil || d.MediaType == "" {
			t.Errorf("index.json: descriptor %+v, error %v", d, err)
		}
	}
	blobs := filepath.Join(dir, "blobs")
	err := filepath.WalkDir(blobs, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		alg := digest.Algorithm(filepath.Base(filepath.Dir(path)))
		if got := alg.FromBytes(b).Encoded(); got != d.Name() {
			t.Errorf("blob %s hashes to %s", d.Name(), got)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, sub := range []string{"ingest", "trash", "quarantine"} {
		left, err := os.ReadDir(filepath.Join(dir, ".ocicache", sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if len(left) > 0 {
			t.Errorf("%s holds %v", sub, left)
		}
	}
}

func readFile(t *testing.T, elem ...string) []byte {
	t.Helper()
	return must[[]byte](t)(os.ReadFile(filepath.Join(elem...)))
}

// readForms reads both forms of a layer and compares them, and its hashes.
func readForms(t *testing.T, l v1.Layer, want *sample.Layer) {
	t.Helper()
	for _, form := range []struct {
		name string
		open func() (io.ReadCloser, error)
		want []byte
	}{{"compressed", l.Compressed, want.Blob}, {"uncompressed", l.Uncompressed, want.Tar}} {
		rc, err := form.open()
		if err != nil {
			t.Fatalf("%s: %v", form.name, err)
		}
		b, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			t.Fatalf("%s: %v", form.name, err)
		}
		if !bytes.Equal(b, form.want) {
			t.Fatalf("%s: %d bytes that are not the %d expected", form.name, len(b), len(form.want))
		}
	}
	if !want.Media.IsLayer() {
		return // ggcr has no diffIDs of an artifact's layers
	}
	for name, hash := range map[string]struct {
		get  func() (v1.Hash, error)
		want func() (v1.Hash, error)
	}{"Digest": {l.Digest, want.Digest}, "DiffID": {l.DiffID, want.DiffID}} {
		got, err := hash.get()
		ok(t, err)
		if want := must[v1.Hash](t)(hash.want()); got != want {
			t.Errorf("%s() = %s, want %s", name, got, want)
		}
	}
}

// readImage reads all layers of a sample image through the cache.
func readImage(t *testing.T, c *cache.Cache, img sample.Image) {
	t.Helper()
	layers := must[[]v1.Layer](t)(c.Image(img.Image).Layers())
	for i, l := range layers {
		readForms(t, l, img.Layers[i])
	}
}

// blobs returns every blob that an image leaves in the cache, by digest.
func blobs(imgs ...sample.Image) map[string][]byte {
	m := map[string][]byte{}
	for _, img := range imgs {
		for _, l := range img.Layers {
			m[digest.FromBytes(l.Blob).String()] = l.Blob
			m[digest.FromBytes(l.Tar).String()] = l.Tar
		}
	}
	return m
}

// index is an index.json with its descriptors as they stand.
type index struct {
	Manifests   []json.RawMessage `json:"manifests"`
	Annotations map[string]string `json:"annotations"`
}

func readIndex(t *testing.T, dir string) index {
	t.Helper()
	var idx index
	ok(t, json.Unmarshal(readFile(t, dir, "index.json"), &idx))
	return idx
}

// ours reports whether a descriptor carries annotations of the cache.
func ours(raw json.RawMessage) bool { return bytes.Contains(raw, []byte("dev.ggcr.cache.")) }

// foreign returns the descriptors that are not the cache's.
func (idx index) foreign() []json.RawMessage {
	return slices.DeleteFunc(slices.Clone(idx.Manifests), ours)
}

// checkKept checks that every foreign descriptor of before stands in the
// index of dir byte for byte, as often, in the same order; and that all
// annotations of the index itself are there.
func checkKept(t *testing.T, before index, dir string) {
	t.Helper()
	after := readIndex(t, dir)
	if !slices.EqualFunc(before.foreign(), after.foreign(), func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
		t.Errorf("foreign descriptors are now\n%s\nwere\n%s", after.foreign(), before.foreign())
	}
	for k, v := range before.Annotations {
		if strings.HasPrefix(k, "dev.ggcr.cache.") {
			continue
		}
		if got := after.Annotations[k]; got != v {
			t.Errorf("index annotation %s = %q, want %q", k, got, v)
		}
	}
}

// checkListed checks that index.json lists every blob of the images, as ours.
func checkListed(t *testing.T, dir string, imgs ...sample.Image) {
	t.Helper()
	listed := map[string]bool{}
	for _, raw := range readIndex(t, dir).Manifests {
		var d ocispec.Descriptor
		ok(t, json.Unmarshal(raw, &d))
		listed[d.Digest.String()] = listed[d.Digest.String()] || ours(raw)
	}
	for h := range blobs(imgs...) {
		if !listed[h] {
			t.Errorf("%s is not listed as an entry of the cache", h)
		}
	}
}

// A server is a registry that remembers what it was asked for.
type server struct {
	*httptest.Server

	mu  sync.Mutex
	log []string // guarded by mu: "METHOD path?query"
}

func serve(t *testing.T, registry http.Handler) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.log = append(s.log, r.Method+" "+r.URL.RequestURI())
		s.mu.Unlock()
		registry.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// asked returns, sorted, and forgets what was asked for.
func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.log
	s.log = nil
	slices.Sort(log)
	return log
}

func (s *server) ref(t *testing.T, repoAndTag string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(strings.TrimPrefix(s.URL, "http://")+"/"+repoAndTag, name.Insecure)
	ok(t, err)
	return ref
}
