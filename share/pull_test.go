package share_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/share"
)

// A pull records all of a snapshot, claimed, and reads no layer.
func TestPull(t *testing.T) {
	r := newRegistry(t)
	es := makeEntries(1000)
	shards := r.snapshot("repo", "tag", es...)
	c := openCache(t, t.TempDir())
	before := r.requests.Load()
	var last share.Progress
	got := mustPull(t, c, r.ref("repo:tag"), share.WithProgress(func(p share.Progress) { last = p }))
	want := share.PullReport{Shards: len(shards), Entries: 1000, Added: 1000, Bytes: 1000 * 999 * 500, Keys: 250}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if n := r.requests.Load() - before; n > int64(2+len(shards)) { // a ping and the index, and each shard
		t.Errorf("%d requests for %d shards", n, len(shards))
	}
	if last.Done != len(shards) || last.Total != len(shards) {
		t.Errorf("progress: got %+v", last)
	}
	repo := r.host() + "/repo"
	if us := usages(t, c); len(us) != 1000 || us[0].Present || us[0].Origin != repo {
		t.Errorf("got %d entries, %+v", len(us), us[0])
	}
	if us := usages(t, c, "pair==verified", "present==true"); len(us) > 0 {
		t.Errorf("%d entries are believed", len(us))
	}
	if keys, err := c.Keys(); err != nil || len(keys) > 0 {
		t.Errorf("%d keys are believed, %v", len(keys), err)
	}
	if again := mustPull(t, c, r.ref("repo:tag")); again.Added != 0 || again.Entries != 1000 {
		t.Errorf("again: got %+v", again)
	}
}

// What was pulled is read when it is needed, by either hash, also after the
// cache was opened again.
func TestPullLazily(t *testing.T) {
	r := newRegistry(t)
	layers := []content{makeLayer(1, 5000), makeLayer(2, 5000), makeLayer(3, 5000), makeLayer(4, 5000)}
	var es []share.Entry
	for _, l := range layers {
		r.blob("repo", l.blob)
		es = append(es, l.entry())
	}
	r.snapshot("repo", "tag", es...)
	dir := t.TempDir()
	origins := cache.WithOrigins(share.Origins())
	c := openCache(t, dir, origins)
	mustPull(t, c, r.ref("repo:tag"))
	checkForms(t, mustGet(t, c, es[0].Digest), layers[0])
	checkForms(t, mustGet(t, c, es[1].DiffID), layers[1])
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = openCache(t, dir, origins)
	for i, l := range layers {
		checkForms(t, mustGet(t, c, es[i].DiffID), l)
		checkForms(t, mustGet(t, c, es[i].Digest), l)
		if n := r.count(http.MethodGet, "/blobs/"+es[i].Digest.String()); n != 1 {
			t.Errorf("layer %d: %d GETs", i, n)
		}
	}
	if us := usages(t, c, "pair==verified,form==compressed"); len(us) != len(layers) {
		t.Errorf("%d pairs are verified, want %d", len(us), len(layers))
	}
}

// Any client reads a shard as an image.
func TestShardIsImage(t *testing.T) {
	r := newRegistry(t)
	var es []share.Entry
	for i := range 5 {
		l := makeLayer(i, 1000)
		r.blob("repo", l.blob)
		es = append(es, l.entry())
	}
	shards := r.snapshot("repo", "tag", es...)
	idx, err := remote.Index(r.ref("repo:tag"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := idx.Image(hash256(string(shards[0].Bytes)))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != len(es) {
		t.Fatalf("got %d layers, %v", len(layers), err)
	}
	for i, e := range share.Unite(es) {
		digest, derr := layers[i].Digest()
		diffID, ierr := layers[i].DiffID()
		if derr != nil || ierr != nil || digest != e.Digest || diffID != e.DiffID {
			t.Errorf("got %s, %s, %v, %v", digest, diffID, derr, ierr)
		}
	}
}

// Of several snapshots the first one's word counts, and only one alone must be
// there.
func TestPullScopes(t *testing.T) {
	r := newRegistry(t)
	both, only := makeLayer(1, 500), makeLayer(2, 500)
	lie := both.entry("key")
	lie.DiffID, lie.Size = hash256("lie"), 1
	r.snapshot("branch", "tag", both.entry("key"))
	r.snapshot("main", "tag", lie, only.entry("key 2"))
	c := openCache(t, t.TempDir())
	got := mustPull(t, c, r.ref("branch:tag"), share.TrustKeys(), share.WithScopes(r.ref("main:none"), r.ref("main:tag")))
	if got.Entries != 3 || got.Added != 2 || len(got.Missing) != 1 || got.Missing[0].String() != r.ref("main:none").String() {
		t.Errorf("got %+v", got)
	}
	us := usages(t, c, "digest=="+both.entry().Digest.String())
	if len(us) != 1 || us[0].Size != int64(len(both.blob)) || us[0].DiffID != both.entry().DiffID || us[0].Origin != r.host()+"/branch" {
		t.Errorf("got %+v", us)
	}
	if keys, err := c.Keys(); err != nil || len(keys) != 2 {
		t.Errorf("got %v, %v", keys, err)
	}
	if got := mustPull(t, c, r.ref("main:none"), share.WithScopes(r.ref("branch:none"))); len(got.Missing) != 2 {
		t.Errorf("nothing anywhere: got %+v", got)
	}
	if _, err := share.Pull(t.Context(), c, r.ref("main:none")); !errors.Is(err, share.ErrNoSnapshot) {
		t.Errorf("nothing: got %v", err)
	}
	r.on(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusNotFound); return true })
	if _, err := share.Pull(t.Context(), c, r.ref("main:tag")); err == nil || errors.Is(err, share.ErrNoSnapshot) {
		t.Errorf("no registry: got %v", err)
	}
}

// Scopes in one repository share shards, which are read once.
func TestPullScopesShared(t *testing.T) {
	r := newRegistry(t)
	shards := r.snapshot("repo", "branch", makeEntries(100)...)
	r.snapshot("repo", "main", makeEntries(100)...)
	c := openCache(t, t.TempDir())
	got := mustPull(t, c, r.ref("repo:branch"), share.WithScopes(r.ref("repo:main")))
	if got.Shards != len(shards) || got.Entries != 100 || got.Added != 100 {
		t.Errorf("got %+v", got)
	}
}

// Keys count where they are trusted: then the layer is known without running
// the build, which is run if its bytes cannot be had.
func TestPullKeys(t *testing.T) {
	r := newRegistry(t)
	l := makeLayer(1, 5000)
	r.snapshot("repo", "tag", l.entry("the key"))
	for _, trusted := range []bool{false, true} {
		c := openCache(t, t.TempDir(), cache.WithOrigins(share.Origins()))
		var opts []share.Option
		if trusted {
			opts = append(opts, share.TrustKeys())
		}
		if got := mustPull(t, c, r.ref("repo:tag"), opts...); got.Keys != 1 {
			t.Errorf("got %+v", got)
		}
		var runs atomic.Int64
		built, err := c.Build(t.Context(), "the key", func(context.Context) (v1.Layer, error) {
			runs.Add(1)
			return static.NewLayer(l.blob, types.DockerLayer), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := built.Digest(); err != nil || got != l.entry().Digest {
			t.Errorf("got %s, %v", got, err)
		}
		if ran := runs.Load() > 0; ran == trusted {
			t.Errorf("trusted %t: the build ran: %t", trusted, ran)
		}
		if got, err := tryRead(built.Compressed); err != nil || !bytes.Equal(got, l.blob) {
			t.Errorf("trusted %t: got %d bytes, %v", trusted, len(got), err)
		}
		if runs.Load() != 1 { // the registry has no blob
			t.Errorf("trusted %t: the build ran %d times", trusted, runs.Load())
		}
	}
}

// With the blob there, a pulled key needs no build at all.
func TestPullKeysFetch(t *testing.T) {
	r := newRegistry(t)
	l := makeLayer(1, 5000)
	r.blob("repo", l.blob)
	r.snapshot("repo", "tag", l.entry("the key"))
	c := openCache(t, t.TempDir(), cache.WithOrigins(share.Origins()))
	mustPull(t, c, r.ref("repo:tag"), share.TrustKeys())
	built, err := c.Build(t.Context(), "the key", func(context.Context) (v1.Layer, error) {
		return nil, errors.New("the build ran")
	})
	if err != nil {
		t.Fatal(err)
	}
	checkForms(t, built, l)
}

// A layer that the registry has lost is not found.
func TestPullLost(t *testing.T) {
	r := newRegistry(t)
	e := makeLayer(1, 5000).entry()
	r.snapshot("repo", "tag", e)
	c := openCache(t, t.TempDir(), cache.WithOrigins(share.Origins()))
	mustPull(t, c, r.ref("repo:tag"))
	if _, err := tryRead(mustGet(t, c, e.Digest).Compressed); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Get(e.Digest); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("again: got %v", err)
	}
}

// WithBytes fetches what filters match and is not there, whether the cache
// knows origins or not.
func TestPullBytes(t *testing.T) {
	r := newRegistry(t)
	small, large, here, lost, changed := makeLayer(1, 100), makeLayer(2, 300_000), makeLayer(3, 300_000), makeLayer(4, 300_000), makeLayer(5, 300_000)
	for _, l := range []content{small, large, here} {
		r.blob("repo", l.blob)
	}
	r.snapshot("repo", "tag", small.entry(), large.entry(), here.entry(), lost.entry(), changed.entry())
	r.on(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasSuffix(req.URL.Path, changed.entry().Digest.String()) {
			return false
		}
		must(w.Write(bytes.ToUpper(changed.blob)))
		return true
	})
	c := openCache(t, t.TempDir())
	if err := c.Fill(t.Context(), static.NewLayer(here.blob, types.DockerLayer)); err != nil {
		t.Fatal(err)
	}
	elsewhere := cache.Remembered{Descriptor: v1.Descriptor{Digest: hash256("elsewhere"), Size: 1 << 30}, Origin: r.host() + "/repo"}
	if _, err := c.Remember(t.Context(), []cache.Remembered{elsewhere}); err != nil {
		t.Fatal(err)
	}
	var last share.Progress
	filter := fmt.Sprintf("size>%d", len(small.blob))
	got := mustPull(t, c, r.ref("repo:tag"), share.WithBytes(filter), share.WithProgress(func(p share.Progress) { last = p }))
	if got.Entries != 5 || got.Added != 4 || got.Fetched != 1 || got.FetchedBytes != int64(len(large.blob)) {
		t.Errorf("got %+v", got)
	}
	for _, l := range []content{lost, changed} {
		if len(got.Gone) != 2 || !slices.Contains(got.Gone, l.entry().Digest) {
			t.Errorf("gone: got %v", got.Gone)
		}
	}
	if last.Done != 3 || last.Total != 3 || last.Bytes != last.BytesTotal || last.Bytes == 0 {
		t.Errorf("progress: got %+v", last)
	}
	checkForms(t, mustGet(t, c, large.entry().Digest), large)
	if r.count(http.MethodGet, small.entry().Digest.Hex)+r.count(http.MethodGet, here.entry().Digest.Hex) > 0 {
		t.Error("what the filter leaves out, or is here, was fetched")
	}
	if _, err := share.Pull(t.Context(), c, r.ref("repo:tag"), share.WithBytes("size>>")); err == nil {
		t.Error("a broken filter: no error")
	}
}

// A registry that cannot be reached while bytes are fetched is an error, and
// what was recorded stays.
func TestPullBytesFails(t *testing.T) {
	r := newRegistry(t)
	l := makeLayer(1, 100)
	r.snapshot("repo", "tag", l.entry())
	r.on(func(w http.ResponseWriter, req *http.Request) bool {
		if strings.HasSuffix(req.URL.Path, l.entry().Digest.String()) {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	})
	c := openCache(t, t.TempDir())
	got, err := share.Pull(t.Context(), c, r.ref("repo:tag"), share.WithBytes())
	if err == nil || errors.Is(err, cache.ErrNotFound) || got.Added != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// What a snapshot says of a layer stands in nobody's way: neither a wrong size
// nor a wrong diffID.
func TestPullLies(t *testing.T) {
	r := newRegistry(t)
	honest, other := makeLayer(1, 5000), makeLayer(2, 5000)
	liar := honest.entry()
	liar.Size, liar.DiffID, liar.MediaType = 7, other.entry().DiffID, types.OCILayerZStd
	thief := other.entry()
	thief.DiffID = honest.entry().DiffID
	r.snapshot("evil", "tag", liar, thief)
	for _, l := range []content{honest, other} {
		r.blob("evil", l.blob)
	}
	c := openCache(t, t.TempDir(), cache.WithOrigins(share.Origins()))
	mustPull(t, c, r.ref("evil:tag"))
	if got, err := tryRead(mustGet(t, c, honest.entry().DiffID).Compressed); err == nil {
		t.Errorf("got %d bytes of another layer by the diffID", len(got))
	}
	l := c.Layer(static.NewLayer(honest.blob, types.DockerLayer))
	checkForms(t, l, honest)
	if size, err := l.Size(); err != nil || size != int64(len(honest.blob)) {
		t.Errorf("Size: got %d, %v", size, err)
	}
	checkForms(t, mustGet(t, c, honest.entry().DiffID), honest)
	if got, err := mustGet(t, c, honest.entry().Digest).Size(); err != nil || got != int64(len(honest.blob)) {
		t.Errorf("by digest, Size: got %d, %v", got, err)
	}
}
