package layout_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocicache/ocicache/layout"
)

// FuzzJournal puts any bytes in the place of the journal and of the one that
// was set aside. The layout opens, and keeps what it read and what is
// appended.
func FuzzJournal(f *testing.F) {
	successor := `{"version":1,"generation":"g2","previous":"g1","boot":"b"}` + "\n"
	f.Add("", "")
	f.Add(header, "")
	f.Add(header+lines("a", "b"), "")
	f.Add(header+lines("a", "b")+`{"n":3,"ad`, "")
	f.Add(successor+lines("c"), header+lines("a", "b"))
	f.Add(successor[:20], header+lines("a", "b"))
	f.Add("", header+lines("a"))
	f.Add("\x00\x00\x00", header+lines("a"))
	f.Add(header+lines("a"), header+lines("b"))
	f.Add(header+"\n\x00\n"+`{"n":18446744073709551615,"add":"a"}`+"\n", "torn")
	f.Add(header+`{"n":0,"add":"a"}`+"\n", successor)
	f.Add(strings.Replace(header, `:1`, `:2`, 1), "")
	f.Add(`{"version":1,"generation":"a:1","previous":"a:1"}`+"\n", `{"version":1,"generation":"\u0000\""}`+"\n")
	f.Fuzz(func(t *testing.T, journal, old string) {
		dir := t.TempDir()
		fill(t, dir, map[string]string{
			"oci-layout":            `{"imageLayoutVersion":"1.0.0"}`,
			"blobs/sha256/":         "",
			"index.json":            `{"folded":"g1:1","names":["indexed"]}`,
			".ocicache/version":     "1\n",
			".ocicache/journal":     journal,
			".ocicache/journal.old": old,
		})
		if old == "" {
			if err := os.Remove(filepath.Join(dir, ".ocicache", "journal.old")); err != nil {
				t.Fatal(err)
			}
		}
		l, err := layout.Open(dir, layout.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		h := &handle{Layout: l, t: t, r: &replica{}}
		if err := l.Load(h.r); errors.Is(err, layout.ErrVersion) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		want := h.r.state().Names
		if !slices.Contains(want, "indexed") {
			t.Errorf("got %q, want what is in the index", want)
		}
		appended := func(name string) []string {
			if !slices.Contains(want, name) {
				want = append(want, name)
			}
			return slices.Clone(want)
		}
		other := open(t, dir)
		other.want(slices.Clone(want)...)
		h.add("\tfresh 1")
		other.want(appended("\tfresh 1")...)
		other.add("\tfresh 2")
		h.want(appended("\tfresh 2")...)
		open(t, dir).want(slices.Clone(want)...)
		h.fold()
		other.add("\tfresh 3")
		h.want(appended("\tfresh 3")...)
		open(t, dir).want(slices.Clone(want)...)
	})
}
