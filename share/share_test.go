package share_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/share"
)

// pullFrom pulls from a hub.
func pullFrom(t testing.TB, h *hub, c *cache.Cache, ref string, opts ...share.Option) share.PullReport {
	t.Helper()
	r, err := share.Pull(t.Context(), c, hubTag(t, ref), append([]share.Option{share.WithTransport(h)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fromHub has a cache read from a hub what it does not hold.
func fromHub(h *hub) cache.Option { return cache.WithOrigins(share.Origins(share.WithTransport(h))) }

// wantRead reads layers in both forms, got by their digest or diffID.
func wantRead(t *testing.T, c *cache.Cache, by func(*bytesLayer) (v1.Hash, error), numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		want := numbered(n)
		hash, err := by(want)
		if err != nil {
			t.Fatal(err)
		}
		checkForms(t, mustGet(t, c, hash), content{want.blob, want.tar})
	}
}

// What one cache pushes another has, and reads each blob once, when it is
// needed, also after it was opened again.
func TestShare(t *testing.T) {
	h := newHub()
	mustPush(t, h, cacheOf(t, upTo(6)...), "repo:tag")
	h.requests()
	dir := t.TempDir()
	c := openCache(t, dir, fromHub(h))
	if r := pullFrom(t, h, c, "repo:tag"); r.Added != 6 || r.Entries != 6 || r.Lost != 0 {
		t.Errorf("got %+v", r)
	}
	if got := h.requests(); len(got) != 2 {
		t.Errorf("a pull asks %q, want an index and a shard", got)
	}
	wantRead(t, c, (*bytesLayer).Digest, 0, 1)
	wantRead(t, c, (*bytesLayer).DiffID, 2)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	c = openCache(t, dir, fromHub(h))
	wantRead(t, c, (*bytesLayer).DiffID, upTo(5)...)
	wantRead(t, c, (*bytesLayer).Digest, upTo(6)...)
	if n := countPrefix(h.requests(), "GET blob"); n != 6 {
		t.Errorf("%d blobs were read, want each of 6 once", n)
	}
	if r := mustPush(t, h, c, "repo:tag"); !r.Unchanged || r.Selected.Layers != 6 {
		t.Errorf("pushed back: got %+v", r)
	}
	if log := h.requests(); len(log) != 1 {
		t.Errorf("pushed back: asked %q", log)
	}
}

// What was only pulled is not pushed on: nobody here has seen it.
func TestSharePulledOnly(t *testing.T) {
	h := newHub()
	mustPush(t, h, cacheOf(t, 1, 2), "repo:tag")
	c := openCache(t, t.TempDir(), fromHub(h))
	pullFrom(t, h, c, "repo:tag")
	wantRead(t, c, (*bytesLayer).Digest, 2)
	mustPush(t, h, c, "elsewhere:tag")
	wantLayers(t, h, "elsewhere", "tag", 2)
}

// Keys travel if they are shareable, and are hits where they are trusted: then
// the layer is had without a build.
func TestShareKeys(t *testing.T) {
	h, a := newHub(), cacheOf(t)
	build(t, a, "shareable", 1, cache.Shareable())
	build(t, a, "local", 2)
	mustPush(t, h, a, "repo:tag")
	for _, trusted := range []bool{false, true} {
		c := openCache(t, t.TempDir(), fromHub(h))
		var opts []share.Option
		if trusted {
			opts = append(opts, share.TrustKeys())
		}
		pullFrom(t, h, c, "repo:tag", opts...)
		for key, n := range map[string]int{"shareable": 1, "local": 2} {
			want, ran := numbered(n), false
			l, err := c.Build(t.Context(), key, func(context.Context) (v1.Layer, error) { ran = true; return want, nil })
			if err != nil {
				t.Fatal(err)
			}
			checkForms(t, l, content{want.blob, want.tar})
			if hit := trusted && key == "shareable"; ran == hit {
				t.Errorf("trusted %t, %s: the build ran: %t", trusted, key, ran)
			}
		}
	}
}

// What several caches push a further one has.
func TestShareMerged(t *testing.T) {
	h := newHub()
	mustPush(t, h, cacheOf(t, 1, 2), "repo:tag")
	mustPush(t, h, cacheOf(t, 2, 3), "repo:tag")
	c := openCache(t, t.TempDir(), fromHub(h))
	if r := pullFrom(t, h, c, "repo:tag", share.WithBytes()); r.Fetched != 3 || len(r.Gone) != 0 {
		t.Errorf("got %+v", r)
	}
	if us := usages(t, c, "present==true"); len(us) != 3 {
		t.Errorf("%d layers are here", len(us))
	}
	wantRead(t, c, (*bytesLayer).Digest, 1, 2, 3)
}

// A branch begins with what main has, and leaves that as it is.
func TestShareScopes(t *testing.T) {
	h := newHub()
	mustPush(t, h, cacheOf(t, 1, 2), "repo:main")
	for run, missing := range []int{1, 0} {
		c := openCache(t, t.TempDir(), fromHub(h))
		scopes := share.WithScopes(hubTag(t, "repo:main"))
		r := pullFrom(t, h, c, "repo:branch", scopes)
		if r.Added != 2+run || len(r.Missing) != missing {
			t.Errorf("run %d: got %+v", run, r)
		}
		wantRead(t, c, (*bytesLayer).DiffID, 2)
		fill(t, c, 3)
		mustPush(t, h, c, "repo:branch")
	}
	wantLayers(t, h, "repo", "branch", 2, 3)
	wantLayers(t, h, "repo", "main", 1, 2)
}

// during calls f once, before the n-th request, and reports whether there was
// one. Requests of f are not counted.
func (h *hub) during(n int, f, of func()) (did bool) {
	var seen, inside atomic.Int64
	h.hook = func(*http.Request) (*http.Response, error) {
		if inside.Load() == 0 && seen.Add(1) == int64(n)+1 {
			inside.Store(1)
			did = true
			f()
			inside.Store(0)
		}
		return nil, nil
	}
	of()
	h.hook = nil
	return did
}

// A pull at any moment of a push finds all that was there before; and so does
// one during which somebody pushes, and deletes the shards of old.
func TestShareMeanwhile(t *testing.T) {
	old := time.Unix(1_800_000_000, 0)
	a, b := cacheOf(t, 1, 2), cacheOf(t, 2, 3)
	for _, pushing := range []bool{true, false} {
		for n, more := 0, true; more; n++ {
			h := newHub()
			mustPush(t, h, a, "repo:tag", share.WithClock(func() time.Time { return old }))
			c := openCache(t, t.TempDir(), fromHub(h))
			push := func() {
				mustPush(t, h, b, "repo:tag", share.WithJobs(1), share.WithClock(func() time.Time { return old.Add(2 * time.Hour) }))
			}
			pull := func() {
				r, err := share.Pull(t.Context(), c, hubTag(t, "repo:tag"), share.WithTransport(h), share.WithJobs(1))
				if err != nil || r.Lost > 0 {
					t.Errorf("request %d, pushing %t: got %+v, %v", n, pushing, r, err)
				}
			}
			if pushing {
				more = h.during(n, pull, push)
			} else {
				more = h.during(n, push, pull)
			}
			if !more {
				break
			}
			wantRead(t, c, (*bytesLayer).Digest, 1, 2)
			wantLayers(t, h, "repo", "tag", 1, 2, 3)
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// A snapshot in which sizes are wrong is read all the same, and what was read
// is known from then on.
func TestShareWrongSize(t *testing.T) {
	l := makeLayer(1, 5000)
	for _, wrong := range []int64{1, int64(len(l.blob)) + 1} {
		for _, eager := range []bool{false, true} {
			r := newRegistry(t)
			e := l.entry()
			e.Size = wrong
			r.blob("repo", l.blob)
			r.snapshot("repo", "tag", e)
			c := openCache(t, t.TempDir(), cache.WithOrigins(share.Origins()))
			var opts []share.Option
			if eager {
				opts = append(opts, share.WithBytes())
			}
			if got := mustPull(t, c, r.ref("repo:tag"), opts...); len(got.Gone) > 0 {
				t.Errorf("got %+v", got)
			}
			checkForms(t, mustGet(t, c, e.Digest), l)
			if got, err := mustGet(t, c, e.Digest).Size(); err != nil || got != int64(len(l.blob)) {
				t.Errorf("Size: got %d, %v, want %d", got, err, len(l.blob))
			}
		}
	}
}
