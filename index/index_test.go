package index_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
)

const (
	gzipType = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	ociType  = "application/vnd.oci.image.layer.v1.tar+gzip"
	tarType  = "application/vnd.docker.image.rootfs.diff.tar"
)

// hash returns the i-th of a row of hashes; every fifth is a sha512.
func hash(i int) v1.Hash {
	if i%5 == 4 {
		return v1.Hash{Algorithm: "sha512", Hex: fmt.Sprintf("%0128x", i+1)}
	}
	return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064x", i+1)}
}

func decode(t testing.TB, b string) *index.Catalog {
	t.Helper()
	c := index.New()
	if _, err := c.Decode([]byte(b)); err != nil {
		t.Fatalf("decode %s: %v", b, err)
	}
	return c
}

func encode(t testing.TB, c *index.Catalog) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Encode(&b, "g:1"); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func put(c *index.Catalog, es ...index.Entry) {
	for _, e := range es {
		c.Apply(index.PutRecord(e))
	}
}

func remove(c *index.Catalog, hs ...v1.Hash) {
	for _, h := range hs {
		c.Apply(index.DeleteRecord(h))
	}
}

// entries returns all entries, by digest.
func entries(c *index.Catalog) []index.Entry {
	return slices.SortedFunc(c.Entries(), func(a, b index.Entry) int {
		return strings.Compare(a.Digest.String(), b.Digest.String())
	})
}

func wantEntries(t testing.TB, c *index.Catalog, want ...index.Entry) {
	t.Helper()
	want = slices.SortedFunc(slices.Values(want), func(a, b index.Entry) int {
		return strings.Compare(a.Digest.String(), b.Digest.String())
	})
	if got := entries(c); !slices.Equal(got, want) {
		t.Errorf("entries:\ngot  %+v\nwant %+v", got, want)
	}
	if got := c.Len(); got != len(want) {
		t.Errorf("Len: got %d, want %d", got, len(want))
	}
	for _, e := range want {
		if got, ok := c.Get(e.Digest); !ok || got != e {
			t.Errorf("Get(%v): got %+v, %v, want %+v", e.Digest, got, ok, e)
		}
	}
}

func document(descriptors ...string) string {
	return `{"schemaVersion":2,"manifests":[` + strings.Join(descriptors, ",") + `]}`
}

// forms are entries of every kind.
var forms = []struct {
	name string
	of   []index.Entry
}{
	{"no pair", []index.Entry{{Digest: hash(0), MediaType: gzipType, Size: 7, Created: 9}}},
	{"claimed", []index.Entry{{Digest: hash(0), MediaType: gzipType, Size: 7, DiffID: hash(1), Pair: index.Claimed, Created: 9, ModTime: 12}}},
	{"verified", []index.Entry{{Digest: hash(0), MediaType: gzipType, Size: 7, DiffID: hash(1), Pair: index.Verified, Created: 9}}},
	{"refuted", []index.Entry{{Digest: hash(0), MediaType: gzipType, Size: 7, DiffID: hash(1), Pair: index.Refuted, Created: 9}}},
	{"tar alone", []index.Entry{{Digest: hash(1), MediaType: tarType, Size: 70, Tar: true, Created: 9}}},
	{"pair", []index.Entry{
		{Digest: hash(0), MediaType: gzipType, Size: 7, DiffID: hash(1), Pair: index.Verified, Created: 9},
		{Digest: hash(1), MediaType: tarType, Size: 70, Tar: true, Variant: hash(0), Created: 9},
	}},
	{"tar whose variant is not listed", []index.Entry{{Digest: hash(1), MediaType: tarType, Size: 70, Tar: true, Variant: hash(0), Created: 9}}},
	{"plain", []index.Entry{{Digest: hash(0), MediaType: tarType, Size: 7, DiffID: hash(0), Pair: index.Verified, Created: 9}}},
	{"compressed twice: a hash that is a digest and a diffID", []index.Entry{
		{Digest: hash(0), MediaType: gzipType, Size: 5, DiffID: hash(1), Pair: index.Verified, Created: 9},
		{Digest: hash(1), MediaType: gzipType, Size: 6, DiffID: hash(2), Pair: index.Verified, Created: 9},
		{Digest: hash(2), MediaType: tarType, Size: 70, Tar: true, Variant: hash(1), Created: 9},
	}},
	{"a tar that is a variant", []index.Entry{
		{Digest: hash(1), MediaType: gzipType, Size: 6, Tar: true, Variant: hash(0), DiffID: hash(2), Pair: index.Claimed, Created: 9},
	}},
	{"variants", []index.Entry{
		{Digest: hash(0), MediaType: gzipType, Size: 5, DiffID: hash(3), Pair: index.Verified, Created: 9},
		{Digest: hash(1), MediaType: "application/vnd.oci.image.layer.v1.tar+zstd", Size: 6, DiffID: hash(3), Pair: index.Verified, Codec: "zstd:3", Created: 8},
		{Digest: hash(2), MediaType: gzipType, Size: 6, DiffID: hash(3), Pair: index.Claimed, Created: 8},
	}},
	{"sha512", []index.Entry{
		{Digest: hash(4), MediaType: gzipType, Size: 5, DiffID: hash(9), Pair: index.Verified, Created: 9},
		{Digest: hash(9), MediaType: tarType, Size: 5, Tar: true, Variant: hash(4), Created: 9},
	}},
	{"codec, unsynced", []index.Entry{{Digest: hash(0), MediaType: gzipType, Size: 1 << 62, DiffID: hash(1), Pair: index.Verified, Codec: `gzip "level=6"`, Created: 9, ModTime: 1 << 62, Unsynced: "boot-1"}}},
	{"strange strings", []index.Entry{{Digest: hash(0), MediaType: "a\"b\\c\n\x00\u2028<é>", Size: 0, Codec: "\t", Created: 1, ModTime: -5, Unsynced: "é"}}},
	{"empty media type", []index.Entry{{Digest: hash(0), Created: 1}}},
}
