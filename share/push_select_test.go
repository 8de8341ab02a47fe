package share_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/share"
)

func readLayer(t *testing.T, c *cache.Cache, n int, form func(v1.Layer) error) {
	t.Helper()
	l, err := c.Get(sumHash(numbered(n).blob))
	if err != nil {
		t.Fatal(err)
	}
	if err := form(l); err != nil {
		t.Fatal(err)
	}
}

func readCompressed(l v1.Layer) error {
	rc, err := l.Compressed()
	if err != nil {
		return err
	}
	return rc.Close()
}

// The tar beside a blob is not sent; a layer that is distributed uncompressed
// is, and so is what is no layer.
func TestPushForms(t *testing.T) {
	h, c := newHub(), cacheOf(t)
	tar := []byte(strings.Repeat("plain tar ", 100))
	plain := &bytesLayer{tar, tar, types.OCIUncompressedLayer}
	opaque := &bytesLayer{[]byte("opaque"), []byte("opaque"), "application/vnd.example"}
	foreign := &bytesLayer{[]byte("foreign"), nil, types.DockerForeignLayer}
	if err := c.Fill(t.Context(), plain, opaque, foreign); err != nil {
		t.Fatal(err)
	}
	if err := c.FillUncompressed(t.Context(), numbered(1)); err != nil {
		t.Fatal(err)
	}
	r := mustPush(t, h, c, "repo:tag")
	got := h.snapshot(t, "repo", "tag")
	want := map[string]pushed{
		numbered(1).digest(): {diffID: numbered(1).diffID()},
		plain.digest():       {diffID: plain.digest()},
		opaque.digest():      {},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(r.Dropped) != 1 || r.Dropped[0].Digest.String() != foreign.digest() {
		t.Errorf("dropped: %v", r.Dropped)
	}
}

func TestPushBudget(t *testing.T) {
	c := cacheOf(t, 1, 2, 3, 4)
	for range 3 {
		readLayer(t, c, 3, readCompressed)
	}
	readLayer(t, c, 2, readCompressed)
	size := func(n int) int64 { return int64(len(numbered(n).blob)) }
	for _, test := range []struct {
		budget int64
		want   []int
	}{
		{0, nil},
		{size(3) - 1, nil},
		{size(3), []int{3}},
		{size(3) + size(2), []int{2, 3}},
		{1 << 20, []int{1, 2, 3, 4}},
	} {
		h := newHub()
		r := mustPush(t, h, c, "repo:tag", share.WithBudget(test.budget))
		wantLayers(t, h, "repo", "tag", test.want...)
		if len(r.Dropped) != 4-len(test.want) {
			t.Errorf("budget %d: dropped %v", test.budget, r.Dropped)
		}
	}
}

func TestPushFilters(t *testing.T) {
	h, c := newHub(), cacheOf(t, 1, 2, 3)
	mustPush(t, h, c, "repo:tag", share.WithFilters("digest=="+numbered(1).digest(), "digest=="+numbered(3).digest()))
	wantLayers(t, h, "repo", "tag", 1, 3)
	if _, err := pushTo(t.Context(), t, h, c, "repo:tag", share.WithFilters("size>>")); err == nil {
		t.Error("a filter that cannot be read is taken")
	}
}

// What cannot stand in a shard is left out, and the rest is pushed.
func TestPushOdd(t *testing.T) {
	h, c := newHub(), cacheOf(t, 1)
	odd := map[string]types.MediaType{"none": "none", "long": types.MediaType("a/" + strings.Repeat("b", 300)), "image": types.OCIManifestSchema1}
	for name, mediaType := range odd {
		if err := c.Fill(t.Context(), &bytesLayer{[]byte(name), []byte(name), mediaType}); err != nil {
			t.Fatal(err)
		}
	}
	r := mustPush(t, h, c, "repo:tag")
	wantLayers(t, h, "repo", "tag", 1)
	if len(r.Dropped) != len(odd) {
		t.Errorf("dropped: %v", r.Dropped)
	}
	for _, d := range r.Dropped {
		if !strings.Contains(d.Reason, "media type") {
			t.Errorf("dropped: %+v", d)
		}
	}
}

// Keys beyond what fits into a shard are left off, and that they are missing
// is no news.
func TestPushManyKeys(t *testing.T) {
	h, a, b := newHub(), cacheOf(t, 1), cacheOf(t, 1)
	buildKeys(t, a, 1, 0, 1200)
	buildKeys(t, b, 1, 800, 1200)
	mustPush(t, h, a, "repo:tag")
	keys := h.snapshot(t, "repo", "tag")[numbered(1).digest()].keys
	if n := strings.Count(keys, ",") + 1; n != share.MaxKeys {
		t.Errorf("got %d keys, want %d", n, share.MaxKeys)
	}
	h.requests()
	if r := mustPush(t, h, a, "repo:tag"); !r.Unchanged || len(h.requests()) != 1 {
		t.Errorf("again: got %+v", r)
	}
	if r := mustPush(t, h, b, "repo:tag"); !r.Unchanged {
		t.Errorf("the others: got %+v", r)
	}
	fill(t, b, 2)
	if r := mustPush(t, h, b, "repo:tag"); r.New.Layers != 1 || h.snapshot(t, "repo", "tag")[numbered(1).digest()].keys != keys {
		t.Errorf("one more layer: got %+v", r)
	}
}

// buildKeys has keys, which are numbers, stand for a layer.
func buildKeys(t *testing.T, c *cache.Cache, n, from, to int) {
	t.Helper()
	for key := from; key < to; key++ {
		build(t, c, fmt.Sprintf("key %04d", key), n, cache.Shareable())
	}
}

// remember has a cache hold layers, with diffIDs that are only claimed.
func remember(t *testing.T, c *cache.Cache, diffID v1.Hash, origin string, n int) {
	t.Helper()
	l := numbered(n)
	_, err := c.Remember(t.Context(), []cache.Remembered{{
		Descriptor: v1.Descriptor{Digest: sumHash(l.blob), Size: int64(len(l.blob)), MediaType: l.mediaType}, DiffID: diffID, Origin: origin,
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// What is claimed of a blob is verified before it is published, or left out,
// and what is not here is not passed on.
func TestPushClaimed(t *testing.T) {
	h, c := newHub(), cacheOf(t)
	remember(t, c, sumHash(numbered(1).tar), "", 1)
	remember(t, c, sumHash([]byte("a lie")), "", 2)
	remember(t, c, sumHash(numbered(3).tar), "", 3)
	fill(t, c, 1, 2)

	r := mustPush(t, h, c, "repo:verified", share.VerifiedOnly())
	wantLayers(t, h, "repo", "verified")
	if len(r.Dropped) != 2 {
		t.Errorf("dropped: %v", r.Dropped)
	}
	before := c.Stats().Decompressions
	mustPush(t, h, c, "repo:tag")
	wantLayers(t, h, "repo", "tag", 1, 2)
	mustPush(t, h, c, "repo:again")
	if got := c.Stats().Decompressions - before; got != 2 {
		t.Errorf("got %d decompressions, want 2", got)
	}
	mustPush(t, h, c, "repo:verified", share.VerifiedOnly())
	wantLayers(t, h, "repo", "verified", 1, 2)
}

// removeBlob removes a blob behind the cache's back.
func removeBlob(t *testing.T, dir string, n int) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", sumHash(numbered(n).blob).Hex)); err != nil {
		t.Fatal(err)
	}
}

// A layer whose bytes are gone is sent if the registry has them.
func TestPushLostBytes(t *testing.T) {
	dir := t.TempDir()
	h, c := newHub(), openCache(t, dir)
	fill(t, c, 1, 2, 3)
	mustPush(t, h, c, "repo:first", share.WithFilters("digest=="+numbered(1).digest()))
	mustPush(t, newHub(), c, "repo:tag") // so that all pairs are verified
	removeBlob(t, dir, 1)
	removeBlob(t, dir, 2)
	r := mustPush(t, h, c, "repo:tag")
	wantLayers(t, h, "repo", "tag", 1, 3)
	if len(r.Dropped) != 1 || r.Dropped[0].Digest.String() != numbered(2).digest() || r.Present.Layers != 1 || r.Sent.Layers != 1 {
		t.Errorf("got %+v", r)
	}
}

// A blob that vanishes, or rots, while the push is under way is left out.
func TestPushVanishingBytes(t *testing.T) {
	dir := t.TempDir()
	h, c := newHub(), openCache(t, dir)
	fill(t, c, 1, 2, 3)
	mustPush(t, newHub(), c, "repo:tag")
	h.hook = once("POST", "/uploads/", func() {
		for n := range 3 {
			if _, ok := h.repos["repo"].blobs[numbered(n).digest()]; !ok && n > 0 {
				removeBlob(t, dir, n)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", sumHash(numbered(3).blob).Hex), []byte("short"), 0o644); err != nil {
			t.Error(err)
		}
	})
	r, err := pushTo(t.Context(), t, h, c, "repo:tag", share.WithJobs(1))
	if err != nil {
		t.Fatal(err)
	}
	wantLayers(t, h, "repo", "tag")
	if len(r.Dropped) != 3 {
		t.Errorf("got %+v", r)
	}
}

// A layer that came from another repository of the registry is not sent.
func TestPushMounts(t *testing.T) {
	h, c := newHub(), cacheOf(t)
	remember(t, c, v1.Hash{}, hubHost+"/origin", 1)
	remember(t, c, v1.Hash{}, hubHost+"/forbidden", 2)
	remember(t, c, v1.Hash{}, "elsewhere.example.com/origin", 3)
	fill(t, c, 1, 2, 3)
	h.repo("origin").blobs[numbered(1).digest()] = numbered(1).blob
	r := mustPush(t, h, c, "repo:tag")
	wantLayers(t, h, "repo", "tag", 1, 2, 3)
	if r.Mounted.Layers != 1 || r.Sent.Layers != 2 {
		t.Errorf("got %+v", r)
	}
	if got := countPrefix(h.requests(), "mounted"); got != 1 {
		t.Errorf("%d mounted", got)
	}
}

func build(t *testing.T, c *cache.Cache, key string, n int, opts ...cache.BuildOption) {
	t.Helper()
	_, err := c.Build(t.Context(), key, func(context.Context) (v1.Layer, error) { return numbered(n), nil }, opts...)
	if err != nil {
		t.Fatal(err)
	}
}

// Only shareable keys leave; the layers do all the same.
func TestPushKeys(t *testing.T) {
	h, c := newHub(), cacheOf(t)
	build(t, c, "/home/somebody", 1)
	build(t, c, "go build, linux", 2, cache.Shareable())
	build(t, c, "a,b", 2, cache.Shareable())
	mustPush(t, h, c, "repo:tag")
	wantLayers(t, h, "repo", "tag", 1, 2)
	got := h.snapshot(t, "repo", "tag")
	if keys := got[numbered(1).digest()].keys; keys != "" {
		t.Errorf("a local key was sent: %q", keys)
	}
	if keys := got[numbered(2).digest()].keys; keys != "a%2Cb,go+build%2C+linux" {
		t.Errorf("got the keys %q", keys)
	}
	for _, r := range h.repos {
		for _, m := range r.manifests {
			if strings.Contains(string(m.raw), "somebody") {
				t.Errorf("a local key is in %s", m.raw)
			}
		}
	}

	build(t, c, "/home/somebody", 1, cache.Shareable()) // from now on
	r := mustPush(t, h, c, "repo:tag")
	if keys := h.snapshot(t, "repo", "tag")[numbered(1).digest()].keys; keys != "%2Fhome%2Fsomebody" || r.Present.Layers != 1 || r.Sent.Layers != 0 {
		t.Errorf("got the keys %q, %+v", keys, r)
	}
}

// A dry run sends nothing, and says what it would send, and of whom.
func TestPushDryRun(t *testing.T) {
	h, c := newHub(), cacheOf(t, 1)
	mustPush(t, h, c, "repo:tag")
	remember(t, c, v1.Hash{}, "private.example.com/a", 2)
	remember(t, c, v1.Hash{}, "private.example.com/a", 3)
	fill(t, c, 2, 3, 4)
	h.requests()
	r := mustPush(t, h, c, "repo:tag", share.DryRun())
	log := h.requests()
	if slices.ContainsFunc(log, func(s string) bool { return !strings.HasPrefix(s, "HEAD ") && !strings.HasPrefix(s, "GET ") }) {
		t.Errorf("a dry run asks %q", log)
	}
	size := func(ns ...int) (bytes int64) {
		for _, n := range ns {
			bytes += int64(len(numbered(n).blob))
		}
		return bytes
	}
	want := []share.Origin{
		{Repository: "", Count: share.Count{Layers: 1, Bytes: size(4)}},
		{Repository: "private.example.com/a", Count: share.Count{Layers: 2, Bytes: size(2, 3)}},
	}
	if !slices.Equal(r.Origins, want) || r.New.Layers != 3 || r.Unchanged {
		t.Errorf("got %+v", r)
	}
}

// An empty list of filters may be a mistake in a configuration, and would
// publish everything.
func TestPushBlankFilter(t *testing.T) {
	h, c := newHub(), cacheOf(t, 1)
	for _, filters := range [][]string{{}, {""}, {"size>0", " "}} {
		if _, err := pushTo(t.Context(), t, h, c, "repo:tag", share.WithFilters(filters...)); err == nil || !strings.Contains(err.Error(), "blank") {
			t.Errorf("%q: got %v", filters, err)
		}
	}
}
