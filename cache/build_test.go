package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/stream"

	"github.com/ocicache/ocicache/cache"
)

// A builder counts its builds.
type builder struct {
	n    atomic.Int64
	make func() (v1.Layer, error)
}

func (b *builder) build(context.Context) (v1.Layer, error) {
	b.n.Add(1)
	return b.make()
}

func builderOf(c content) *builder {
	return &builder{make: func() (v1.Layer, error) { return fake(c), nil }}
}

func mustBuild(t *testing.T, c *cache.Cache, key string, b *builder, opts ...cache.BuildOption) v1.Layer {
	t.Helper()
	l, err := c.Build(t.Context(), key, b.build, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// kindsOfBuilt are layers as builders make them.
func kindsOfBuilt(t *testing.T) map[string]func() (v1.Layer, error) {
	tar := makeTar(1, 100_000)
	return map[string]func() (v1.Layer, error){
		"compressed": func() (v1.Layer, error) {
			return fake(content{blob: gzipped(tar), tar: tar, mediaType: "application/vnd.oci.image.layer.v1.tar+gzip"}), nil
		},
		"tar":    func() (v1.Layer, error) { return partial.UncompressedToLayer(&tarLayer{tar: tar}) },
		"stream": func() (v1.Layer, error) { return stream.NewLayer(io.NopCloser(bytes.NewReader(tar))), nil },
	}
}

// A build runs once. Then, also after reopening, all is known of its layer, and
// nothing is read for it; its bytes are there, and if they are not, the build
// is run again.
func TestBuild(t *testing.T) {
	for name, make := range kindsOfBuilt(t) {
		t.Run(name, func(t *testing.T) {
			var ops atomic.Int64
			hook := cache.WithHook(func(op, _ string) error {
				if op != "stat" {
					ops.Add(1)
				}
				return nil
			})
			dir := t.TempDir()
			b := &builder{make: make}
			c := openDir(t, dir)
			first := mustBuild(t, c, "key", b)
			want := content{blob: readAll(t, first.Compressed), tar: readAll(t, first.Uncompressed)}
			checkBuilt(t, mustBuild(t, c, "key", b), want)
			must(c.Close())
			c = openDir(t, dir, hook) // in which nothing goes on in the background
			before := ops.Load()
			l := mustBuild(t, c, "key", b)
			if got := ops.Load(); got != before {
				t.Errorf("a hit costs %d file operations", got-before)
			}
			checkBuilt(t, l, want)
			if got := b.n.Load(); got != 1 {
				t.Errorf("built %d times, want once", got)
			}
			for h := range blobs(t, dir) {
				must(os.Remove(blobPath(dir, h)))
			}
			checkBuilt(t, mustBuild(t, c, "key", b), want)
			if got := b.n.Load(); got != 2 {
				t.Errorf("after the bytes were lost: built %d times, want twice", got)
			}
			checkBuilt(t, mustBuild(t, c, "key", b), want)
			if got := b.n.Load(); got != 2 {
				t.Errorf("built %d times, want twice: the bytes are back", got)
			}
		})
	}
}

func checkBuilt(t *testing.T, l v1.Layer, want content) {
	t.Helper()
	digest, err := l.Digest()
	diffID, derr := l.DiffID()
	size, serr := l.Size()
	if digest != want.digest() || diffID != want.diffID() || size != int64(len(want.blob)) {
		t.Errorf("got %s, %s, %d, %v; want %s, %s, %d", digest, diffID, size, errors.Join(err, derr, serr), want.digest(), want.diffID(), len(want.blob))
	}
	checkForms(t, l, want)
}

// Pushing a built layer to a registry that has it is one HEAD.
func TestBuildPush(t *testing.T) {
	r := newRegistry(t)
	b := &builder{make: kindsOfBuilt(t)["tar"]}
	dir := t.TempDir()
	c := openDir(t, dir)
	repo, err := name.NewRepository(r.host + "/built")
	must(err)
	must(remote.WriteLayer(repo, mustBuild(t, c, "key", b)))
	must(c.Close())
	c = openDir(t, dir)
	for h := range blobs(t, dir) {
		must(os.Remove(blobPath(dir, h))) // they are not needed
	}
	var asked []string
	hook := func(_ http.ResponseWriter, req *http.Request) bool {
		if strings.Contains(req.URL.Path, "/blobs/") {
			asked = append(asked, req.Method)
		}
		return false
	}
	r.hook.Store(&hook)
	must(remote.WriteLayer(repo, mustBuild(t, c, "key", b)))
	if len(asked) != 1 || asked[0] != http.MethodHead || b.n.Load() != 1 {
		t.Errorf("asked %v of the registry, built %d times", asked, b.n.Load())
	}
}

// Many ask for a key at once: one build, its layer or its error for all. One
// that leaves does not end it.
func TestBuildConcurrent(t *testing.T) {
	c := open(t)
	broken := errors.New("broken")
	for _, fail := range []error{nil, broken} {
		started, gate := make(chan struct{}), make(chan struct{})
		var once sync.Once
		b := &builder{make: func() (v1.Layer, error) {
			once.Do(func() { close(started) })
			<-gate
			return fake(makeLayer(1, 1000)), fail
		}}
		key := "key"
		if fail != nil {
			key = "broken"
		}
		var wg sync.WaitGroup
		waiter := func() {
			if _, err := c.Build(t.Context(), key, b.build); !errors.Is(err, fail) {
				t.Errorf("got %v, want %v", err, fail)
			}
		}
		wg.Go(waiter)
		<-started
		for range 8 {
			wg.Go(waiter)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Build(ctx, key, b.build); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		close(gate)
		wg.Wait()
		if got := b.n.Load(); fail == nil && got != 1 {
			t.Errorf("built %d times, want once", got)
		}
	}
	// A failed build is not remembered.
	b := &builder{make: func() (v1.Layer, error) { return fake(makeLayer(2, 1000)), nil }}
	mustBuild(t, c, "broken", b)
	if b.n.Load() != 1 {
		t.Error("a failed build was remembered")
	}
}

// A build in another process is waited for, and its layer found; if that
// process is killed, the key is free.
func TestBuildInAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	c := openDir(t, dir)
	b := &builder{make: func() (v1.Layer, error) { return fake(small(1)), nil }}
	p := start(t, "serve", dir, "")
	p.do("stop before create .ocicache/ingest", "done") // in the middle of its build
	p.tell("build 1")
	p.want("stopped")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Build(ctx, "key 1", b.build); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	p.do("go on", "built")
	mustBuild(t, c, "key 1", b)
	if got := b.n.Load(); got != 0 {
		t.Errorf("built %d times, want none: another process has", got)
	}

	p.do("stop before create .ocicache/ingest", "done")
	p.tell("build 2")
	p.want("stopped")
	p.kill()
	b.make = func() (v1.Layer, error) { return fake(small(2)), nil }
	mustBuild(t, c, "key 2", b)
	if got := b.n.Load(); got != 1 {
		t.Errorf("built %d times, want once: the other process died", got)
	}
}

// A process is killed in the middle of its build function while another one
// waits for the key, which goes on.
func TestBuilderKilled(t *testing.T) {
	dir := t.TempDir()
	builds, waits := start(t, "serve", dir, ""), start(t, "serve", dir, "")
	builds.tell("building 1")
	builds.want("building")
	waits.do("stop before lock .ocicache/keys/", "done")
	waits.tell("build 1")
	waits.want("stopped")
	waits.tell("again")
	waits.want("stopped") // the key was locked
	builds.kill()
	waits.do("go on", "built")
	waits.end()
	c := openDir(t, dir)
	b := builderOf(small(1))
	checkBuilt(t, mustBuild(t, c, "key 1", b), small(1))
	if got := b.n.Load(); got != 0 {
		t.Errorf("built %d times, want none: the one that waited has", got)
	}
}

// A builder that is not deterministic: what it builds again is not taken for
// what it built, and the key is built anew. WithVerifyBuilds tells.
func TestBuildChanges(t *testing.T) {
	dir := t.TempDir()
	c := openDir(t, dir)
	n := uint64(0)
	b := &builder{make: func() (v1.Layer, error) { n++; return fake(makeLayer(n, 1000)), nil }}
	mustBuild(t, c, "key", b)
	must(os.Remove(blobPath(dir, makeLayer(1, 1000).digest())))
	var mismatch *cache.DigestMismatchError
	if _, err := tryRead(mustBuild(t, c, "key", b).Compressed); !errors.As(err, &mismatch) {
		t.Errorf("got %v, want a mismatch", err)
	}
	checkBuilt(t, mustBuild(t, c, "key", b), makeLayer(3, 1000))
	strict := openDir(t, dir, cache.WithVerifyBuilds())
	if _, err := strict.Build(t.Context(), "key", b.build); !errors.As(err, &mismatch) || mismatch.Want != makeLayer(3, 1000).digest() {
		t.Errorf("got %v, want a mismatch", err)
	}
	same := builderOf(makeLayer(3, 1000))
	if _, err := strict.Build(t.Context(), "key", same.build); err != nil || same.n.Load() != 1 {
		t.Errorf("got %v, built %d times", err, same.n.Load())
	}
}

// The diffID of a layer that was built as a blob is known later, if it was
// when it was built; else it is found by reading.
func TestBuildDiffID(t *testing.T) {
	want := makeLayer(1, 1000)
	for name, test := range map[string]struct {
		make  func() (v1.Layer, error)
		known bool
	}{
		"known":   {func() (v1.Layer, error) { return fake(want), nil }, true},
		"unknown": {func() (v1.Layer, error) { return partial.CompressedToLayer(&blobLayer{fake(want)}) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			b := &builder{make: test.make}
			mustBuild(t, c, "key", b)
			diffID, err := mustBuild(t, c, "key", b).DiffID()
			if err != nil || diffID != want.diffID() || b.n.Load() != 1 {
				t.Errorf("got %s, %v, built %d times; want %s", diffID, err, b.n.Load(), want.diffID())
			}
			if got := !exists(blobPath(dirOf(c), want.diffID())); got != test.known {
				t.Errorf("nothing was read for it: %v, want %v", got, test.known)
			}
		})
	}
}

// blobLayer is what does not know its diffID.
type blobLayer struct{ *fakeLayer }

func (b *blobLayer) DiffID() {}

// Keys are listed and dropped; several share a layer; they go with it.
func TestBuildKeys(t *testing.T) {
	c := open(t)
	b := &builder{make: func() (v1.Layer, error) { return fake(makeLayer(1, 1000)), nil }}
	long := strings.Repeat("é,:\n", 800)
	mustBuild(t, c, "a", b)
	mustBuild(t, c, long, b, cache.Shareable())
	keys, err := c.Keys()
	if err != nil || len(keys) != 2 {
		t.Fatalf("got %v, %v", keys, err)
	}
	for _, k := range keys {
		if k.Digest != makeLayer(1, 1000).digest() || k.Shareable != (k.Key == long) || k.Created.IsZero() {
			t.Errorf("got %+v", k)
		}
	}
	must(c.DropKeys("a", "not there"))
	mustBuild(t, c, "a", b)
	if got := b.n.Load(); got != 3 {
		t.Errorf("built %d times, want 3: one key was dropped", got)
	}
	for _, key := range []string{"", strings.Repeat("x", 4097)} {
		if _, err := c.Build(t.Context(), key, b.build); err == nil {
			t.Errorf("a key of %d bytes: no error", len(key))
		}
	}
	prune(t, c, cache.PrunePolicy{All: true})
	if keys, err := c.Keys(); err != nil || len(keys) != 0 {
		t.Errorf("after pruning all: %v, %v", keys, err)
	}
	must(c.Close())
	if _, err := c.Build(t.Context(), "a", b.build); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
}

// A key that is too old for one who asks is built anew, and then is young.
func TestBuildMaxAge(t *testing.T) {
	at := newClock()
	c := open(t, cache.WithClock(at.now))
	b := &builder{make: func() (v1.Layer, error) { return fake(makeLayer(uint64(at.now().Unix()), 1000)), nil }}
	want := func(builds int64, opts ...cache.BuildOption) {
		t.Helper()
		mustBuild(t, c, "key", b, opts...)
		if got := b.n.Load(); got != builds {
			t.Errorf("built %d times, want %d", got, builds)
		}
	}
	want(1)
	at.set(3600)
	want(1, cache.MaxAge(time.Hour))
	at.set(3601)
	want(2, cache.MaxAge(time.Hour))
	want(2, cache.MaxAge(time.Hour))
	at.set(1_000_000)
	want(2)
	if got := c.Stats().Builds; got != 2 {
		t.Errorf("Stats count %d builds, want 2", got)
	}
}

// A key that is there becomes shareable when somebody says so, and no younger.
func TestBuildShareable(t *testing.T) {
	at := newClock()
	c := open(t, cache.WithClock(at.now))
	b := &builder{make: func() (v1.Layer, error) { return fake(makeLayer(1, 1000)), nil }}
	created := at.now()
	for _, tt := range []struct {
		opts []cache.BuildOption
		want bool
	}{{nil, false}, {[]cache.BuildOption{cache.Shareable()}, true}, {nil, true}} {
		mustBuild(t, c, "key", b, tt.opts...)
		at.set(100)
		keys, err := c.Keys()
		if err != nil || len(keys) != 1 || keys[0].Shareable != tt.want || !keys[0].Created.Equal(created) {
			t.Errorf("got %+v, %v; want shareable %v", keys, err, tt.want)
		}
	}
	if b.n.Load() != 1 {
		t.Errorf("built %d times", b.n.Load())
	}
}
