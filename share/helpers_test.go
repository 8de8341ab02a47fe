package share_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/share"
)

// A reg is a registry in the process.
type reg struct {
	*httptest.Server
	t        *testing.T
	requests atomic.Int64
	// hook sees each request first, and reports whether it has answered.
	hook atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]

	mu  sync.Mutex
	got map[string]int // requests by method and path; guarded by mu
}

func newRegistry(t *testing.T) *reg {
	t.Helper()
	r := &reg{t: t, got: map[string]int{}}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		r.mu.Lock()
		r.got[req.Method+" "+req.URL.Path]++
		r.mu.Unlock()
		if hook := r.hook.Load(); hook != nil && (*hook)(w, req) {
			return
		}
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *reg) on(hook func(http.ResponseWriter, *http.Request) bool) { r.hook.Store(&hook) }

// count returns how many requests of a method there were, of paths that
// contain something.
func (r *reg) count(method, part string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for request, times := range r.got {
		if m, path, _ := strings.Cut(request, " "); m == method && strings.Contains(path, part) {
			n += times
		}
	}
	return n
}

func (r *reg) host() string { return strings.TrimPrefix(r.URL, "http://") }

func (r *reg) ref(s string) name.Reference {
	r.t.Helper()
	ref, err := name.ParseReference(r.host() + "/" + s)
	if err != nil {
		r.t.Fatal(err)
	}
	return ref
}

func (r *reg) do(method, path string, header http.Header, body []byte) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.URL+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode >= 300 {
		r.t.Fatalf("%s %s: %s, %v", method, path, resp.Status, err)
	}
	return resp
}

// blob puts a blob.
func (r *reg) blob(repo string, b []byte) v1.Hash {
	h := hash256(string(b))
	r.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+h.String(), http.Header{}, b)
	return h
}

// manifest puts a manifest under its digest, and under a tag unless that is "".
func (r *reg) manifest(repo, tag string, mediaType types.MediaType, b []byte) v1.Descriptor {
	h := hash256(string(b))
	if tag == "" {
		tag = h.String()
	}
	r.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, http.Header{"Content-Type": {string(mediaType)}}, b)
	return v1.Descriptor{MediaType: mediaType, Size: int64(len(b)), Digest: h}
}

// snapshot puts a snapshot of entries, without their blobs.
func (r *reg) snapshot(repo, tag string, es ...share.Entry) []share.Manifest {
	shards, index := encode(r.t, es)
	for _, s := range shards {
		r.shard(repo, s)
	}
	r.manifest(repo, tag, types.OCIImageIndex, index)
	return shards
}

func (r *reg) shard(repo string, s share.Manifest) v1.Descriptor {
	r.blob(repo, s.Config)
	return r.manifest(repo, "", types.OCIManifestSchema1, s.Bytes)
}

// content is a layer's bytes in both forms.
type content struct {
	blob, tar []byte
}

func (c content) entry(keys ...string) share.Entry {
	return share.Entry{
		Digest: hash256(string(c.blob)), Size: int64(len(c.blob)), MediaType: types.DockerLayer,
		DiffID: hash256(string(c.tar)), Keys: keys,
	}
}

// makeLayer returns a gzip layer with one file.
func makeLayer(seed, size int) content {
	var tarball, blob bytes.Buffer
	body := bytes.Repeat([]byte(fmt.Sprintf("file %04d\n", seed)), size/10+1)[:size]
	tw := tar.NewWriter(&tarball)
	must(tw.WriteHeader(&tar.Header{Name: fmt.Sprint(seed), Mode: 0o644, Size: int64(len(body))}))
	must(tw.Write(body))
	must(tw.Close())
	zw := gzip.NewWriter(&blob)
	must(zw.Write(tarball.Bytes()))
	must(zw.Close())
	return content{blob.Bytes(), tarball.Bytes()}
}

// must panics if what writes to memory fails.
func must(results ...any) {
	if err, _ := results[len(results)-1].(error); err != nil {
		panic(err)
	}
}

func openCache(t testing.TB, dir string, opts ...cache.Option) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func mustPull(t *testing.T, c *cache.Cache, ref name.Reference, opts ...share.Option) share.PullReport {
	t.Helper()
	report, err := share.Pull(t.Context(), c, ref, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func mustGet(t *testing.T, c *cache.Cache, h v1.Hash) v1.Layer {
	t.Helper()
	l, err := c.Get(h)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func tryRead(open func() (io.ReadCloser, error)) ([]byte, error) {
	rc, err := open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// checkForms reads a layer in both forms.
func checkForms(t *testing.T, l v1.Layer, want content) {
	t.Helper()
	if got, err := tryRead(l.Compressed); err != nil || !bytes.Equal(got, want.blob) {
		t.Errorf("Compressed: got %d bytes, %v, want %d", len(got), err, len(want.blob))
	}
	if got, err := tryRead(l.Uncompressed); err != nil || !bytes.Equal(got, want.tar) {
		t.Errorf("Uncompressed: got %d bytes, %v, want %d", len(got), err, len(want.tar))
	}
}

// usages returns what the cache has and remembers.
func usages(t *testing.T, c *cache.Cache, filters ...string) []cache.Usage {
	t.Helper()
	us, err := c.DiskUsage(t.Context(), filters...)
	if err != nil {
		t.Fatal(err)
	}
	return us
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
