package share_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ocicache/ocicache/share"
)

// nth calls f before the n-th request that is one.
func nth(n int, is func(*http.Request) bool, f func()) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		if is(req) {
			if n--; n == 0 {
				f()
			}
		}
		return nil, nil
	}
}

func listsTags(req *http.Request) bool { return strings.HasSuffix(req.URL.Path, "/tags/list") }

func putsTag(req *http.Request) bool {
	return req.Method == http.MethodPut && strings.HasSuffix(req.URL.Path, "/manifests/tag")
}

// replaceable returns a hub with a snapshot at tag, and what replaces it by
// another one that no push is to blame for.
func replaceable(t *testing.T) (h *hub, replace func()) {
	t.Helper()
	h = newHub()
	mustPush(t, h, cacheOf(t, 0, 1), "repo:tag")
	mustPush(t, h, cacheOf(t, 2, 5), "repo:five")
	return h, func() {
		tags := h.repos["repo"].tags
		for tag, digest := range maps.Clone(tags) {
			if rest, ok := strings.CutPrefix(tag, "five"); ok {
				tags["tag"+rest] = digest
			}
		}
	}
}

// What the tag came to be after it was written is merged again, and all that
// the push has is in it.
func TestPushReplaced(t *testing.T) {
	h, replace := replaceable(t)
	maps.DeleteFunc(h.repos["repo"].tags, func(tag, _ string) bool { return strings.Contains(tag, ".c.") })
	h.hook = nth(2, listsTags, replace)
	mustPush(t, h, cacheOf(t, 1, 2), "repo:tag", share.WithJobs(1))
	wantLayers(t, h, "repo", "tag", 1, 2, 5)
}

// A shard is gone since the tag was replaced after its index was read.
func TestPushReplacedWhileRead(t *testing.T) {
	h, replace := replaceable(t)
	mustPush(t, h, cacheOf(t, 6), "repo:six")
	six := nth(1, listsTags, func() { h.repos["repo"].tags["tag"] = h.repos["repo"].tags["six"] })
	gone := false
	h.hook = func(req *http.Request) (*http.Response, error) {
		isSix := h.repos["repo"].tags["tag"] == h.repos["repo"].tags["six"]
		if isSix && !gone && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/manifests/sha256:") {
			gone = true
			delete(h.repos["repo"].manifests, req.URL.Path[strings.Index(req.URL.Path, "sha256:"):])
			replace()
		}
		return six(req)
	}
	mustPush(t, h, cacheOf(t, 7), "repo:tag", share.WithJobs(1))
	h.hook = nil
	if got := h.snapshot(t, "repo", "tag"); !gone || got[numbered(5).digest()] == (pushed{}) || got[numbered(7).digest()] == (pushed{}) {
		t.Errorf("got %v", got)
	}
}

// Somebody has deleted the tags of shards that are in use.
func TestPushTagsShardsAgain(t *testing.T) {
	h := newHub()
	h.hook = nth(2, listsTags, func() {
		maps.DeleteFunc(h.repos["repo"].tags, func(tag, _ string) bool { return strings.Contains(tag, ".s.") })
	})
	mustPush(t, h, cacheOf(t, 1, 2), "repo:tag", share.WithJobs(1))
	wantLayers(t, h, "repo", "tag", 1, 2)
}

// The index is refused, since shards that are listed are not there.
func TestPushIndexRefused(t *testing.T) {
	h := newHub()
	h.hook = nth(1, putsTag, func() {
		maps.DeleteFunc(h.repos["repo"].manifests, func(_ string, m hubManifest) bool { return !strings.Contains(m.mediaType, "index") })
	})
	mustPush(t, h, cacheOf(t, 1, 2), "repo:tag", share.WithJobs(1))
	wantLayers(t, h, "repo", "tag", 1, 2)
}

// What a push is about to delete comes into use again.
func TestPushCleansWhatIsUsed(t *testing.T) {
	h := newHub()
	now := time.Unix(1_800_000_000, 0)
	clock := share.WithClock(func() time.Time { return now })
	mustPush(t, h, cacheOf(t, 0), "repo:tag", clock)
	first := h.repos["repo"].tags["tag"]
	now = now.Add(2 * time.Hour)
	deletes := func(req *http.Request) bool {
		return req.Method == http.MethodDelete && strings.Contains(req.URL.Path, ".s.")
	}
	h.hook = nth(1, deletes, func() { h.repos["repo"].tags["tag"] = first })
	mustPush(t, h, cacheOf(t, 1), "repo:tag", clock, share.WithJobs(1))
	wantLayers(t, h, "repo", "tag", 0, 1)
}

// Two snapshots in a repository have the same shards: a registry that deletes
// no tags is not asked to delete one.
func TestPushCleansBesideAnother(t *testing.T) {
	h := newHub()
	h.noTagDelete = true
	now := time.Unix(1_800_000_000, 0)
	mustPush(t, h, cacheOf(t, 0), "repo:other")
	for n := range 3 {
		mustPush(t, h, cacheOf(t, n), "repo:tag", share.WithClock(func() time.Time { return now }))
		now = now.Add(2 * time.Hour)
	}
	wantLayers(t, h, "repo", "other", 0)
	wantLayers(t, h, "repo", "tag", 0, 1, 2)
}

// A mark that a wrong clock has made hides nothing.
func TestPushStrangeMark(t *testing.T) {
	h := newHub()
	mustPush(t, h, cacheOf(t, 0), "repo:tag")
	h.repos["repo"].tags["tag.m.zzzzzz"] = h.repos["repo"].tags["tag"]
	mustPush(t, h, cacheOf(t, 1), "repo:tag")
	wantLayers(t, h, "repo", "tag", 0, 1)
}
