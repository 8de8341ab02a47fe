package cli_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/cli"
)

// statistics is what the tests look at of stats.
type statistics struct {
	Dir                               string
	Layers, Present, Remembered, Keys int
	Bytes, Uses, Served               int64
	LastUsed                          string
	Compression                       struct {
		Blobs                    int
		Compressed, Uncompressed int64
		Ratio                    float64
	}
	Pairs  struct{ Verified, Claimed, Refuted int }
	Unused struct {
		Present int
		Bytes   int64
	}
	Pins    []string
	Origins []struct {
		Origin  string
		Present int
		Bytes   int64
	}
}

func TestStats(t *testing.T) {
	f := newFixture(t)
	ok(t, "cat", "--dir", f.dir, f.digests[1])
	ok(t, "cat", "--dir", f.dir, f.digests[1])
	ok(t, "pin", "--dir", f.dir, "release", f.digests[0])
	var bytes, uses, served, unused int64
	sizes := map[string]int64{}
	for _, b := range decoded[[]struct {
		Digest         string
		Size, UseCount int64
	}](t, "ls", "--dir", f.dir) {
		bytes, uses, served = bytes+b.Size, uses+b.UseCount, served+b.UseCount*b.Size
		sizes[b.Digest] = b.Size
		if b.UseCount == 0 {
			unused += b.Size
		}
	}
	got := decoded[statistics](t, "stats", "--dir", f.dir)
	if got.Dir != f.dir || got.Layers != 2 || got.Present != 3 || got.Remembered != 0 || got.Keys != 1 || !slices.Equal(got.Pins, []string{"release"}) {
		t.Errorf("got %+v", got)
	}
	if got.Bytes != bytes || got.Uses != uses || got.Served != served || got.Unused.Bytes != unused || uses < 2 || unused == 0 || got.LastUsed == "" {
		t.Errorf("got %+v, want %d bytes, %d of them unused, %d uses, %d bytes served", got, bytes, unused, uses, served)
	}
	if p := got.Pairs; p.Verified != 1 || p.Claimed != 1 || p.Refuted != 0 {
		t.Errorf("got %+v, want one pair verified, and one claimed", p)
	}
	c, gz, tar := got.Compression, sizes[f.digests[0]], sizes[f.diffIDs[0]]
	if c.Blobs != 1 || c.Compressed != gz || c.Uncompressed != tar || c.Ratio != float64(tar)/float64(gz) {
		t.Errorf("got %+v, want %d bytes for %d", c, gz, tar)
	}
	text := ok(t, "stats", "--dir", f.dir)
	for _, want := range []string{f.dir, "2 (3 blobs present, 0 remembered)", "1 verified, 1 claimed", "to 1: 1", "served   about", "release", "not known"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// Only what is known to hold a tar is compared with it, also if its bytes are
// gone.
func TestStatsCompression(t *testing.T) {
	tar, other := v1.Hash{Algorithm: "sha256", Hex: "aa"}, v1.Hash{Algorithm: "sha256", Hex: "bb"}
	got := cli.CompressionOf([]cache.Usage{
		{Digest: tar, DiffID: tar, Form: cache.FormUncompressed, Size: 100, Pair: "verified", Present: true},
		{DiffID: tar, Form: cache.FormCompressed, Size: 20, Pair: "verified", Present: true},
		{DiffID: tar, Form: cache.FormCompressed, Size: 30, Pair: "verified"},
		{DiffID: tar, Form: cache.FormCompressed, Size: 1, Pair: "claimed", Present: true},
		{DiffID: tar, Form: cache.FormCompressed, Size: 1, Pair: "refuted", Present: true},
		{DiffID: other, Form: cache.FormCompressed, Size: 1, Pair: "verified", Present: true},
	})
	if got.Blobs != 2 || got.Compressed != 50 || got.Uncompressed != 200 || got.Ratio != 4 {
		t.Errorf("got %+v, want 4 to 1", got)
	}
}

// Nothing is divided by nothing, and lists are not null.
func TestStatsEmpty(t *testing.T) {
	f := newFixture(t)
	ok(t, "cat", "--dir", f.dir, f.digests[1])
	for _, tt := range []struct{ prune, served string }{
		{"--filter=present", "served   about "},
		{"--all", "served   nothing yet"},
	} {
		ok(t, "prune", "--dir", f.dir, tt.prune)
		got := decoded[statistics](t, "stats", "--dir", f.dir)
		if got.Present != 0 || got.Bytes != 0 || got.Pins == nil || got.Origins == nil {
			t.Errorf("%s: got %+v", tt.prune, got)
		}
		text := ok(t, "stats", "--dir", f.dir)
		if !strings.Contains(text, "on disk  nothing") || !strings.Contains(text, tt.served) || strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
			t.Errorf("%s: got\n%s", tt.prune, text)
		}
	}
}

// A tar counts for the repository that its layer came from; the largest comes
// first. However many and long the names are, they fit a terminal.
func TestStatsOrigins(t *testing.T) {
	dir, host := newDir(t), startRegistry(t)
	for i := range 7 {
		image := fmt.Sprintf("%s/%s%d", host, strings.Repeat("deep/", 20), i)
		push(t, image, imageOf(t, layerOf(t, fmt.Sprint(i), strings.Repeat("x", i*1000))))
		ok(t, "pull", "--quiet", "--both", "--dir", dir, image)
		ok(t, "pin", "--dir", dir, strings.Repeat("pin", 10)+fmt.Sprint(i), ok(t, "ls", "--dir", dir, "-q")[:71])
	}
	got := decoded[statistics](t, "stats", "--dir", dir).Origins
	if len(got) != 7 || !strings.HasSuffix(got[0].Origin, "/6") || got[0].Present != 2 || got[0].Bytes < 6000 {
		t.Errorf("got %+v", got)
	}
	text := ok(t, "stats", "--dir", dir)
	if !strings.Contains(text, "and 2 more") {
		t.Errorf("got\n%s", text)
	}
	for line := range strings.Lines(strings.ReplaceAll(text, dir, "DIR")) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d characters: %s", n, line)
		}
	}
}
