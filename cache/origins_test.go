package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/ocicache/ocicache/cache"
)

// A homeland has layers in repositories.
type homeland struct {
	layers map[string]v1.Layer // by repository and digest
	asked  atomic.Int64
	err    error
}

func (h *homeland) origins(repository string, d v1.Descriptor) (v1.Layer, error) {
	h.asked.Add(1)
	if h.err != nil {
		return nil, h.err
	}
	if l, ok := h.layers[repository+"@"+d.Digest.String()]; ok {
		return l, nil
	}
	return nil, fmt.Errorf("%w in %s", cache.ErrNotFound, repository)
}

// remember records that a layer is in a repository.
func remember(t *testing.T, c *cache.Cache, l content, claim v1.Hash, keys ...string) {
	t.Helper()
	desc := v1.Descriptor{Digest: l.digest(), Size: int64(len(l.blob)), MediaType: l.mediaType}
	added, err := c.Remember(t.Context(), []cache.Remembered{{Descriptor: desc, DiffID: claim, Origin: "repo", Keys: keys}})
	if err != nil || added != 1 {
		t.Fatalf("Remember: got %d, %v", added, err)
	}
}

func home(ls ...content) *homeland {
	h := &homeland{layers: map[string]v1.Layer{}}
	for _, l := range ls {
		h.layers["repo@"+l.digest().String()] = fake(l)
	}
	return h
}

// A blob that came from a registry and was removed is fetched from there again,
// once, by either hash; without somebody who knows the registry it is not found.
func TestOrigins(t *testing.T) {
	r := newRegistry(t)
	want := makeLayer(1, 50_000)
	pulled := r.push(imageOf(t, fake(want)), "repo")
	for _, by := range []func(content) v1.Hash{content.digest, content.diffID} {
		dir := t.TempDir()
		c := openDir(t, dir)
		readAll(t, layersOf(t, c.Image(pulled))[0].Uncompressed)
		must(c.Close())
		for h := range blobs(t, dir) {
			must(os.Remove(blobPath(dir, h)))
		}
		before := r.blobGets(want.digest())
		c = openDir(t, dir)
		wantNotFound(t, c, by(want))
		must(c.Close())

		c = openDir(t, dir, cache.WithOrigins(func(repository string, d v1.Descriptor) (v1.Layer, error) {
			if repository != r.host+"/repo" {
				t.Errorf("asked for %s", repository)
			}
			return layersOf(t, pulled)[0], nil
		}))
		l := mustGet(t, c, by(want))
		if digest, err := l.Digest(); err != nil || digest != want.digest() {
			t.Errorf("got %v, %v", digest, err)
		}
		checkForms(t, l, want)
		checkForms(t, mustGet(t, c, by(want)), want)
		if got := r.blobGets(want.digest()) - before; got != 1 {
			t.Errorf("%d GETs, want 1", got)
		}
	}
}

// What was only heard of is read from its home, and checked: bytes by their
// digest, and what they decompress to before anybody gets it by the diffID.
func TestRemember(t *testing.T) {
	honest, liar := makeLayer(1, 5000), makeLayer(2, 5000)
	h := home(honest, liar)
	dir := t.TempDir()
	c := openDir(t, dir, cache.WithOrigins(h.origins))
	remember(t, c, liar, honest.diffID())
	remember(t, c, honest, honest.diffID())
	must(c.Close())
	c = openDir(t, dir, cache.WithOrigins(h.origins))
	if us := usages(t, c, "present==false,pair==claimed,origin==repo"); len(us) != 2 {
		t.Errorf("got %+v", us)
	}
	if digest, err := mustGet(t, c, honest.diffID()).Digest(); err != nil || digest != honest.digest() {
		t.Errorf("got %v, %v, want that of the honest one", digest, err)
	}
	checkForms(t, mustGet(t, c, honest.diffID()), honest)
	checkForms(t, mustGet(t, c, liar.digest()), liar)
	if n, err := c.Remember(t.Context(), []cache.Remembered{{Descriptor: v1.Descriptor{Digest: v1.Hash{Algorithm: "../x", Hex: "../y"}}}}); n != 0 || err != nil {
		t.Errorf("a path for a digest: got %d, %v", n, err)
	}
}

// claimSize records that a layer is in a repository, with another size than it
// has.
func claimSize(t *testing.T, c *cache.Cache, l content, size int64, keys ...string) {
	t.Helper()
	desc := v1.Descriptor{Digest: l.digest(), Size: size, MediaType: l.mediaType}
	if _, err := c.Remember(t.Context(), []cache.Remembered{{Descriptor: desc, Origin: "repo", Keys: keys}}); err != nil {
		t.Fatal(err)
	}
}

// A size that was only heard of is nothing that a layer must have, wherever it
// is read from, and right once it was.
func TestRememberWrongSize(t *testing.T) {
	want := makeLayer(1, 5000)
	size := int64(len(want.blob))
	for _, wrong := range []int64{0, size - 1, size + 1, 1 << 40} {
		for name, get := range map[string]func(*cache.Cache) v1.Layer{
			"by digest": func(c *cache.Cache) v1.Layer { return mustGet(t, c, want.digest()) },
			"wrapped":   func(c *cache.Cache) v1.Layer { return c.Layer(fake(want)) },
			"by key":    func(c *cache.Cache) v1.Layer { return mustBuild(t, c, "key", &builder{}) },
		} {
			c := open(t, cache.WithOrigins(home(want).origins))
			claimSize(t, c, want, wrong, "key")
			checkForms(t, get(c), want)
			if got, err := get(c).Size(); err != nil || got != size {
				t.Errorf("%s, said to have %d bytes: got %d, %v, want %d", name, wrong, got, err, size)
			}
		}
	}
}

// What a layer that is wrapped says of itself comes before hearsay.
func TestRememberWrapped(t *testing.T) {
	want := makeLayer(1, 5000)
	c := open(t)
	claimSize(t, c, want, 7)
	l := c.Layer(fake(want))
	if got, err := l.Size(); err != nil || got != int64(len(want.blob)) {
		t.Errorf("Size: got %d, %v", got, err)
	}
	if d, err := partial.Descriptor(l); err != nil || d.Size != int64(len(want.blob)) {
		t.Errorf("Descriptor: got %+v, %v", d, err)
	}
	wantNotFound(t, c, want.digest())
}

// A build that gives the digest that its key is said to stand for is not held
// to a size.
func TestBuildWrongSize(t *testing.T) {
	want := makeLayer(1, 5000)
	b := &builder{make: func() (v1.Layer, error) { return fake(want), nil }}
	c := open(t)
	claimSize(t, c, want, 7, "key")
	checkForms(t, mustBuild(t, c, "key", b), want)
	if keys, err := c.Keys(); err != nil || len(keys) != 1 || b.n.Load() != 1 {
		t.Errorf("got the keys %v, %v; built %d times", keys, err, b.n.Load())
	}
}

// A home may fail, lie, or have lost it.
func TestOriginsFail(t *testing.T) {
	want := makeLayer(1, 5000)
	h := home()
	c := open(t, cache.WithOrigins(h.origins))
	remember(t, c, want, want.diffID())
	h.err = errors.New("no route")
	for _, hash := range []v1.Hash{want.digest(), want.diffID()} {
		if _, err := tryRead(mustGet(t, c, hash).Uncompressed); !errors.Is(err, h.err) {
			t.Errorf("no route: got %v", err)
		}
	}
	h.err = nil
	lie := fake(makeLayer(2, 5000))
	lie.blob = append(bytes.Clone(want.blob[:len(want.blob)-1]), 'x')
	h.layers["repo@"+want.digest().String()] = lie
	var mismatch *cache.DigestMismatchError
	if _, err := tryRead(mustGet(t, c, want.digest()).Compressed); !errors.As(err, &mismatch) {
		t.Errorf("a lie: got %v", err)
	}
	delete(h.layers, "repo@"+want.digest().String())
	if _, err := tryRead(mustGet(t, c, want.digest()).Compressed); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("lost: got %v", err)
	}
	asked := h.asked.Load()
	wantNotFound(t, c, want.digest())
	wantNotFound(t, c, want.diffID())
	if h.asked.Load() != asked {
		t.Error("asked again for what was lost")
	}
}

// A build whose bytes are gone is fetched from its home, and run again if that
// cannot be had.
func TestBuildOrigins(t *testing.T) {
	want := makeLayer(1, 5000)
	h := home(want)
	c := open(t, cache.WithOrigins(h.origins))
	b := &builder{make: func() (v1.Layer, error) { return fake(want), nil }}
	remember(t, c, want, want.diffID(), "key", "")
	l := mustBuild(t, c, "key", b)
	if digest, err := l.Digest(); err != nil || digest != want.digest() || h.asked.Load() != 0 {
		t.Errorf("got %v, %v; asked %d times", digest, err, h.asked.Load())
	}
	checkForms(t, l, want)
	if b.n.Load() != 0 || h.asked.Load() != 1 {
		t.Errorf("built %d times, fetched %d times", b.n.Load(), h.asked.Load())
	}
	for hash := range blobs(t, dirOf(c)) {
		must(os.Remove(blobPath(dirOf(c), hash)))
	}
	h.err = errors.New("no route")
	checkForms(t, mustBuild(t, c, "key", b), want)
	if b.n.Load() != 1 {
		t.Errorf("built %d times, want once", b.n.Load())
	}
}

// A layer of a cache with an origin is pushed as any other is.
func TestOriginsPush(t *testing.T) {
	r := newRegistry(t)
	want := makeLayer(1, 5000)
	h := home(want)
	c := open(t, cache.WithOrigins(h.origins))
	remember(t, c, want, want.diffID())
	pulled := r.push(imageOf(t, mustGet(t, c, want.digest())), "other")
	checkForms(t, layersOf(t, pulled)[0], want)
	exists, err := mustGet(t, c, want.digest()).(interface{ Exists() (bool, error) }).Exists()
	if err != nil || !exists {
		t.Errorf("Exists: got %v, %v", exists, err)
	}
}

// What others say does not change where a layer that is here came from, and a
// key that is taken over from them is not published.
func TestRememberProvenance(t *testing.T) {
	c := open(t)
	here, away := makeLayer(1, 1000), makeLayer(2, 1000)
	must(c.Fill(t.Context(), fake(here)))
	for _, l := range []content{here, away} {
		desc := v1.Descriptor{Digest: l.digest(), Size: int64(len(l.blob)), MediaType: l.mediaType}
		_, err := c.Remember(t.Context(), []cache.Remembered{{Descriptor: desc, Origin: "public", Keys: []string{l.digest().Hex}}})
		must(err)
	}
	if us := usages(t, c, "origin==public"); len(us) != 1 || us[0].Digest != away.digest() {
		t.Errorf("got %+v, want the one that is not here", us)
	}
	keys, err := c.Keys()
	if err != nil || len(keys) != 2 || keys[0].Shareable || keys[1].Shareable {
		t.Errorf("got %+v, %v", keys, err)
	}
}
