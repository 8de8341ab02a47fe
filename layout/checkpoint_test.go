package layout_test

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocicache/ocicache/layout"
)

func TestCheckpoint(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	h.fold() // nothing to do
	if got := read(t, filepath.Join(dir, "index.json")); strings.Contains(got, "folded") {
		t.Errorf("nothing was journaled, and the index was written: %q", got)
	}
	h.add("a", "b")
	generation := generationOf(t, dir)
	h.fold()
	if got, want := read(t, filepath.Join(dir, "index.json")), fmt.Sprintf("{\"folded\":%q,\"foreign\":[],\"names\":[\n\"a\",\"b\"]}\n", generation+":2"); strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("index: got %q, want %q", got, want)
	}
	if next := generationOf(t, dir); next == generation {
		t.Error("the journal is still the old one")
	}
	if got := names(t, filepath.Join(dir, ".ocicache")); strings.Contains(strings.Join(got, " "), "journal.old") {
		t.Errorf("left: %q", got)
	}
	err := h.Checkpoint(t.Context(), func(layout.Checkpoint, io.Writer) error {
		t.Error("nothing was journaled, and write was called")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	open(t, dir).want("a", "b")
}

// What is appended while the index is written survives, and so does what was
// in the index when its writing fails.
func TestCheckpointWhileAppending(t *testing.T) {
	dir := t.TempDir()
	h, other := open(t, dir), open(t, dir)
	h.add("a")
	broken := errors.New("broken")
	err := h.Checkpoint(t.Context(), func(cp layout.Checkpoint, w io.Writer) error {
		h.add("b")
		other.add("c")
		open(t, dir).want("a", "b", "c")
		if _, err := io.WriteString(w, "half an index"); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of write", err)
	}
	open(t, dir).want("a", "b", "c")

	calls := 0
	err = other.Checkpoint(t.Context(), func(cp layout.Checkpoint, w io.Writer) error {
		calls++
		err := other.r.encode(cp, w)
		h.add(fmt.Sprint("d", calls))
		other.add(fmt.Sprint("e", calls))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls != 2 {
		t.Errorf("write was called %d times, want twice: for what the first left, and for what came since", calls)
	}
	want := []string{"a", "b", "c", "d1", "d2", "e1", "e2"}
	h.want(want...)
	other.want(want...)
	open(t, dir).want(want...)
}

// A reader that opened before sees everything after any number of
// checkpoints by another, whether it looked in between or not.
func TestCheckpointByAnother(t *testing.T) {
	for _, rounds := range []int{1, 2, 5} {
		for _, looks := range []bool{false, true} {
			dir := t.TempDir()
			writer, reader := open(t, dir), open(t, dir)
			writer.add("first")
			if looks {
				reader.want("first")
			}
			want := []string{"first"}
			for i := range rounds {
				before, after := fmt.Sprint("before", i), fmt.Sprint("after", i)
				writer.add(before)
				writer.fold()
				writer.add(after)
				want = append(want, before, after)
				if looks {
					reader.want(want...)
				}
			}
			reader.want(want...)
			reader.add("mine")
			writer.want(append(want, "mine")...)
			reader.fold()
			writer.want(append(want, "mine")...)
			open(t, dir).want(append(want, "mine")...)
			if t.Failed() {
				t.Fatalf("%d checkpoints, looking in between: %v", rounds, looks)
			}
			// Load, the first journal, the first index in the place of the empty
			// one, and its own checkpoint; not each one by the other.
			if looks && reader.r.resets > 4 {
				t.Errorf("%d checkpoints made the reader start over %d times", rounds, reader.r.resets)
			}
		}
	}
}

// The states that a crash in a checkpoint leaves, built by hand.
func TestCheckpointCrash(t *testing.T) {
	const (
		generation = `{"version":1,"generation":"g1","boot":"b"}` + "\n"
		successor  = `{"version":1,"generation":"g2","previous":"g1","boot":"b"}` + "\n"
		records    = "{\"n\":1,\"add\":\"b\"}\n{\"n\":2,\"add\":\"c\"}\n"
		before     = "{\"folded\":\"g0:7\",\"names\":[\n\"a\"]}\n"
		after      = "{\"folded\":\"g1:2\",\"names\":[\n\"a\",\"b\",\"c\"]}\n"
		later      = "{\"n\":1,\"add\":\"d\"}\n"
	)
	tests := []struct {
		name, index, old, journal string
		want                      string
	}{
		{"before it began", before, "", generation + records, "abc"},
		{"the old one set aside, no new one", before, generation + records, "", "abc"},
		{"and the old one torn", before, generation + records + `{"n":3,"add`, "", "abc"},
		{"the new one empty", before, generation + records, "\x00", "abc"},
		{"the new one made", before, generation + records, successor, "abc"},
		{"the new one appended to", before, generation + records, successor + later, "abcd"},
		{"the index written", after, generation + records, successor, "abc"},
		{"the index written, the new one appended to", after, generation + records, successor + later, "abcd"},
		{"the index written, no new one", after, generation + records, "", "abc"},
		{"the old one removed", after, "", successor + later, "abcd"},
		{"the old one removed, no new one", after, "", "", "abc"},
		{"the old one is not readable", after, "torn", successor + later, "abcd"},
		{"the index half folded", "{\"folded\":\"g1:1\",\"names\":[\n\"a\",\"b\"]}\n", generation + records, successor + later, "abcd"},
		{"the index without a mark", "{\"names\":[\n\"a\"]}\n", generation + records, successor + later, "abcd"},
		{"the mark not readable", "{\"folded\":\"g1\",\"names\":[\n\"a\"]}\n", generation + records, successor + later, "abcd"},
		{"the index lost", "", generation + records, successor + later, "bcd"},
		{"the index and the old one lost", "", "", successor + later, "d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, ".ocicache/version": "1\n", "blobs/sha256/": ""}
			for name, content := range map[string]string{"index.json": tt.index, ".ocicache/journal": tt.journal, ".ocicache/journal.old": tt.old} {
				if content != "" {
					files[name] = content
				}
			}
			files[".ocicache/new-index.json-dead"] = "half an index"
			fill(t, dir, files)
			want := strings.Split(tt.want, "")

			reader := openWith(t, dir, layout.Options{ReadOnly: true})
			reader.want(want...)
			h, other := open(t, dir), open(t, dir)
			h.want(want...)
			h.add("x")
			want = append(want, "x")
			reader.want(want...)
			other.want(want...)
			other.fold()
			other.add("y")
			want = append(want, "y")
			h.want(want...)
			reader.want(want...)
			h.fold()
			reader.want(want...)
			other.want(want...)
			open(t, dir).want(want...)
			for _, name := range names(t, filepath.Join(dir, ".ocicache")) {
				if name == "journal.old" {
					t.Error("the journal that was set aside is still there")
				}
			}
		})
	}
}

// A checkpoint that finds the leftovers of another, and nothing new.
func TestCheckpointAfterCrash(t *testing.T) {
	dir := withJournal(t, `{"version":1,"generation":"g2","previous":"g1","boot":"b"}`+"\n", header+lines("a"))
	fill(t, dir, map[string]string{".ocicache/new-index.json-dead": "x", ".ocicache/new-index.json-dead2": ""})
	h := open(t, dir)
	h.fold()
	if got := read(t, filepath.Join(dir, "index.json")); !strings.Contains(got, `"g1:1"`) {
		t.Errorf("index: got %q, want what was set aside folded", got)
	}
	open(t, dir).want("a")
}

func generationOf(t *testing.T, dir string) string {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, journalOf(dir)), `"generation":"`)
	generation, _, ok := strings.Cut(rest, `"`)
	if !ok {
		t.Fatal("the journal has no generation")
	}
	return generation
}
