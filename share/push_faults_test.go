package share_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocicache/ocicache/share"
)

// once calls f before the first request that is one.
func once(method, path string, f func()) func(*http.Request) (*http.Response, error) {
	var did sync.Once
	return func(req *http.Request) (*http.Response, error) {
		if req.Method == method && strings.Contains(req.URL.Path, path) {
			did.Do(f)
		}
		return nil, nil
	}
}

// before calls f before the n-th request.
func before(n int, f func()) func(*http.Request) (*http.Response, error) {
	var mu sync.Mutex
	return func(*http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		if n--; n == -1 {
			f()
		}
		return nil, nil
	}
}

// What is something else than a snapshot is not overwritten.
func TestPushSomethingElse(t *testing.T) {
	h, c := newHub(), cacheOf(t, 1)
	if err := remote.Write(hubTag(t, "repo:image"), empty.Image, remote.WithTransport(h)); err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(hubTag(t, "repo:index"), empty.Index, remote.WithTransport(h)); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"image", "index"} {
		was := maps.Clone(h.repos["repo"].tags)
		uploads := len(h.repos["repo"].uploads)
		if _, err := pushTo(t.Context(), t, h, c, "repo:"+tag); !errors.Is(err, share.ErrMalformed) || !strings.Contains(err.Error(), "repo:"+tag) {
			t.Errorf("%s: got %v, want ErrMalformed that names it", tag, err)
		}
		if got := h.repos["repo"].tags; !maps.Equal(got, was) || len(h.repos["repo"].uploads) > uploads {
			t.Errorf("%s: the tags were %v, and are %v", tag, was, got)
		}
	}
	for _, tag := range []string{"repo@sha256:" + strings.Repeat("a", 64), "repo:" + strings.Repeat("a", 81)} {
		if !strings.Contains(tag, "@") {
			if _, err := pushTo(t.Context(), t, h, c, tag); err == nil {
				t.Errorf("%s is taken", tag)
			}
			continue
		}
		if _, err := share.Push(t.Context(), c, hubTag(t, "repo:x").Digest(strings.TrimPrefix(tag, "repo@"))); err == nil {
			t.Errorf("%s is taken", tag)
		}
	}
}

// The tag becomes something else while a push is under way.
func TestPushBecomesSomethingElse(t *testing.T) {
	h, c := newHub(), cacheOf(t, 1)
	h.hook = once("GET", "/tags/list", func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.repo("repo").manifests["sha256:x"] = hubManifest{"application/vnd.oci.image.index.v1+json", []byte(`{"schemaVersion":2,"manifests":[]}`)}
		h.repo("repo").tags["tag"] = "sha256:x"
	})
	if _, err := pushTo(t.Context(), t, h, c, "repo:tag"); !errors.Is(err, share.ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
	if got := h.repos["repo"].tags["tag"]; got != "sha256:x" {
		t.Errorf("the tag was overwritten: %s", got)
	}
}

// A failing registry fails each of its requests once, in a way of its own.
func failEachOnce(fail func() (*http.Response, error)) func(*http.Request) (*http.Response, error) {
	var mu sync.Mutex
	failed := map[string]bool{}
	return func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		key := req.Method + req.URL.Path
		if req.Method == "PATCH" || req.Method == "PUT" && strings.Contains(req.URL.Path, "/uploads/") {
			key = req.Method // each attempt is at another place
		}
		if failed[key] {
			return nil, nil
		}
		failed[key] = true
		return fail()
	}
}

func status(code int, header ...string) func() (*http.Response, error) {
	return func() (*http.Response, error) {
		resp := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}
		if len(header) > 0 {
			resp.Header.Set(header[0], header[1])
		}
		return resp, nil
	}
}

func TestPushRetries(t *testing.T) {
	for name, fail := range map[string]func() (*http.Response, error){
		"500": status(http.StatusInternalServerError),
		"429": status(http.StatusTooManyRequests, "Retry-After", "0"),
		"cut": func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
	} {
		t.Run(name, func(t *testing.T) {
			h, c := newHub(), cacheOf(t, 1, 2, 3)
			h.hook = failEachOnce(func() (*http.Response, error) {
				resp, err := fail()
				return resp, err
			})
			fast := share.WithBackoff(remote.Backoff{Duration: time.Millisecond, Factor: 1, Steps: 6})
			r, err := pushTo(t.Context(), t, h, c, "repo:tag", share.WithJobs(1), fast)
			if err != nil {
				t.Fatal(err)
			}
			wantLayers(t, h, "repo", "tag", 1, 2, 3)
			if r.Sent.Layers != 3 {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// A push waits as long as the registry asks it to, unless it is called off.
func TestPushWaits(t *testing.T) {
	h, c := newHub(), cacheOf(t, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	busy := status(http.StatusTooManyRequests, "Retry-After", "3600")
	h.hook = func(*http.Request) (*http.Response, error) {
		time.AfterFunc(50*time.Millisecond, func() { cancel(stopped) })
		return busy()
	}
	if _, err := pushTo(ctx, t, h, c, "repo:tag"); !errors.Is(err, stopped) {
		t.Errorf("got %v, want the context's cause", err)
	}
}

// After a push was cut off at any request, the tag is as it was or whole, and
// the next push sends no blob again.
func TestPushResumes(t *testing.T) {
	c, old := cacheOf(t, 1, 2, 3), cacheOf(t, 0, 1)
	for cut := 1; ; cut++ {
		h := newHub()
		mustPush(t, h, old, "repo:tag")
		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("stopped")
		h.hook = before(cut, func() { cancel(stopped) })
		_, err := pushTo(ctx, t, h, c, "repo:tag", share.WithJobs(1))
		if err != nil && !errors.Is(err, stopped) {
			t.Fatalf("cut at request %d: %v", cut, err)
		}
		h.hook = nil
		had := len(h.repos["repo"].blobs)
		if got := len(h.snapshot(t, "repo", "tag")); got != 2 && got != 4 {
			t.Errorf("cut at request %d: the tag has %d layers", cut, got)
		}
		h.requests()
		mustPush(t, h, c, "repo:tag")
		wantLayers(t, h, "repo", "tag", 0, 1, 2, 3)
		if sent, more := countPrefix(h.requests(), "PATCH upload"), len(h.repos["repo"].blobs)-had; sent > more {
			t.Errorf("cut at request %d: %d blobs are sent for %d more", cut, sent, more)
		}
		cancel(nil)
		if err == nil {
			if cut < 20 {
				t.Errorf("a push of %d requests", cut)
			}
			return
		}
	}
}

// vandalize does something to a hub before each request of a push in turn.
// Then what is pushed must be in the tag, or the push must fail.
func vandalize(t *testing.T, harm func(h *hub), want []int) {
	t.Helper()
	c, old, more := cacheOf(t, 1, 2, 3), cacheOf(t, 0, 1), cacheOf(t, 4)
	for at := 0; ; at++ {
		h := newHub()
		mustPush(t, h, old, "repo:tag")
		reached := false
		h.hook = before(at, func() {
			reached = true
			h.mu.Lock()
			defer h.mu.Unlock()
			harm(h)
		})
		_, err := pushTo(t.Context(), t, h, c, "repo:tag", share.WithJobs(1))
		h.hook = nil
		if !reached {
			return
		}
		if err != nil {
			t.Errorf("at request %d: %v", at, err)
		}
		mustPush(t, h, more, "repo:tag") // it tags shards again
		got := h.snapshot(t, "repo", "tag")
		for _, n := range want {
			if _, ok := got[numbered(n).digest()]; !ok {
				t.Errorf("at request %d: layer %d is missing", at, n)
			}
		}
		if t.Failed() {
			return
		}
	}
}

func TestPushTagDeleted(t *testing.T) {
	vandalize(t, func(h *hub) { delete(h.repo("repo").tags, "tag") }, []int{1, 2, 3})
}

func TestPushContributionsDeleted(t *testing.T) {
	vandalize(t, func(h *hub) {
		maps.DeleteFunc(h.repo("repo").tags, func(tag, _ string) bool { return strings.Contains(tag, ".c.") })
	}, []int{0, 1, 2, 3})
}

func TestPushShardTagsDeleted(t *testing.T) {
	vandalize(t, func(h *hub) {
		maps.DeleteFunc(h.repo("repo").tags, func(tag, _ string) bool { return strings.Contains(tag, ".s.") })
	}, []int{1, 2, 3})
}

// Shards that are deleted by their digest take their entries with them, save
// those that the push has.
func TestPushManifestsDeleted(t *testing.T) {
	h, c, old := newHub(), cacheOf(t, 1, 2), cacheOf(t, 0, 1)
	mustPush(t, h, old, "repo:tag")
	for digest, m := range h.repos["repo"].manifests {
		if !strings.Contains(m.mediaType, "index") {
			delete(h.repos["repo"].manifests, digest)
			maps.DeleteFunc(h.repos["repo"].tags, func(_, d string) bool { return d == digest })
		}
	}
	mustPush(t, h, c, "repo:tag")
	wantLayers(t, h, "repo", "tag", 1, 2)
	mustPush(t, h, old, "repo:tag", share.WithCheck())
	wantLayers(t, h, "repo", "tag", 0, 1, 2)
}

// Blobs that the registry has lost are sent again, or dropped, once it is
// asked for them or refuses a shard for their sake.
func TestPushBlobsLost(t *testing.T) {
	for _, check := range []bool{false, true} {
		t.Run(fmt.Sprintf("check %t", check), func(t *testing.T) {
			h, c := newHub(), cacheOf(t, 1, 2)
			mustPush(t, h, cacheOf(t, 0, 1), "repo:tag")
			delete(h.repos["repo"].blobs, numbered(0).digest())
			delete(h.repos["repo"].blobs, numbered(1).digest())
			var opts []share.Option
			if check {
				opts = append(opts, share.WithCheck())
			}
			r := mustPush(t, h, c, "repo:tag", opts...)
			wantLayers(t, h, "repo", "tag", 1, 2)
			if len(r.Dropped) != 1 || r.Dropped[0].Digest.String() != numbered(0).digest() || r.Sent.Layers != 2 {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestPushImmutable(t *testing.T) {
	h := newHub()
	mustPush(t, h, cacheOf(t, 1), "repo:tag")
	h.immutable = "tag"
	_, err := pushTo(t.Context(), t, h, cacheOf(t, 2), "repo:tag")
	if err == nil || !strings.Contains(err.Error(), "repo:tag") || !strings.Contains(err.Error(), "IMMUTABLE") {
		t.Errorf("got %v", err)
	}
	wantLayers(t, h, "repo", "tag", 1)
}

// Contributions and shards that are of no use any more go, where that is
// allowed, once they are older than the grace period.
func TestPushCleans(t *testing.T) {
	for name, test := range map[string]struct {
		noDelete, noTagDelete bool
		contributions, shards int
	}{
		"all":     {false, false, 1, 2}, // the contribution's, and the snapshot's
		"digests": {false, true, 1, 2},
		"nothing": {true, true, 4, 7},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub()
			h.noDelete, h.noTagDelete = test.noDelete, test.noTagDelete
			now := time.Unix(1_800_000_000, 0)
			var r share.PushReport
			for n := range 4 {
				r = mustPush(t, h, cacheOf(t, n), "repo:tag", share.WithClock(func() time.Time { return now }))
				now = now.Add(time.Hour + time.Second)
			}
			wantLayers(t, h, "repo", "tag", upTo(4)...)
			if got := h.tagNames("repo", ".c."); len(got) != test.contributions {
				t.Errorf("contributions: got %q, want %d", got, test.contributions)
			}
			if got := h.tagNames("repo", ".s."); len(got) != test.shards {
				t.Errorf("shards: got %q, want %d", got, test.shards)
			}
			if (r.Undeleted > 0) != test.noDelete {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// While somebody else pushes, the shards that nothing names stay.
func TestPushCleansLater(t *testing.T) {
	h := newHub()
	now := time.Unix(1_800_000_000, 0)
	for n := range 3 {
		mustPush(t, h, cacheOf(t, n), "repo:tag", share.WithClock(func() time.Time { return now }))
		now = now.Add(time.Minute)
	}
	if got := len(h.tagNames("repo", ".c.")); got != 3 {
		t.Errorf("%d contributions, want 3", got)
	}
	if got := len(h.tagNames("repo", ".s.")); got != 5 {
		t.Errorf("%d shards, want those of three contributions and, twice, of the snapshot", got)
	}
	wantLayers(t, h, "repo", "tag", upTo(3)...)
}

// What cannot be deleted is not read for ever.
func TestPushMarks(t *testing.T) {
	h := newHub()
	h.noDelete = true
	now := time.Unix(1_800_000_000, 0)
	most := 0
	for n := range 25 {
		h.requests()
		mustPush(t, h, cacheOf(t, n), "repo:tag", share.WithClock(func() time.Time { return now }))
		most = max(most, countPrefix(h.requests(), "GET manifest tag.c."))
		now = now.Add(time.Hour)
	}
	wantLayers(t, h, "repo", "tag", upTo(25)...)
	if got := len(h.tagNames("repo", ".m.")); most > 11 || got < 1 || got > 4 {
		t.Errorf("%d contributions are read, and there are %d marks", most, got)
	}
}

func TestPushPages(t *testing.T) {
	h := newHub()
	h.page = 1
	for n := range 3 {
		mustPush(t, h, cacheOf(t, n), "repo:tag")
	}
	wantLayers(t, h, "repo", "tag", upTo(3)...)
	if got := countPrefix(h.requests(), "tags"); got < 6 {
		t.Errorf("%d pages", got)
	}
}

// A registry that does not list what was put is told apart from success.
func TestPushUnlisted(t *testing.T) {
	h := newHub()
	h.hook = func(req *http.Request) (*http.Response, error) {
		if strings.HasSuffix(req.URL.Path, "/tags/list") {
			resp, _ := status(http.StatusOK)()
			resp.Body = io.NopCloser(strings.NewReader(`{"name":"repo","tags":[]}`))
			resp.Request = req
			return resp, nil
		}
		return nil, nil
	}
	_, err := pushTo(t.Context(), t, h, cacheOf(t, 1), "repo:tag")
	if !errors.Is(err, share.ErrContended) || !strings.Contains(err.Error(), "does not list tag.c.") {
		t.Errorf("got %v", err)
	}
}

// A contribution that is none, which anybody may put, stops nobody.
func TestPushStrangeContribution(t *testing.T) {
	h := newHub()
	mustPush(t, h, cacheOf(t, 1), "repo:tag")
	mustPush(t, h, cacheOf(t, 3), "repo:other")
	r := h.repos["repo"]
	for _, digest := range slices.Collect(maps.Keys(r.manifests)) {
		r.tags["tag.c.zzzzzz.0123456789"+digest[7:13]] = digest // the shards and the snapshot too
		r.tags["tag.c.1.0123456789"+digest[7:13]] = digest
	}
	mustPush(t, h, cacheOf(t, 2), "repo:tag")
	wantLayers(t, h, "repo", "tag", 1, 2)
	wantLayers(t, h, "repo", "other", 3)
}

// What an upload's address holds is not for others to see.
func TestPushErrorsRedacted(t *testing.T) {
	h := newHub()
	h.hook = func(req *http.Request) (*http.Response, error) {
		if req.Method == "PATCH" {
			return nil, errors.New("broken")
		}
		return nil, nil
	}
	_, err := pushTo(t.Context(), t, h, cacheOf(t, 1), "repo:tag")
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), numbered(1).digest()) {
		t.Errorf("got %v", err)
	}
}

func TestPushProgress(t *testing.T) {
	h := newHub()
	var last share.Progress
	mustPush(t, h, cacheOf(t, 1, 2), "repo:tag", share.WithProgress(func(p share.Progress) { last = p }))
	bytes := int64(len(numbered(1).blob) + len(numbered(2).blob))
	if want := (share.Progress{Done: 2, Total: 2, Bytes: bytes, BytesTotal: bytes}); last != want {
		t.Errorf("got %+v, want %+v", last, want)
	}
}
