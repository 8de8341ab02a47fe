package layout_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A tool is one that knows nothing of our journal, and what it makes of
// index.json.
var tools = []struct {
	name    string
	rewrite func(old string) string // "" removes the file
	foreign []string
	loses   bool // what the index held
}{
	{"keeps all, adds one", func(old string) string {
		return onOneLine(addForeign(old))
	}, []string{"theirs"}, false},
	{"prints it over lines", func(old string) string {
		return strings.ReplaceAll(onOneLine(addForeign(old)), ",", ",\n  ")
	}, []string{"theirs"}, false},
	{"drops the mark, adds one", func(old string) string {
		_, rest, _ := strings.Cut(onOneLine(addForeign(old)), `"foreign"`)
		return `{"foreign"` + rest
	}, []string{"theirs"}, false},
	{"writes the same again", func(old string) string { return old }, nil, false},
	{"has no names left", func(old string) string { return `{"names":null}` }, nil, true},
	{"has only its own left", func(old string) string { return `{"foreign":["theirs"],"names":null}` }, []string{"theirs"}, true},
	{"empties the file", func(old string) string { return " " }, nil, true},
	{"removes the file", func(old string) string { return "" }, nil, true},
}

func addForeign(old string) string {
	return strings.Replace(old, `"foreign":[`, `"foreign":["theirs"`, 1)
}

func onOneLine(index string) string { return strings.ReplaceAll(index, "\n", "") }

func (h *handle) meddle(rewrite func(string) string) {
	h.t.Helper()
	path := filepath.Join(h.Dir(), "index.json")
	content := rewrite(read(h.t, path))
	switch content {
	case "":
		if err := os.Remove(path); err != nil {
			h.t.Fatal(err)
		}
	case " ":
		write(h.t, path, "") // in place
	default:
		replace(h.t, path, content)
	}
}

// index.json is replaced by another tool while two handles have it open. What
// was journaled since is not lost, what the tool added is not lost, and both
// handles come to know of it.
func TestIndexReplaced(t *testing.T) {
	for _, tool := range tools {
		for _, look := range []bool{false, true} {
			for _, later := range []string{"nobody", "same", "other"} {
				t.Run(fmt.Sprintf("%s, looked at %v, checkpoint by %s", tool.name, look, later), func(t *testing.T) {
					dir := t.TempDir()
					h, other := open(t, dir), open(t, dir)
					h.add("a")
					h.fold()
					h.add("b")
					other.want("a", "b")
					h.meddle(tool.rewrite)

					want := []string{"b", "c"}
					if !tool.loses {
						want = append(want, "a")
					}
					if look {
						other.wantForeign(tool.foreign...)
					}
					other.add("c")
					switch later {
					case "same":
						other.fold()
					case "other":
						h.fold()
					}
					for _, who := range []*handle{h, other, open(t, dir)} {
						who.want(want...)
						who.wantForeign(tool.foreign...)
					}
					h.add("d")
					h.fold()
					other.add("e")
					other.fold()
					for _, who := range []*handle{h, other, open(t, dir)} {
						who.want(append(want, "d", "e")...)
						who.wantForeign(tool.foreign...)
					}
				})
			}
		}
	}
}

// It is replaced while a journal is set aside: at once after a checkpoint
// died.
func TestIndexReplacedInCheckpoint(t *testing.T) {
	for _, tool := range tools {
		t.Run(tool.name, func(t *testing.T) {
			dir := t.TempDir()
			h, other := open(t, dir), open(t, dir)
			h.add("a")
			h.fold()
			h.add("b")
			other.want("a", "b")
			if err := os.Rename(journalOf(dir), journalOf(dir)+".old"); err != nil {
				t.Fatal(err)
			}
			other.add("c")
			h.meddle(tool.rewrite)
			want := []string{"b", "c"}
			if !tool.loses {
				want = append(want, "a")
			}
			h.want(want...)
			h.fold()
			for _, who := range []*handle{h, other, open(t, dir)} {
				who.want(want...)
				who.wantForeign(tool.foreign...)
			}
		})
	}
}

// A tool that edits lines keeps the form in which a checkpoint of ours says
// that there is nothing new for those who follow the journal. What it added
// is not lost all the same.
func TestIndexEdited(t *testing.T) {
	dir := t.TempDir()
	h, other := open(t, dir), open(t, dir)
	h.add("a")
	h.fold()
	other.want("a")
	h.meddle(addForeign)
	open(t, dir).wantForeign("theirs")
	for i, who := range []*handle{other, h, other} {
		who.add(fmt.Sprint("b", i))
		who.fold()
		open(t, dir).wantForeign("theirs")
	}
	open(t, dir).want("a", "b0", "b1", "b2")
}

// An index that cannot be read stops writers and leaves what is known; once
// it is good again, all goes on.
func TestIndexBroken(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	h.add("a")
	h.fold()
	h.add("b")
	good := read(t, filepath.Join(dir, "index.json"))
	replace(t, filepath.Join(dir, "index.json"), `{"names":[`)
	if err := h.CatchUp(); err == nil || !strings.Contains(err.Error(), "index.json") {
		t.Errorf("catch up: got %v, want an error that names the file", err)
	}
	if err := h.Checkpoint(t.Context(), h.r.encode); err == nil {
		t.Error("a checkpoint went over an index that cannot be read")
	}
	if got := read(t, filepath.Join(dir, "index.json")); got != `{"names":[` {
		t.Errorf("the index was written over: %q", got)
	}
	replace(t, filepath.Join(dir, "index.json"), good)
	h.want("a", "b")
	h.add("c")
	h.fold()
	open(t, dir).want("a", "b", "c")
}
