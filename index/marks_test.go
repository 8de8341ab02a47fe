package index_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
)

// Keys and names of pins are any bytes.
const (
	odd    = "go build, \"é\"\n&%2C:+\xff"
	oddPin = "debian:12, slim\xfe"
)

// marked returns a catalog of three entries with all that can hang on one.
func marked(t testing.TB) *index.Catalog {
	t.Helper()
	c := index.New()
	for i := range 3 {
		c.Apply(index.PutRecord(index.Entry{Digest: hash(i), MediaType: gzipType, Size: 7, Created: 1, Origin: "index.docker.io/library/debian"}))
	}
	c.Apply(index.UseRecord(map[v1.Hash]index.Use{hash(0): {Last: 100, Count: 3}, hash(9): {Last: 1, Count: 1}}))
	c.Apply(index.KeyRecord(odd, index.BuildKey{Digest: hash(0), MediaType: ociType, Shareable: true, Created: 5}))
	c.Apply(index.KeyRecord("second", index.BuildKey{Digest: hash(0), Created: 6}))
	c.Apply(index.KeyRecord("third", index.BuildKey{Digest: hash(1), Created: 7}))
	c.Apply(index.PinRecords(oddPin, nil, []v1.Hash{hash(0), hash(1)})[0])
	c.Apply(index.PinRecords("other", nil, []v1.Hash{hash(1)})[0])
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
			odd:      {Digest: hash(0), MediaType: ociType, Shareable: true, Created: 5},
			"second": {Digest: hash(0), MediaType: gzipType, Created: 6},
			"third":  {Digest: hash(1), MediaType: gzipType, Created: 7},
		}
		if got := maps.Collect(c.Keys()); !maps.Equal(got, want) {
			t.Errorf("%s: keys: got %v, want %v", what, got, want)
		}
		if got := c.KeysOf(hash(0)); !slices.Equal(got, []string{odd, "second"}) {
			t.Errorf("%s: keys: got %q", what, got)
		}
		pins := map[string][]v1.Hash{oddPin: {hash(0), hash(1)}, "other": {hash(1)}}
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
	if got := c.PinsOf(hash(1)); !slices.Equal(got, []string{oddPin}) {
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

// Of keys and names of pins that are not UTF-8, none is taken for another.
func TestMarksAreBytes(t *testing.T) {
	c := index.New()
	put(c, index.Entry{Digest: hash(0), MediaType: gzipType, Created: 1})
	names := []string{"\xff", "\xfe", "\ufffd", "\x00", " ", "+", "%20", ",", "", strings.Repeat("\xff", 4096)}
	for i, name := range names {
		c.Apply(index.KeyRecord(name, index.BuildKey{Digest: hash(0), Created: int64(i)}))
		if name != "" {
			c.Apply(index.PinRecords(name, nil, []v1.Hash{hash(0)})[0])
		}
	}
	for what, c := range map[string]*index.Catalog{"applied": c, "decoded": decode(t, encode(t, c))} {
		for i, name := range names {
			if k, ok := c.Key(name); !ok || k.Created != int64(i) {
				t.Errorf("%s: %.9q: got %+v, %v", what, name, k, ok)
			}
			c.Apply(index.DropKeyRecord(name))
			if got, want := len(c.KeysOf(hash(0))), len(names)-i-1; got != want {
				t.Errorf("%s: %.9q dropped: got %d keys, want %d", what, name, got, want)
			}
		}
		c.Apply(index.UnpinRecord("\xff"))
		if got, want := len(c.PinsOf(hash(0))), len(names)-2; got != want {
			t.Errorf("%s: unpinned: got %d pins, want %d", what, got, want)
		}
		if c.Skipped() != 0 {
			t.Errorf("%s: %d skipped", what, c.Skipped())
		}
	}
}

// A record whose key or name is not escaped is no record.
func TestMarksNotEscaped(t *testing.T) {
	c := marked(t)
	want := encode(t, c)
	for i, record := range []string{
		`{"key":{"key":"%","digest":"` + hash(0).String() + `","created":1}}`, `{"unkey":"%"}`,
		`{"pin":{"name":"%zz","digests":["` + hash(0).String() + `"]}}`, `{"unpin":"%1"}`,
		`{"pin":{"name":"x","digests":["` + hash(0).String() + `"],"change":"x"}}`,
		`{"pin":{"name":"","digests":["` + hash(0).String() + `"]}}`,
	} {
		c.Apply([]byte(record))
		if c.Skipped() != i+1 {
			t.Errorf("%s: not skipped", record)
		}
	}
	if got := encode(t, c); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// As many keys and pins of one layer as would take minutes if each were put
// in its place among the others, in a journal and in an index.
func TestMarksMany(t *testing.T) {
	const n = 100_000
	c := index.New()
	put(c, index.Entry{Digest: hash(0), MediaType: gzipType, Created: 1})
	for i := range n {
		name := strconv.Itoa(i)
		c.Apply(index.KeyRecord(name, index.BuildKey{Digest: hash(0), Created: 1}))
		c.Apply(index.PinRecords(name, nil, []v1.Hash{hash(0)})[0])
	}
	for what, c := range map[string]*index.Catalog{"applied": c, "decoded": decode(t, encode(t, c))} {
		if keys, pins := c.KeysOf(hash(0)), c.PinsOf(hash(0)); len(keys) != n || len(pins) != n || !slices.IsSorted(keys) || !slices.IsSorted(pins) {
			t.Errorf("%s: got %d keys and %d pins, want %d of each, sorted", what, len(keys), len(pins), n)
		}
	}
}

// A pin of more entries than are for one record. What it held and is to hold
// it holds after each.
func TestPinRecords(t *testing.T) {
	const n = 12_000
	c := index.New()
	var hs []v1.Hash
	for i := range n {
		put(c, index.Entry{Digest: hash(i), MediaType: gzipType, Created: 1})
		hs = append(hs, hash(i))
	}
	holds := func(h v1.Hash) bool {
		i := slices.Index(c.PinsOf(h), "pin")
		return i >= 0 && !slices.Contains(c.PinsOf(h)[i+1:], "pin")
	}
	var held []v1.Hash
	for _, tt := range []struct{ from, to int }{{0, 10}, {0, 9000}, {3000, n}, {n - 10, n}, {0, n}, {0, 0}} {
		want := hs[tt.from:tt.to]
		for i, record := range index.PinRecords("pin", held, want) {
			if len(record) > 1<<20-100 {
				t.Errorf("%v: a record of %d bytes", tt, len(record))
			}
			for range 2 {
				c.Apply(record)
			}
			for _, h := range held {
				if slices.Contains(want[:min(100, len(want))], h) && !holds(h) {
					t.Errorf("%v: %v is not held after record %d", tt, h, i)
				}
			}
		}
		c.Apply(index.PinRecords("younger", nil, hs[:1])[0])
		held = c.Pins()["pin"]
		for j, h := range hs {
			if got := holds(h); got != (tt.from <= j && j < tt.to) {
				t.Fatalf("%v: %d is held: %v", tt, j, got)
			}
		}
		if got := decode(t, encode(t, c)).Pins()["pin"]; len(held) != len(want) || !slices.Equal(got, held) {
			t.Errorf("%v: got %d, decoded %d, want %d", tt, len(held), len(got), len(want))
		}
	}
}

// What is added to an entry's lists, or goes, after a clone was made is not in
// the clone.
func TestMarksOfClone(t *testing.T) {
	c := marked(t)
	clone, want := c.Clone(), encode(t, c)
	c.Apply(index.KeyRecord("fourth", index.BuildKey{Digest: hash(0), Created: 1}))
	c.Apply(index.PinRecords("another", nil, []v1.Hash{hash(1)})[0])
	then := c.Clone()
	c.Apply(index.DropKeyRecord(odd))
	c.Apply(index.UnpinRecord(oddPin))
	c.Apply(index.KeyRecord("fifth", index.BuildKey{Digest: hash(0), Created: 1}))
	if got := encode(t, clone); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	again := decode(t, encode(t, then))
	if got := again.KeysOf(hash(0)); len(got) != 3 || slices.Contains(got, "fifth") {
		t.Errorf("got keys %q", got)
	}
	if got := again.PinsOf(hash(1)); len(got) != 3 {
		t.Errorf("got pins %q", got)
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
