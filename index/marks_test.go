package index_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
)

// marked returns a catalog of three entries with all that can hang on one.
func marked(t *testing.T) *index.Catalog {
	t.Helper()
	c := index.New()
	for i := range 3 {
		c.Apply(index.PutRecord(index.Entry{Digest: hash(i), MediaType: gzipType, Size: 7, Created: 1, Origin: "index.docker.io/library/debian"}))
	}
	c.Apply(index.UseRecord(map[v1.Hash]index.Use{hash(0): {Last: 100, Count: 3}, hash(9): {Last: 1, Count: 1}}))
	c.Apply(index.KeyRecord("go build, \"é\"\n&", index.BuildKey{Digest: hash(0), Shareable: true, Created: 5}))
	c.Apply(index.KeyRecord("second", index.BuildKey{Digest: hash(0), Created: 6}))
	c.Apply(index.KeyRecord("third", index.BuildKey{Digest: hash(1), Created: 7}))
	c.Apply(index.PinRecord("debian:12, slim", []v1.Hash{hash(0), hash(1)}))
	c.Apply(index.PinRecord("other", []v1.Hash{hash(1)}))
	return c
}

// What hangs on entries survives a checkpoint, a put of the entry, and a
// replay.
func TestMarks(t *testing.T) {
	c := marked(t)
	check := func(what string, c *index.Catalog) {
		t.Helper()
		if got, want := c.Use(hash(0)), (index.Use{Last: 100, Count: 3}); got != want {
			t.Errorf("%s: use: got %v, want %v", what, got, want)
		}
		if got := c.Use(hash(1)); got != (index.Use{}) {
			t.Errorf("%s: use: got %v, want none", what, got)
		}
		want := map[string]index.BuildKey{
			"go build, \"é\"\n&": {Digest: hash(0), Shareable: true, Created: 5},
			"second":             {Digest: hash(0), Created: 6},
			"third":              {Digest: hash(1), Created: 7},
		}
		if got := maps.Collect(c.Keys()); !maps.Equal(got, want) {
			t.Errorf("%s: keys: got %v, want %v", what, got, want)
		}
		if got := c.KeysOf(hash(0)); !slices.Equal(got, []string{"go build, \"é\"\n&", "second"}) {
			t.Errorf("%s: keys: got %q", what, got)
		}
		pins := map[string][]v1.Hash{"debian:12, slim": {hash(0), hash(1)}, "other": {hash(1)}}
		if got := c.Pins(); !reflect.DeepEqual(got, pins) {
			t.Errorf("%s: pins: got %v, want %v", what, got, pins)
		}
		if e, _ := c.Get(hash(2)); e.Origin != "index.docker.io/library/debian" {
			t.Errorf("%s: origin: got %q", what, e.Origin)
		}
	}
	check("applied", c)
	check("decoded", decode(t, encode(t, c)))
	check("decoded from another form", decode(t, indented(t, encode(t, c))))
	c.Apply(index.PutRecord(index.Entry{Digest: hash(0), MediaType: gzipType, Size: 8, Created: 1}))
	c.Apply(index.UseRecord(map[v1.Hash]index.Use{hash(0): {Last: 99, Count: 2}})) // an older one
	check("put again", c)

	clone := c.Clone()
	c.Apply(index.DropKeyRecord("second"))
	c.Apply(index.UnpinRecord("other"))
	if got := c.KeysOf(hash(0)); len(got) != 1 {
		t.Errorf("keys: got %q, want one", got)
	}
	if got := c.PinsOf(hash(1)); !slices.Equal(got, []string{"debian:12, slim"}) {
		t.Errorf("pins: got %q", got)
	}
	check("clone", decode(t, encode(t, clone)))
}

// An entry that is deleted takes with it what hung on it, and only that.
func TestMarksDeleted(t *testing.T) {
	c := marked(t)
	c.Apply(index.DeleteRecord(hash(0)))
	if _, ok := c.Key("second"); ok || c.Use(hash(0)) != (index.Use{}) || c.PinsOf(hash(0)) != nil {
		t.Error("something is left")
	}
	if _, ok := c.Key("third"); !ok || len(c.PinsOf(hash(1))) != 2 {
		t.Error("something else went, too")
	}
	c.Apply(index.PutRecord(index.Entry{Digest: hash(0), MediaType: gzipType, Size: 7, Created: 1}))
	if c.Use(hash(0)) != (index.Use{}) || len(c.KeysOf(hash(0))) != 0 {
		t.Error("what was deleted came back")
	}
}

// Changes counts what is more than uses.
func TestChanges(t *testing.T) {
	c := marked(t)
	if got := c.Changes(); got != 8 {
		t.Errorf("got %d, want 8: all but the uses", got)
	}
}

// A key moves to the layer that was built last; one of no entry is skipped.
func TestKeyMoves(t *testing.T) {
	c := marked(t)
	c.Apply(index.KeyRecord("third", index.BuildKey{Digest: hash(2), Created: 8}))
	if k, _ := c.Key("third"); k.Digest != hash(2) || len(c.KeysOf(hash(1))) != 0 {
		t.Errorf("got %v, and %q", k, c.KeysOf(hash(1)))
	}
	c.Apply(index.KeyRecord("fourth", index.BuildKey{Digest: hash(9)}))
	if _, ok := c.Key("fourth"); ok || c.Skipped() != 1 {
		t.Errorf("a key without an entry: %d skipped", c.Skipped())
	}
}

// indented returns JSON as another tool might write it.
func indented(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(s), "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
