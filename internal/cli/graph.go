package cli

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ocicache/ocicache/cache"
)

// A part is some of the blobs that are there. Sizes are in bytes.
type part struct {
	Present   int   `json:"present"`
	Bytes     int64 `json:"bytes"`
	Remakable int64 `json:"remakable"`
	Pinned    int64 `json:"pinned"`

	pinnedRemakable int64 // what is both
}

// partOf returns those of a kind.
func partOf(usages []cache.Usage, of func(u cache.Usage) bool) (p part) {
	for _, u := range usages {
		if !u.Present || !of(u) {
			continue
		}
		p.Present++
		p.Bytes += u.Size
		if u.Remakable {
			p.Remakable += u.Size
		}
		if u.Pinned {
			p.Pinned += u.Size
		}
		if u.Remakable && u.Pinned {
			p.pinnedRemakable += u.Size
		}
	}
	return p
}

// ages are what the graph tells apart: from the one before, up to this long.
var ages = [...]struct {
	name  string
	under time.Duration
}{
	{"under 1 day", 24 * time.Hour},
	{"1-7 days", 7 * 24 * time.Hour},
	{"7-30 days", 30 * 24 * time.Hour},
	{"30-90 days", 90 * 24 * time.Hour},
	{"90+ days", math.MaxInt64},
}

// ageOf returns which of ages a blob is of.
func ageOf(now time.Time, u cache.Usage) int {
	touched := u.LastUsed
	if touched.IsZero() {
		touched = u.Created
	}
	for i, a := range ages {
		if now.Sub(touched) < a.under {
			return i
		}
	}
	return len(ages) - 1
}

// useCounts are likewise, up to so many uses.
var useCounts = [...]struct {
	name string
	most int64
}{
	{"never", 0},
	{"once", 1},
	{"2-9 times", 9},
	{"10+ times", math.MaxInt64},
}

func useCountOf(u cache.Usage) int {
	for i, c := range useCounts {
		if u.UseCount <= c.most {
			return i
		}
	}
	return len(useCounts) - 1
}

// blocks are what bars are made of. The characters tell them apart; colours
// only help.
var blocks = [...]struct{ block, colour, meaning string }{
	{"▓", "33", "pinned"},
	{"█", green, "not pinned"},
	{"░", "36", "remakable, not pinned"},
}

// graph draws what du prints, no wider than width.
func (a *app) graph(du duJSON, width int) string {
	var text strings.Builder
	row := func(name string, p part) {
		line := fmt.Sprintf("%-12s  %9s  %4.0f%%", name, size(p.Bytes), share(p.Bytes, du.Bytes)*100)
		bar := a.stack(p, du.Bytes, max(width-len(line)-2, 10))
		text.WriteString(strings.TrimRight(line+"  "+bar, " ") + "\n")
	}
	header := func(name string) {
		text.WriteString(a.paint(bold, fmt.Sprintf("%-12s  %9s  SHARE", name, "SIZE")) + "\n")
	}
	header("AGE")
	for _, p := range du.Ages {
		row(p.Age, p.part)
	}
	text.WriteString("\n")
	header("FORM")
	for _, p := range du.Forms {
		row(string(p.Form), p.part)
	}
	text.WriteString("\n")
	header("USED")
	for _, p := range du.Uses {
		row(p.Uses, p.part)
	}
	text.WriteString("\n" + a.legend() + "\n")
	return text.String()
}

func (a *app) legend() string {
	var of []string
	for _, b := range blocks {
		of = append(of, a.paint(b.colour, b.block)+" "+b.meaning)
	}
	return strings.Join(of, "  ")
}

// stack returns a part of a whole as a bar of blocks. What is there has one at
// least.
func (a *app) stack(p part, whole int64, width int) string {
	pinned, remakable := p.Pinned, p.Remakable-p.pinnedRemakable
	text, drawn, sum := "", 0, int64(0)
	for i, bytes := range [...]int64{pinned, p.Bytes - pinned - remakable, remakable} {
		sum += bytes
		until := int(share(sum, whole)*float64(width) + 0.5)
		if sum == p.Bytes && sum > 0 {
			until = max(until, 1)
		}
		if n := until - drawn; n > 0 && bytes > 0 {
			text += a.paint(blocks[i].colour, strings.Repeat(blocks[i].block, n))
			drawn = until
		}
	}
	return text
}

// The widths of what is drawn, in characters.
const (
	defaultWidth = 80
	maxWidth     = 100
)

// width returns how wide standard output is.
func (a *app) width() int { return min(cmp.Or(columns(a.stdout), defaultWidth), maxWidth) }
