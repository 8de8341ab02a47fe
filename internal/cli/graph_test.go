package cli_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/cli"
)

func TestGraph(t *testing.T) {
	now := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	days := func(n int) time.Time { return now.AddDate(0, 0, -n) }
	got := cli.Graph([]cache.Usage{
		{Form: cache.FormCompressed, Present: true, Size: 200, Created: days(99), LastUsed: days(0), UseCount: 10, Pinned: true},
		{Form: cache.FormCompressed, Present: true, Size: 100, Created: now.Add(time.Hour), LastUsed: now.Add(time.Hour), UseCount: 9},
		{Form: cache.FormUncompressed, Present: true, Size: 300, Created: days(1), Remakable: true, Pinned: true},
		{Form: cache.FormUncompressed, Present: true, Size: 200, Created: days(30), LastUsed: days(7), UseCount: 1, Remakable: true},
		{Form: cache.FormCompressed, Present: true, Size: 195, Created: days(400)},
		{Form: cache.FormUnknown, Present: true, Size: 5, Created: days(30)},
		{Form: cache.FormCompressed, Size: 1e9},
	}, now, 52)
	want := `AGE                SIZE  SHARE
under 1 day       300 B    30%  ▓▓▓▓██
1-7 days          300 B    30%  ▓▓▓▓▓▓
7-30 days         200 B    20%  ░░░░
30-90 days          5 B     0%  █
90+ days          195 B    20%  ████

FORM               SIZE  SHARE
compressed        495 B    50%  ▓▓▓▓██████
uncompressed      500 B    50%  ▓▓▓▓▓▓░░░░
unknown             5 B     0%  █

USED               SIZE  SHARE
never             500 B    50%  ▓▓▓▓▓▓████
once              200 B    20%  ░░░░
2-9 times         100 B    10%  ██
10+ times         200 B    20%  ▓▓▓▓

▓ pinned  █ not pinned  ░ remakable, not pinned
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What is there has a block, whatever else there is, and nothing is too wide.
func TestGraphWidth(t *testing.T) {
	for _, form := range []cache.Usage{{}, {Pinned: true}, {Remakable: true}, {Pinned: true, Remakable: true}} {
		form.Present, form.Size, form.Form = true, 1, cache.FormCompressed
		all := []cache.Usage{form, {Present: true, Size: 1 << 60, Form: cache.FormUncompressed, UseCount: 1}}
		for _, width := range []int{0, 40, 80, 100} {
			text := cli.Graph(all, time.Now(), width)
			for line := range strings.Lines(text) {
				if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > max(width, 50) {
					t.Errorf("width %d: %d characters: %s", width, n, line)
				}
				if strings.HasPrefix(line, "compressed ") && !strings.ContainsAny(line, "▓█░") {
					t.Errorf("width %d: no block: %s", width, line)
				}
			}
		}
	}
	if text := cli.Graph(nil, time.Now(), 80); strings.Contains(text, "NaN") {
		t.Errorf("got\n%s", text)
	}
}

// The parts of each kind add up to the whole, with filters and without.
func TestDuParts(t *testing.T) {
	f := newFixture(t)
	type part struct{ Present, Bytes, Remakable, Pinned int64 }
	ok(t, "pin", "--dir", f.dir, "x", f.digests[0])
	for _, args := range [][]string{{}, {"--graph"}, {"form==uncompressed"}, {"--graph", "size<0"}} {
		got := decoded[struct {
			part
			Forms, Ages, Uses []part
		}](t, append([]string{"du", "--dir", f.dir}, args...)...)
		for name, parts := range map[string][]part{"forms": got.Forms, "ages": got.Ages, "uses": got.Uses} {
			var sum part
			for _, p := range parts {
				sum = part{sum.Present + p.Present, sum.Bytes + p.Bytes, sum.Remakable + p.Remakable, sum.Pinned + p.Pinned}
			}
			if sum != got.part || len(parts) < 3 {
				t.Errorf("%v: %s: got %+v, want the sum %+v", args, name, parts, got.part)
			}
		}
	}
	if text := ok(t, "du", "--dir", f.dir, "--graph"); !strings.Contains(text, "▓") || !strings.Contains(text, "in 3 blobs") || strings.Contains(text, "\x1b") {
		t.Errorf("got\n%s", text)
	}
}
