package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/ocicache/ocicache/cache"
)

// blocked returns a build function that says when it was called, and then
// waits.
func blocked(l v1.Layer) (build func(context.Context) (v1.Layer, error), called, goOn chan struct{}) {
	called, goOn = make(chan struct{}), make(chan struct{})
	return func(context.Context) (v1.Layer, error) {
		close(called)
		<-goOn
		return l, nil
	}, called, goOn
}

// askedContext says when somebody waits for its end.
type askedContext struct {
	context.Context
	once  sync.Once
	asked chan struct{}
}

func newAskedContext(ctx context.Context) *askedContext {
	return &askedContext{Context: ctx, asked: make(chan struct{})}
}

func (c *askedContext) Done() <-chan struct{} {
	c.once.Do(func() { close(c.asked) })
	return c.Context.Done()
}

// A build function ends its goroutine, as t.FailNow does, or returns nothing:
// who waits is told, and the key is free.
func TestBuildReturnsNothing(t *testing.T) {
	for name, build := range map[string]func(context.Context) (v1.Layer, error){
		"exits":    func(context.Context) (v1.Layer, error) { runtime.Goexit(); return nil, nil },
		"no layer": func(context.Context) (v1.Layer, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			if l, err := c.Build(t.Context(), "key", build); err == nil {
				t.Errorf("got %v, want an error", l)
			}
			b := builderOf(small(1))
			checkBuilt(t, mustBuild(t, c, "key", b), small(1))
			prune(t, c, cache.PrunePolicy{Filters: []string{"size>=0"}})
			l, err := c.Build(t.Context(), "key", build)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tryRead(l.Compressed); err == nil {
				t.Error("read what was not built again")
			}
		})
	}
}

// A panic of a build function is one of all who wait, with its value and its
// stack. The key is free. Where the bytes are wanted again it is an error: the
// build is run by no caller.
func TestBuildPanics(t *testing.T) {
	c := open(t)
	value := errors.New("the value")
	called, goOn := make(chan struct{}), make(chan struct{})
	build := func(context.Context) (v1.Layer, error) {
		close(called)
		<-goOn
		panic(value)
	}
	recovered := make(chan any)
	wait := func(ctx context.Context) {
		defer func() { recovered <- recover() }()
		_, err := c.Build(ctx, "key", build)
		t.Errorf("Build returned %v", err)
	}
	go wait(t.Context())
	<-called
	ctx := newAskedContext(t.Context())
	go wait(ctx)
	<-ctx.asked
	close(goOn)
	for range 2 {
		got, _ := (<-recovered).(error)
		if !errors.Is(got, value) || !strings.Contains(fmt.Sprint(got), "TestBuildPanics") {
			t.Errorf("recovered %v", got)
		}
	}
	checkBuilt(t, mustBuild(t, c, "key", builderOf(small(1))), small(1))
	prune(t, c, cache.PrunePolicy{Filters: []string{"size>=0"}})
	l, err := c.Build(t.Context(), "key", func(context.Context) (v1.Layer, error) { panic(value) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryRead(l.Compressed); !errors.Is(err, value) {
		t.Errorf("read: got %v", err)
	}
}

// A build that asks for its own key, also in a roundabout way, would wait for
// itself.
func TestBuildWithinItself(t *testing.T) {
	c := open(t)
	b := builderOf(small(1))
	inner := func(ctx context.Context) (v1.Layer, error) { return c.Build(ctx, "key", b.build) }
	for _, within := range []func(context.Context) (v1.Layer, error){
		inner,
		func(ctx context.Context) (v1.Layer, error) { return c.Build(ctx, "other", inner) },
	} {
		if l, err := c.Build(t.Context(), "key", within); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v", l, err)
		}
	}
	if b.n.Load() != 0 {
		t.Error("it was built")
	}
}

// What a build returns may be a layer of this cache: wrapped, or built under
// another key. When the bytes are wanted again, it does not wait for the fill
// that it is read for.
func TestBuildOfOwnLayer(t *testing.T) {
	want := small(1)
	for name, build := range map[string]func(c *cache.Cache) func(context.Context) (v1.Layer, error){
		"wrapped": func(c *cache.Cache) func(context.Context) (v1.Layer, error) {
			return func(context.Context) (v1.Layer, error) { return c.Layer(fake(want)), nil }
		},
		"built": func(c *cache.Cache) func(context.Context) (v1.Layer, error) {
			return func(ctx context.Context) (v1.Layer, error) { return c.Build(ctx, "inner", builderOf(want).build) }
		},
		"built as a tar": func(c *cache.Cache) func(context.Context) (v1.Layer, error) {
			b := &builder{make: func() (v1.Layer, error) { return uncompressedOf(want) }}
			return func(ctx context.Context) (v1.Layer, error) { return c.Build(ctx, "inner", b.build) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			l, err := c.Build(t.Context(), "outer", build(c))
			if err != nil {
				t.Fatal(err)
			}
			digest, err := l.Digest()
			must(err)
			for range 2 {
				prune(t, c, cache.PrunePolicy{Filters: []string{"size>=0"}})
				if got := digestOf(readAll(t, l.Compressed)); got != digest {
					t.Errorf("got %s, want %s", got, digest)
				}
				if l, err = c.Build(t.Context(), "outer", build(c)); err != nil {
					t.Fatal(err)
				}
			}
			if s := c.Stats(); s.Fallbacks != 0 || s.WriteFaults != 0 {
				t.Errorf("it was read past the cache: %+v", s)
			}
		})
	}
}

// Close comes in the middle of a build: its context ends, and who waits gets
// ErrClosed. A function that does not mind its context is named, and leaves
// nothing locked.
func TestCloseInBuild(t *testing.T) {
	for name, minds := range map[string]bool{"minds its context": true, "does not": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c, err := cache.Open(dir, cache.WithCloseTimeout(time.Millisecond))
			must(err)
			called, goOn, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
			built := make(chan error)
			go func() {
				_, err := c.Build(t.Context(), "the key", func(ctx context.Context) (v1.Layer, error) {
					defer close(returned)
					close(called)
					if <-ctx.Done(); !minds {
						<-goOn
					}
					return nil, ctx.Err()
				})
				built <- err
			}()
			<-called
			err = c.Close()
			if got := err != nil && strings.Contains(err.Error(), "the key"); got == minds || minds && err != nil {
				t.Errorf("Close: %v", err)
			}
			if err := <-built; !errors.Is(err, cache.ErrClosed) {
				t.Errorf("Build: got %v, want ErrClosed", err)
			}
			close(goOn)
			<-returned
			checkDir(t, dir)
		})
	}
}

// Two caches want the bytes of one key again: one builds, and the other finds
// the blob.
func TestBuildAgainOnce(t *testing.T) {
	dir := t.TempDir()
	var armed atomic.Bool
	var once sync.Once
	waits := make(chan struct{})
	c := openDir(t, dir)
	d := openDir(t, dir, cache.WithHook(func(op, name string) error {
		if armed.Load() && op == "lock" && strings.HasPrefix(name, ".ocicache/keys/") {
			once.Do(func() { close(waits) })
		}
		return nil
	}))
	want := small(1)
	build, called, goOn := blocked(fake(want))
	second := builderOf(want)
	mustBuild(t, c, "key", builderOf(want))
	l, err := c.Build(t.Context(), "key", build)
	must(err)
	l2 := mustBuild(t, d, "key", second)
	prune(t, c, cache.PrunePolicy{Filters: []string{"size>=0"}})
	armed.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { must(tryRead(l.Compressed)) })
	<-called
	wg.Go(func() { must(tryRead(l2.Compressed)) })
	<-waits
	close(goOn)
	wg.Wait()
	if got := second.n.Load(); got != 0 {
		t.Errorf("built %d times more, want none", got)
	}
}

// A reader that opens what has to be built again, and does not read it, keeps
// no other one waiting: here both are one goroutine's, and nothing can be kept.
func TestBuildAgainUnread(t *testing.T) {
	dir := t.TempDir()
	c := openDir(t, dir)
	b := builderOf(small(1))
	mustBuild(t, c, "key", b)
	for h := range blobs(t, dir) {
		must(os.Remove(blobPath(dir, h)))
	}
	for name, opts := range map[string][]cache.Option{"kept": nil, "read-only": {cache.WithReadOnly()}} {
		l := mustBuild(t, openDir(t, dir, opts...), "key", b)
		first, err := l.Compressed()
		must(err)
		second, err := l.Compressed()
		must(err)
		for _, rc := range []io.ReadCloser{second, first} {
			if got, err := io.ReadAll(rc); digestOf(got) != small(1).digest() {
				t.Errorf("%s: got %d bytes, %v", name, len(got), err)
			}
			must(rc.Close())
		}
		for h := range blobs(t, dir) {
			must(os.Remove(blobPath(dir, h)))
		}
	}
}

// A key that another process dropped, and recorded anew, is seen within a
// second.
func TestBuildDroppedElsewhere(t *testing.T) {
	dir, at := t.TempDir(), newClock()
	c, other := openDir(t, dir, cache.WithClock(at.now)), openDir(t, dir)
	mustBuild(t, c, "key", builderOf(small(1)))
	must(other.DropKeys("key"))
	mustBuild(t, other, "key", builderOf(small(2)))
	at.set(1)
	b := builderOf(small(3))
	checkBuilt(t, mustBuild(t, c, "key", b), small(2))
	if b.n.Load() != 0 {
		t.Error("it was built again")
	}
}

// Who joins a build gets what its own options ask for.
func TestBuildJoined(t *testing.T) {
	at := newClock()
	c := open(t, cache.WithClock(at.now), cache.WithVerifyBuilds()) // so that what is known is built, too
	mustBuild(t, c, "old", builderOf(small(1)))
	at.set(7200)
	for key, o := range map[string]struct {
		opt   cache.BuildOption
		built int64
	}{"new": {cache.Shareable(), 0}, "old": {cache.MaxAge(time.Hour), 1}} {
		build, called, goOn := blocked(fake(small(1)))
		b := builderOf(small(1))
		var wg sync.WaitGroup
		wg.Go(func() { must(c.Build(t.Context(), key, build)) })
		<-called
		ctx := newAskedContext(t.Context())
		wg.Go(func() { must(c.Build(ctx, key, b.build, o.opt)) })
		<-ctx.asked
		close(goOn)
		wg.Wait()
		if got := b.n.Load(); got != o.built {
			t.Errorf("%s: built %d times more, want %d", key, got, o.built)
		}
	}
	keys, err := c.Keys()
	must(err)
	for _, k := range keys {
		if k.Shareable != (k.Key == "new") || !k.Created.Equal(at.now()) {
			t.Errorf("got %+v", k)
		}
	}
}

// uncompressedOf returns the layer of a tar that has no compressed form yet.
func uncompressedOf(c content) (v1.Layer, error) {
	return partial.UncompressedToLayer(&tarLayer{tar: c.tar})
}

// Another compressed form of what is built as a tar is there, of an image that
// was pulled. The key stands for what comes out whenever it is built.
func TestBuildTarBesideAnother(t *testing.T) {
	c := open(t)
	w := small(1)
	w.blob, w.mediaType = zstded(w.tar), "application/vnd.oci.image.layer.v1.tar+zstd"
	must(c.FillUncompressed(t.Context(), fake(w)))
	b := &builder{make: func() (v1.Layer, error) { return uncompressedOf(w) }}
	l := mustBuild(t, c, "key", b)
	want := content{blob: readAll(t, l.Compressed), tar: w.tar}
	if want.digest() == w.digest() {
		t.Error("the key stands for the blob of the other image")
	}
	prune(t, c, cache.PrunePolicy{Filters: []string{"size>=0"}})
	for range 2 {
		checkBuilt(t, mustBuild(t, c, "key", b), want)
	}
}

// What was just compressed is pruned before it could be looked at.
func TestBuildBesidePrune(t *testing.T) {
	for name, when := range map[string]struct{ op, prefix string }{
		"committed":  {"remove", ".ocicache/ingest/"},
		"looked for": {"stat", "blobs/"},
	} {
		t.Run(name, func(t *testing.T) {
			var c *cache.Cache
			var released atomic.Int64 // ingests: the tar's and the blob's, each with a lock file
			var pruned atomic.Bool
			hook := func(op, path string) error {
				if op == "remove" && strings.HasPrefix(path, ".ocicache/ingest/") {
					released.Add(1)
				}
				if released.Load() >= 2 && op == when.op && strings.HasPrefix(path, when.prefix) && pruned.CompareAndSwap(false, true) {
					if _, err := c.Prune(context.Background(), cache.PrunePolicy{All: true}); err != nil {
						t.Error(err)
					}
				}
				return nil
			}
			c = open(t, cache.WithHook(hook))
			b := &builder{make: func() (v1.Layer, error) { return uncompressedOf(small(1)) }}
			l := mustBuild(t, c, "key", b)
			if got := digestOf(readAll(t, l.Uncompressed)); got != small(1).diffID() {
				t.Errorf("got %s", got)
			}
		})
	}
}
