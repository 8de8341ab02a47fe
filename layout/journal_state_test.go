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

// A number that no journal reaches must not keep later records out.
func TestJournalHugeNumber(t *testing.T) {
	for _, n := range []string{"18446744073709551615", "18446744073709551614", "9223372036854775807", "4611686018427387904", "4611686018427387903", "0"} {
		dir := withJournal(t, header+lines("a")+`{"n":`+n+`,"add":"a"}`+"\n", "")
		h, other := open(t, dir), open(t, dir)
		h.add("c")
		h.add("d")
		other.want("a", "c", "d")
		open(t, dir).want("a", "c", "d")
		h.fold()
		h.add("e")
		other.want("a", "c", "d", "e")
		open(t, dir).want("a", "c", "d", "e")
	}
}

// The system went down after a checkpoint: the index is there, and the
// journal that it holds is back under its name without its end. What is
// appended now must not count as held.
func TestJournalShorterThanFolded(t *testing.T) {
	for _, left := range []string{header, header + lines("a")} {
		dir := withJournal(t, left, "")
		write(t, filepath.Join(dir, "index.json"), "{\"folded\":\"g1:3\",\"names\":[\n\"a\",\"b\",\"c\"]}\n")
		h, other := open(t, dir), open(t, dir)
		h.add("d")
		other.want("a", "b", "c", "d")
		open(t, dir).want("a", "b", "c", "d")
		other.fold()
		h.want("a", "b", "c", "d")
		open(t, dir).want("a", "b", "c", "d")
	}
}

func TestJournalMissing(t *testing.T) {
	dir := t.TempDir()
	h, other := open(t, dir), open(t, dir)
	h.add("a")
	other.want("a")
	if err := os.Remove(journalOf(dir)); err != nil {
		t.Fatal(err)
	}
	h.want("a")
	other.want("a")
	h.add("b")
	h.want("a", "b")
	other.want("a", "b")
	other.add("c")
	h.want("a", "b", "c")
	h.fold() // what was lost with the journal is still known to those who read it
	other.want("a", "b", "c")
	open(t, dir).want("a", "b", "c")
}

func TestJournalVersion(t *testing.T) {
	later := strings.Replace(header, `"version":1`, `"version":2`, 1)
	for name, dir := range map[string]string{
		"journal":           withJournal(t, later+lines("a"), ""),
		"journal.old":       withJournal(t, header, later+lines("a")),
		"no version":        withJournal(t, strings.Replace(header, `"version":1,`, "", 1), ""),
		"journal.old alone": withJournal(t, "", later),
	} {
		before := tree(t, dir)
		l, err := layout.Open(dir, layout.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		r := &replica{}
		if err := l.Load(r); !errors.Is(err, layout.ErrVersion) {
			t.Errorf("%s: got %v, want ErrVersion", name, err)
		}
		if !slices.Equal(r.ended, []bool{false}) {
			t.Errorf("%s: the replica's ends: got %v, want one that failed", name, r.ended)
		}
		l.Close()
		wantSameTree(t, before, tree(t, dir))
	}

	// One that comes while the layout is open stops writers, not readers.
	dir := t.TempDir()
	h := open(t, dir)
	h.add("a")
	good := read(t, journalOf(dir))
	replace(t, journalOf(dir), later)
	err := h.Update(t.Context(), func(*layout.Tx) error { t.Error("the update ran"); return nil })
	if !errors.Is(err, layout.ErrVersion) {
		t.Errorf("update: got %v, want ErrVersion", err)
	}
	if got := h.r.state().Names; !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q, want what was known", got)
	}
	replace(t, journalOf(dir), good)
	h.want("a")
}

// replace replaces a file as a whole, as other tools do.
func replace(t testing.TB, path, content string) {
	t.Helper()
	write(t, path+".tmp", content)
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// Records that the index says it holds are not applied again; those behind
// them are, and so are all of a journal of another generation.
func TestFoldedRecordsAreSkipped(t *testing.T) {
	for folded, want := range map[string][]string{
		"":        {"a", "b", "c"},
		"G:0":     {"a", "b", "c"},
		"G:2":     {"c"},
		"G:3":     {},
		"other:2": {"a", "b", "c"},
		"G:x":     {"a", "b", "c"},
	} {
		dir := t.TempDir()
		h := open(t, dir)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		files := map[string]string{
			"index.json":        `{"folded":"` + folded + `","names":[]}`,
			".ocicache/journal": `{"version":1,"generation":"G","boot":""}` + "\n" + `{"n":1,"add":"a"}` + "\n" + `{"n":2,"add":"b"}` + "\n" + `{"n":3,"add":"c"}` + "\n",
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		l, err := layout.Open(dir, layout.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		r := &replica{}
		if err := l.Load(r); err != nil {
			t.Fatal(err)
		}
		if got := r.state().Names; !slices.Equal(got, want) {
			t.Errorf("folded %q: got %q, want %q", folded, got, want)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
