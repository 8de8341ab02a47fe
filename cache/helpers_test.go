package cache_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/index"
)

// open opens a cache in a new directory. When the test ends it is closed,
// and the directory must be sound.
func open(t *testing.T, opts ...cache.Option) *cache.Cache {
	t.Helper()
	return openDir(t, t.TempDir(), opts...)
}

func openDir(t *testing.T, dir string, opts ...cache.Option) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	dirs.Store(c, dir)
	openCaches.Add(1)
	n, _ := openIn.LoadOrStore(dir, new(atomic.Int64))
	inDir := n.(*atomic.Int64)
	inDir.Add(1)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		checkDir(t, dir)
		if inDir.Add(-1) == 0 {
			checkFiles(t, dir)
		}
		if openCaches.Add(-1) == 0 {
			checkGoroutines(t)
		}
	})
	return c
}

var (
	openCaches atomic.Int64
	openIn     sync.Map // directory to *atomic.Int64, of the caches that are open in it
)

var dirs sync.Map // *cache.Cache to its directory

func dirOf(c *cache.Cache) string {
	dir, _ := dirs.Load(c)
	return dir.(string)
}

// checkDir asserts the invariants of a cache's directory when nobody writes:
// each blob matches its name, nothing is half done, and the index lists what
// it should.
func checkDir(t *testing.T, dir string) {
	t.Helper()
	for _, sub := range []string{"ingest", "trash", "leases", "keys"} {
		for _, name := range listDir(t, filepath.Join(dir, ".ocicache", sub)) {
			t.Errorf("%s holds %s", sub, name)
		}
	}
	for h, path := range blobs(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := hashOf(h.Algorithm, b); got != h && !tampered(path) {
			t.Errorf("blob %s holds bytes of %s", h, got)
		}
	}
	cat := index.New()
	if _, err := cat.Decode(readFile(t, filepath.Join(dir, "index.json"))); err != nil {
		t.Errorf("index.json: %v", err)
	}
	for _, name := range listDir(t, filepath.Join(dir, ".ocicache")) {
		if strings.HasPrefix(name, "new-") {
			t.Errorf(".ocicache holds %s", name)
		}
	}
}

var tamperedPaths sync.Map

func tampered(path string) bool { _, ok := tamperedPaths.Load(path); return ok }

// checkFiles waits until this process has no file below a directory open: those
// of readers that were dropped go with them. Where the system does not tell,
// it looks at nothing.
func checkFiles(t *testing.T, dir string) {
	t.Helper()
	var left []string
	for range 400 {
		runtime.GC()
		if left = openFiles(dir); len(left) == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("files are left open:\n%s", strings.Join(left, "\n"))
}

// openFiles returns the paths below a directory that this process has open.
func openFiles(dir string) []string {
	const fds = "/proc/self/fd" // Linux
	des, err := os.ReadDir(fds)
	if err != nil {
		return nil
	}
	var paths []string
	for _, de := range des {
		if path, err := os.Readlink(filepath.Join(fds, de.Name())); err == nil && strings.HasPrefix(path, dir) {
			paths = append(paths, path)
		}
	}
	return paths
}

// checkGoroutines waits for the goroutines of our packages to end.
func checkGoroutines(t *testing.T) {
	t.Helper()
	var left []string
	for range 400 {
		if left = goroutines(); len(left) == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
}

var ours = regexp.MustCompile(`github.com/ocicache/ocicache/(cache|internal/fill|layout|compression)\.`)

// goroutines returns the stacks of those that our packages run or started.
func goroutines() []string {
	buf := make([]byte, 8<<20)
	var left []string
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if ours.MatchString(g) && !strings.Contains(g, "testing.(*T).Run") && !strings.Contains(g, "testing.tRunner") {
			left = append(left, g)
		}
	}
	return left
}

func listDir(t *testing.T, dir string) []string {
	t.Helper()
	des, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, de := range des {
		names = append(names, de.Name())
	}
	return names
}

// blobs returns the files in blobs, by the digest that they are named by.
func blobs(t *testing.T, dir string) map[v1.Hash]string {
	t.Helper()
	m := map[v1.Hash]string{}
	for _, alg := range []string{"sha256", "sha512"} {
		for _, name := range listDir(t, filepath.Join(dir, "blobs", alg)) {
			m[v1.Hash{Algorithm: alg, Hex: name}] = filepath.Join(dir, "blobs", alg, name)
		}
	}
	return m
}

func blobPath(dir string, h v1.Hash) string { return filepath.Join(dir, "blobs", h.Algorithm, h.Hex) }

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hashOf(alg string, b []byte) v1.Hash {
	if alg == "sha512" {
		sum := sha512.Sum512(b)
		return v1.Hash{Algorithm: alg, Hex: hex.EncodeToString(sum[:])}
	}
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

func digestOf(b []byte) v1.Hash { return hashOf("sha256", b) }

// content is a layer's bytes in both forms.
type content struct {
	blob, tar []byte
	mediaType types.MediaType
}

func (c content) digest() v1.Hash { return digestOf(c.blob) }
func (c content) diffID() v1.Hash { return digestOf(c.tar) }

// makeTar returns a tar of some files of random text, about size bytes long.
func makeTar(seed uint64, size int) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	body := make([]byte, min(size, 64<<10)) // does not repeat within gzip's window
	for j := range body {
		body[j] = "etaoin shrdlu\n"[rnd.IntN(14)]
	}
	for i := 0; buf.Len() < size; i++ {
		must(w.WriteHeader(&tar.Header{Name: fmt.Sprintf("%d/file-%d", seed, i), Mode: 0o644, Size: int64(len(body))}))
		must(w.Write(body))
	}
	must(w.Close())
	return buf.Bytes()
}

// makeLayer returns a gzip layer.
func makeLayer(seed uint64, size int) content {
	tar := makeTar(seed, size)
	return content{blob: gzipped(tar), tar: tar, mediaType: types.DockerLayer}
}

func gzipped(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	must(w.Write(b))
	must(w.Close())
	return buf.Bytes()
}

func zstded(b []byte) []byte {
	var buf bytes.Buffer
	w, _ := zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1))
	must(w.Write(b))
	must(w.Close())
	return buf.Bytes()
}

// must panics if what writes to memory fails.
func must(results ...any) {
	if err, _ := results[len(results)-1].(error); err != nil {
		panic(err)
	}
}

// fakeLayer is a v1.Layer over bytes, which counts and can be made to fail.
type fakeLayer struct {
	content
	claim v1.Hash // what DiffID answers
	named v1.Hash // what Digest answers

	opens, closes, diffIDs atomic.Int64
	// compressed, if set, is what Compressed returns.
	compressed func() (io.ReadCloser, error)
}

func fake(c content) *fakeLayer {
	return &fakeLayer{content: c, claim: c.diffID(), named: c.digest()}
}

func (l *fakeLayer) Digest() (v1.Hash, error)            { return l.named, nil }
func (l *fakeLayer) DiffID() (v1.Hash, error)            { l.diffIDs.Add(1); return l.claim, nil }
func (l *fakeLayer) Size() (int64, error)                { return int64(len(l.blob)), nil }
func (l *fakeLayer) MediaType() (types.MediaType, error) { return l.mediaType, nil }

func (l *fakeLayer) Compressed() (io.ReadCloser, error) {
	l.opens.Add(1)
	if l.compressed != nil {
		return l.compressed()
	}
	return &closeCounter{Reader: bytes.NewReader(l.blob), n: &l.closes}, nil
}

func (l *fakeLayer) Uncompressed() (io.ReadCloser, error) {
	return nil, errors.New("the cache is to decompress by itself")
}

type closeCounter struct {
	io.Reader
	n    *atomic.Int64
	once sync.Once
}

func (c *closeCounter) Close() error {
	c.once.Do(func() { c.n.Add(1) })
	return nil
}

// readAll reads and closes what open opened.
func readAll(t *testing.T, open func() (io.ReadCloser, error)) []byte {
	t.Helper()
	b, err := tryRead(open)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return b
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
	if got := readAll(t, l.Compressed); !bytes.Equal(got, want.blob) {
		t.Errorf("Compressed: got %d bytes %s, want %d bytes %s", len(got), digestOf(got), len(want.blob), want.digest())
	}
	if got := readAll(t, l.Uncompressed); !bytes.Equal(got, want.tar) {
		t.Errorf("Uncompressed: got %d bytes %s, want %d bytes %s", len(got), digestOf(got), len(want.tar), want.diffID())
	}
}

func mustGet(t *testing.T, c *cache.Cache, h v1.Hash) v1.Layer {
	t.Helper()
	l, err := c.Get(h)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func wantNotFound(t *testing.T, c *cache.Cache, h v1.Hash) {
	t.Helper()
	if _, err := c.Get(h); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Get(%s): got %v, want ErrNotFound", h, err)
	}
}

// reg is a registry in the process that counts blob GETs.
type reg struct {
	*httptest.Server
	t     *testing.T
	host  string
	gets  sync.Map // digest to *atomic.Int64
	total atomic.Int64
	hook  atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool] // true: it has answered
}

func newRegistry(t *testing.T) *reg {
	t.Helper()
	r := &reg{t: t}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, digest, ok := strings.Cut(req.URL.Path, "/blobs/"); ok && req.Method == http.MethodGet && !strings.HasPrefix(digest, "uploads") {
			n, _ := r.gets.LoadOrStore(digest, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
			r.total.Add(1)
		}
		if hook := r.hook.Load(); hook != nil && (*hook)(w, req) {
			return
		}
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	r.host = u.Host
	return r
}

// blobGets returns how often a blob was asked for.
func (r *reg) blobGets(h v1.Hash) int64 {
	n, ok := r.gets.Load(h.String())
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

// push pushes an image and returns it as a client gets it.
func (r *reg) push(img v1.Image, repo string) v1.Image {
	r.t.Helper()
	ref, err := name.ParseReference(r.host + "/" + repo)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		r.t.Fatal(err)
	}
	return r.pull(repo)
}

func (r *reg) pull(repo string) v1.Image {
	r.t.Helper()
	ref, err := name.ParseReference(r.host + "/" + repo)
	if err != nil {
		r.t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		r.t.Fatal(err)
	}
	return img
}

func layersOf(t *testing.T, img v1.Image) []v1.Layer {
	t.Helper()
	ls, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return ls
}

// stride is how many points a test that goes through all of them goes on at a
// time: all of them, save under the race detector, which costs ten times as
// much and looks for something else.
func stride() int {
	if isRace() {
		return 10
	}
	return 1
}

// isRace reports whether the test was built with the race detector.
func isRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
