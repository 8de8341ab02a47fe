package index_test

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
)

func unsynced(i int, boot string) index.Entry {
	return index.Entry{Digest: hash(i), MediaType: "m", Size: int64(i), Created: 1, Unsynced: boot}
}

func wantUnsynced(t *testing.T, c *index.Catalog, want ...string) {
	t.Helper()
	for i, boot := range want {
		if e, ok := c.Get(hash(i)); !ok || e.Unsynced != boot {
			t.Errorf("entry %d: got unsynced %q, %v, want %q", i, e.Unsynced, ok, boot)
		}
	}
}

func TestSync(t *testing.T) {
	c := index.New()
	put(c, unsynced(0, "now"), unsynced(1, "before"), unsynced(2, ""), unsynced(3, "now"))
	var asked []v1.Hash
	clone := c.Clone()
	clone.Sync("now", func(h v1.Hash) string {
		asked = append(asked, h)
		if h == hash(3) {
			return "failed"
		}
		return ""
	})
	if len(asked) != 2 {
		t.Errorf("asked for %v, want what was written under this boot", asked)
	}
	wantUnsynced(t, c, "now", "before", "", "now")
	wantUnsynced(t, decode(t, encode(t, clone)), "", "before", "", "failed")
	c.AdoptSynced(clone)
	wantUnsynced(t, c, "", "before", "", "failed")
}

// What changed since the clone was made was not synced with it.
func TestAdoptSyncedChanged(t *testing.T) {
	changes := map[string]struct {
		change func(c *index.Catalog)
		want   string
	}{
		"nothing":                       {func(*index.Catalog) {}, ""},
		"put again":                     {func(c *index.Catalog) { put(c, unsynced(0, "now")) }, "now"},
		"put again, synced":             {func(c *index.Catalog) { put(c, unsynced(0, "")) }, ""},
		"deleted, put again":            {func(c *index.Catalog) { remove(c, hash(0)); put(c, unsynced(0, "now")) }, "now"},
		"deleted, put twice":            {func(c *index.Catalog) { remove(c, hash(0)); put(c, unsynced(0, "x"), unsynced(0, "now")) }, "now"},
		"another put":                   {func(c *index.Catalog) { put(c, unsynced(1, "now")) }, ""},
		"its place taken, and its own":  {func(c *index.Catalog) { remove(c, hash(0)); put(c, unsynced(1, "now"), unsynced(0, "now")) }, "now"},
		"all deleted, the other way on": {func(c *index.Catalog) { remove(c, hash(2), hash(0)); put(c, unsynced(0, "now"), unsynced(2, "now")) }, "now"},
	}
	for name, tt := range changes {
		c := index.New()
		put(c, unsynced(2, "now"), unsynced(0, "now"))
		clone := c.Clone()
		tt.change(c)
		clone.Sync("now", func(v1.Hash) string { return "" })
		c.AdoptSynced(clone)
		if e, ok := c.Get(hash(0)); !ok || e.Unsynced != tt.want {
			t.Errorf("%s: got unsynced %q, %v, want %q", name, e.Unsynced, ok, tt.want)
		}
	}
}

// Only a clone's own original takes over what it found.
func TestAdoptSyncedOfAnother(t *testing.T) {
	c, other := index.New(), index.New()
	put(c, unsynced(0, "now"))
	put(other, unsynced(0, "now"))
	clone := other.Clone()
	clone.Sync("now", func(v1.Hash) string { return "" })
	c.AdoptSynced(clone)
	wantUnsynced(t, c, "now")
	c.AdoptSynced(index.New())
	wantUnsynced(t, c, "now")
}

// A clone stays as it was made.
func TestClone(t *testing.T) {
	c := decode(t, document(ours(0, `,"tag":"x"`), `{"foreign":1}`))
	put(c, forms[len(forms)-3].of...)
	want := encode(t, c)
	clone := c.Clone()
	before := entries(clone)
	for i := range 50 {
		put(c, index.Entry{Digest: hash(i), MediaType: "other", Size: 99, Codec: "z", Unsynced: "u", Created: 5, DiffID: hash(50), Pair: index.Refuted})
	}
	remove(c, hash(0), hash(3))
	if got := encode(t, clone); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := entries(clone); len(got) != len(before) || clone.Len() != len(before) || clone.Foreign() != 1 {
		t.Errorf("got %d entries, Len %d, want %d", len(got), clone.Len(), len(before))
	}
}
