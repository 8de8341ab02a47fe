package share_test

import (
	"slices"
	"testing"
)

func TestPushFirst(t *testing.T) {
	h, c := newHub(), cacheOf(t, 1, 2, 3)
	r := mustPush(t, h, c, "repo:tag")
	wantLayers(t, h, "repo", "tag", 1, 2, 3)
	if r.Selected.Layers != 3 || r.Sent != r.New || r.Sent.Layers != 3 || r.Unchanged || r.Digest.String() != h.repos["repo"].tags["tag"] {
		t.Errorf("got %+v", r)
	}
	h.requests()

	r = mustPush(t, h, c, "repo:tag")
	if got := h.requests(); !slices.Equal(got, []string{"HEAD manifest tag"}) || !r.Unchanged {
		t.Errorf("unchanged: got %q, %+v", got, r)
	}
}

// One more layer costs one blob, the config and the manifest of one shard
// twice, a contribution and an index.
func TestPushOneMore(t *testing.T) {
	h, c := newHub(), cacheOf(t, upTo(20)...)
	mustPush(t, h, c, "repo:tag")
	fill(t, c, 20)
	h.requests()
	r := mustPush(t, h, c, "repo:tag")
	log := h.requests()
	wantLayers(t, h, "repo", "tag", upTo(21)...)
	for prefix, want := range map[string]int{
		"PUT upload": 3, "PUT manifest tag.s.": 2, "PUT manifest tag.c.": 1, "PUT manifest tag": 4, "tags": 2, "GET blob": 0, "": 30,
	} {
		if got := countPrefix(log, prefix); got != want && prefix != "" || got > want {
			t.Errorf("%q: got %d, want %d, of %q", prefix, got, want, log)
		}
	}
	if r.Sent.Layers != 1 || r.New.Layers != 1 || r.Merged.Layers != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestPushMerges(t *testing.T) {
	h, a, b := newHub(), cacheOf(t, 1, 2), cacheOf(t, 2, 3)
	mustPush(t, h, a, "repo:tag")
	r := mustPush(t, h, b, "repo:tag")
	wantLayers(t, h, "repo", "tag", 1, 2, 3)
	if r.Merged.Layers != 1 || r.Sent.Layers != 1 || r.New.Layers != 1 {
		t.Errorf("got %+v", r)
	}
	h.requests()
	r = mustPush(t, h, a, "repo:tag") // which the tag holds, and more
	if log := h.requests(); !r.Unchanged || countPrefix(log, "PUT")+countPrefix(log, "POST") > 0 || len(log) > 3 {
		t.Errorf("got %+v, %q", r, log)
	}
}
