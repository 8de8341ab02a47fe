package filter_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ocicache/ocicache/internal/filter"
)

// FuzzParse checks that Parse refuses with an Error of one short line, and
// that of what it takes, the comma means and, and several filters mean or.
func FuzzParse(f *testing.F) {
	for _, seed := range [][2]string{
		{"", "pinned"},
		{"from==ghcr.io/a/b", `keys~=/^ma\x69n$/,from`},
		{"size>1.5MiB,uses<=3", `"size" != "10kB"`},
		{"lastused<1w2d12h", "created>=2024-03-01T02:00:00+02:00"},
		{"lastused!=never", "created==2024-03-01"},
		{"pinned==false", `from~=|a\||`},
		{"size>>3", `from=="\d"`},
		{"from~=(((", "from=x"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		fa, fb := take(t, a), take(t, b)
		if fa == nil || fb == nil || a == "" || b == "" || len(a)+len(b) >= 64<<10 {
			return
		}
		both, either := parse(t, schema, a+","+b), parse(t, schema, a, b)
		spaced := parse(t, schema, " "+a+"\t")
		for i, e := range samples {
			inA, inB := fa.Match(e.field), fb.Match(e.field)
			if got := both.Match(e.field); got != (inA && inB) {
				t.Errorf("entry %d: %q and %q: got %t, want %t", i, a, b, got, inA && inB)
			}
			if got := either.Match(e.field); got != (inA || inB) {
				t.Errorf("entry %d: %q or %q: got %t, want %t", i, a, b, got, inA || inB)
			}
			if got := spaced.Match(e.field); got != inA {
				t.Errorf("entry %d: %q with space around: got %t, want %t", i, a, got, inA)
			}
		}
	})
}

// take parses an expression, and returns nil if it was well refused.
func take(t *testing.T, expr string) *filter.Filter {
	f, err := schema.Parse(now, expr)
	if err == nil {
		return f
	}
	var refused *filter.Error
	if f != nil || !errors.As(err, &refused) {
		t.Fatalf("%q: got %v and %v, want an Error alone", expr, f, err)
	}
	if c := refused.Column; c < 1 || c > utf8.RuneCountInString(expr)+1 {
		t.Errorf("%q: column %d is not in it", expr, c)
	}
	if text := err.Error(); strings.ContainsAny(text, "\n\r") || len(text) > 4000 {
		t.Errorf("%q: got %q, want one short line", expr, text)
	}
	return nil
}
