package index_test

import (
	"strings"
	"testing"

	"github.com/ocicache/ocicache/index"
)

// A descriptor that is none of ours is listed once, however often its record
// is applied, and stands in the index like those that other tools wrote.
func TestListRecord(t *testing.T) {
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	c := index.New()
	for range 2 {
		c.Apply(index.ListRecord(manifest, 7, hash(1)))
	}
	want := `{"mediaType":"` + manifest + `","size":7,"digest":"` + hash(1).String() + `"}`
	if got := c.ForeignDescriptors(); len(got) != 1 || string(got[0]) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if c.Len() != 0 || c.Skipped() != 0 {
		t.Errorf("got %d entries, %d skipped", c.Len(), c.Skipped())
	}
	again := decode(t, encode(t, c))
	again.Apply(index.ListRecord(manifest, 7, hash(1)))
	again.Apply(index.ListRecord(manifest, 8, hash(2)))
	if got := again.Foreign(); got != 2 {
		t.Errorf("got %d descriptors, want 2", got)
	}
	again.Apply([]byte(`{"n":9,"list":{"mediaType":"x"}}`))
	again.Apply([]byte(`{"n":9,"list":7}`))
	if again.Foreign() != 2 || again.Skipped() != 2 {
		t.Errorf("got %d descriptors and %d skipped, want 2 and 2", again.Foreign(), again.Skipped())
	}
	if got := encode(t, again); strings.Count(got, hash(2).String()) != 1 {
		t.Errorf("got %s", got)
	}
}

// As many records as would take hours if each looked at all before it.
func TestListMany(t *testing.T) {
	const n = 100_000
	c := index.New()
	for i := range n {
		c.Apply(index.ListRecord("x", 1, hash(i)))
	}
	if c.Foreign() != n {
		t.Errorf("got %d, want %d", c.Foreign(), n)
	}
}

// Likewise for compressed forms of one diffID that are deleted in the order in
// which they came.
func TestDeleteManyOfOne(t *testing.T) {
	const n = 200_000
	c := index.New()
	for i := range n {
		c.Apply(index.PutRecord(index.Entry{Digest: hash(i), MediaType: "x", DiffID: hash(n), Pair: index.Verified, Created: 1}))
	}
	for i := range n {
		c.Apply(index.DeleteRecord(hash(i)))
	}
	if c.Len() != 0 || c.Known(hash(n)) {
		t.Errorf("%d entries are left", c.Len())
	}
}
