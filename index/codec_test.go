package index_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/index"
)

func TestRoundTrip(t *testing.T) {
	for _, tt := range forms {
		t.Run(tt.name, func(t *testing.T) {
			c := index.New()
			put(c, tt.of...)
			if c.Skipped() > 0 {
				t.Errorf("%d records were skipped", c.Skipped())
			}
			wantEntries(t, c, tt.of...)
			first := encode(t, c)
			again := index.New()
			folded, err := again.Decode([]byte(first))
			if err != nil {
				t.Fatal(err)
			}
			if folded != "g:1" {
				t.Errorf("folded: got %q", folded)
			}
			wantEntries(t, again, tt.of...)
			if second := encode(t, again); second != first {
				t.Errorf("encoded again:\ngot  %s\nwant %s", second, first)
			}
			if got := encode(t, c); got != first {
				t.Errorf("encoded twice:\ngot  %s\nwant %s", got, first)
			}
			if got := encode(t, c.Clone()); got != first {
				t.Errorf("encoded a clone:\ngot  %s\nwant %s", got, first)
			}
		})
	}
}

// What is written is an OCI image index, of the form that the package
// promises: the first line ends where the list begins, then a descriptor a
// line.
func TestEncodeForm(t *testing.T) {
	for _, tt := range forms {
		c := index.New()
		put(c, tt.of...)
		text := encode(t, c)
		var idx ocispec.Index
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&idx); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if idx.SchemaVersion != 2 || idx.MediaType != ocispec.MediaTypeImageIndex || idx.Annotations[ocicache.AnnotationFolded] != "g:1" {
			t.Errorf("%s: got %+v", tt.name, idx)
		}
		if len(idx.Manifests) != len(tt.of) {
			t.Errorf("%s: got %d descriptors, want %d", tt.name, len(idx.Manifests), len(tt.of))
		}
		lines := strings.Split(text, "\n")
		if !strings.HasSuffix(lines[0], `"manifests":[`) || len(lines) != len(tt.of)+3 {
			t.Errorf("%s: got %d lines, the first %s", tt.name, len(lines), lines[0])
		}
	}
	if got := encode(t, index.New()); !json.Valid([]byte(got)) {
		t.Errorf("an empty index: got %s", got)
	}
}

// The two annotations of ggcr's issue 950, as DESIGN.md shows them.
func TestEncodeAnnotations(t *testing.T) {
	c := index.New()
	put(c, forms[5].of...)
	var idx ocispec.Index
	if err := json.Unmarshal([]byte(encode(t, c)), &idx); err != nil {
		t.Fatal(err)
	}
	for _, d := range idx.Manifests {
		key, want := ocicache.AnnotationDiffID, hash(1)
		if d.MediaType == tarType {
			key, want = ocicache.AnnotationDigest, hash(0)
		}
		if got := d.Annotations[key]; got != want.String() {
			t.Errorf("%s: %s: got %q, want %q", d.MediaType, key, got, want)
		}
	}
}

// A descriptor with just the annotations of the issue is ours.
func TestDecodeMinimal(t *testing.T) {
	c := decode(t, document(
		`{"mediaType":"`+gzipType+`","size":7,"digest":"`+hash(0).String()+`","annotations":{"dev.ggcr.cache.diffid":"`+hash(1).String()+`"}}`,
		`{"annotations":{"dev.ggcr.cache.digest":"`+hash(0).String()+`"},"digest":"`+hash(1).String()+`","size":70,"mediaType":"`+tarType+`"}`,
		`{"mediaType":"`+tarType+`","size":70,"digest":"`+hash(2).String()+`","annotations":{"dev.ggcr.cache.digest":""}}`,
	))
	wantEntries(t, c,
		index.Entry{Digest: hash(0), MediaType: gzipType, Size: 7, DiffID: hash(1), Pair: index.Claimed},
		index.Entry{Digest: hash(1), MediaType: tarType, Size: 70, Tar: true, Variant: hash(0)},
		index.Entry{Digest: hash(2), MediaType: tarType, Size: 70, Tar: true})
	if c.Foreign() != 0 {
		t.Errorf("%d are foreign", c.Foreign())
	}
}

// What a pair is said to be that this version does not know, it only claims.
func TestDecodeUnknownPair(t *testing.T) {
	for _, pair := range []string{"", "Verified", "verified ", "certain"} {
		c := decode(t, document(`{"mediaType":"m","size":7,"digest":"`+hash(0).String()+
			`","annotations":{"dev.ggcr.cache.diffid":"`+hash(1).String()+`","dev.ggcr.cache.pair":"`+pair+`"}}`))
		if e, _ := c.Get(hash(0)); e.Pair != index.Claimed {
			t.Errorf("%q: got %v, want Claimed", pair, e.Pair)
		}
	}
}

func TestVariantsOrder(t *testing.T) {
	c := index.New()
	entry := func(i int, pair index.Pair) index.Entry {
		return index.Entry{Digest: hash(i), DiffID: hash(9), Pair: pair, Created: 1}
	}
	put(c, entry(0, index.Claimed), entry(1, index.Verified), entry(2, index.Refuted), entry(3, index.Verified), entry(4, index.Claimed))
	for variant, first := range map[int]int{1: 1, 3: 3} {
		put(c, index.Entry{Digest: hash(9), Tar: true, Variant: hash(variant), Created: 1})
		got := c.Variants(hash(9))
		if len(got) != 4 || got[0].Digest != hash(first) || got[1].Pair != index.Verified || got[2].Pair != index.Claimed || got[3].Pair != index.Claimed {
			t.Errorf("variant %d preferred: got %+v", variant, got)
		}
	}
	// One that is preferred and only claimed comes after what is verified.
	put(c, index.Entry{Digest: hash(9), Tar: true, Variant: hash(0), Created: 1})
	if got := c.Variants(hash(9)); len(got) != 4 || got[0].Pair != index.Verified || got[1].Pair != index.Verified {
		t.Errorf("a claimed one preferred: got %+v", got)
	}
	if got := c.Variants(hash(0)); got != nil {
		t.Errorf("of a digest: got %+v", got)
	}
}

func TestEncodeWriterFails(t *testing.T) {
	c := index.New()
	for i := range 1000 {
		put(c, index.Entry{Digest: hash(i), Created: 1})
	}
	whole := len(encode(t, c))
	for _, room := range []int{0, 100, 64 << 10, whole - 1} {
		if err := c.Encode(&full{room: room}, "g:1"); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("room for %d of %d bytes: got %v, want the writer's error", room, whole, err)
		}
	}
}

// full is a disk with some room left.
type full struct {
	bytes.Buffer
	room int
}

func (f *full) Write(b []byte) (int, error) {
	if f.Len()+len(b) > f.room {
		return 0, io.ErrShortWrite
	}
	return f.Buffer.Write(b)
}
