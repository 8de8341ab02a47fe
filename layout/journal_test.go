package layout_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocicache/ocicache/layout"
)

const header = `{"version":1,"generation":"g1","boot":"b"}` + "\n"

// withJournal makes a layout with that journal, and, if it is not "", that
// journal that was set aside.
func withJournal(t testing.TB, journal, old string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"oci-layout":         `{"imageLayoutVersion":"1.0.0"}`,
		"blobs/sha256/":      "",
		"index.json":         `{"names":[]}`,
		".ocicache/version":  "1\n",
		".ocicache/journal":  journal,
		".ocicache/ingest/":  "",
		".ocicache/trash/":   "",
		".ocicache/lock":     "",
		".ocicache/whatever": "of a later version",
	}
	if old != "" {
		files[".ocicache/journal.old"] = old
	}
	fill(t, dir, files)
	return dir
}

func journalOf(dir string) string { return filepath.Join(dir, ".ocicache", "journal") }

func lines(names ...string) string {
	var b strings.Builder
	for i, name := range names {
		fmt.Fprintf(&b, "{\"n\":%d,\"add\":%q}\n", i+1, name)
	}
	return b.String()
}

func TestJournalTwoHandles(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	var want []string
	for i := range 20 {
		from, to := a, b
		if i%3 == 0 {
			from, to = b, a
		}
		name := fmt.Sprint("r", i)
		want = append(want, name)
		from.add(name)
		if i%4 == 0 {
			to.want(want...)
		}
	}
	a.want(want...)
	b.want(want...)
	open(t, dir).want(want...)
	journal := strings.Split(strings.TrimSpace(read(t, journalOf(dir))), "\n")[1:]
	for i, line := range journal {
		if prefix := fmt.Sprintf(`{"n":%d,`, i+1); !strings.HasPrefix(line, prefix) {
			t.Errorf("record %d: got %s, want it to begin with %s", i+1, line, prefix)
		}
	}
	if got, want := a.JournalSize(), int64(len(read(t, journalOf(dir)))); got != want {
		t.Errorf("JournalSize: got %d, want %d", got, want)
	}
	if a.r.resets > 2 || b.r.resets > 2 {
		t.Errorf("everything was read anew %d and %d times", a.r.resets, b.r.resets)
	}
}

// A crash may cut the journal short at any byte of the last record. What
// came before is there; the torn record is there as a whole, or gone.
func TestJournalTorn(t *testing.T) {
	before := header + lines("a", "b")
	whole := header + lines("a", "b", "last")
	for cut := len(before); cut <= len(whole); cut++ {
		dir := withJournal(t, whole[:cut], "")
		want := []string{"a", "b"}
		if cut == len(whole) {
			want = append(want, "last")
		}
		readOnly := openWith(t, dir, layout.Options{ReadOnly: true})
		readOnly.want(want...)
		h := open(t, dir)
		h.want(want...)
		want = append(want, "next")
		h.add("next")
		h.want(want...)
		readOnly.want(want...)
		open(t, dir).want(want...)
		h.fold()
		open(t, dir).want(want...)
		if t.Failed() {
			t.Fatalf("cut at byte %d: %q", cut, whole[:cut])
		}
	}
}

// A journal that was cut short in its header is as good as none, whether
// there is one before it or not.
func TestJournalTornHeader(t *testing.T) {
	for _, old := range []string{"", strings.Replace(header, "g1", "g0", 1) + lines("a", "b")} {
		for cut := range len(header) {
			dir := withJournal(t, header[:cut], old)
			var want []string
			if old != "" {
				want = []string{"a", "b"}
			}
			h, other := open(t, dir), open(t, dir)
			h.want(want...)
			other.want(want...)
			want = append(want, "next")
			h.add("next")
			h.want(want...)
			other.want(want...)
			open(t, dir).want(want...)
			other.fold()
			h.want(want...)
			open(t, dir).want(want...)
			if t.Failed() {
				t.Fatalf("cut at byte %d, old journal %q", cut, old)
			}
		}
	}
}

// What is no record is passed over.
func TestJournalGarbage(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	record := func(n int, name string) string { return fmt.Sprintf("{\"n\":%d,\"add\":%q}\n", n, name) }
	tests := []struct{ name, garbage string }{
		{"an empty line", "\n"},
		{"empty lines", "\n\n\n"},
		{"no JSON", "hello\n"},
		{"no number", `{"add":"bad"}` + "\n"},
		{"a number that is none", `{"n":-1,"add":"bad"}` + "\n" + `{"n":1e3,"add":"bad"}` + "\n" + `{"n":,"add":"bad"}` + "\n"},
		{"a number too large", `{"n":18446744073709551616,"add":"bad"}` + "\n"},
		{"half a record", `{"n":2,"add":` + "\n"},
		{"NUL bytes", strings.Repeat("\x00", 5000) + "\n"},
		{"NUL bytes before a record", strings.Repeat("\x00", 5000) + `{"n":2,"add":"bad"}` + "\n"},
		{"another header", header},
		{"a line of just under a MiB", long[:1<<20-1] + "\n"},
		{"a line of a MiB", long[:1<<20] + "\n"},
		{"a line of a MiB and one", long[:1<<20+1] + "\n"},
		{"a line of two MiB", long[:2<<20] + "\n"},
		{"a line of two MiB less one", long[:2<<20-1] + "\n"},
		{"a line of three MiB", long + "\n"},
		{"an overlong record", `{"n":2,"add":"bad","more":"` + long[:3<<19] + `"}` + "\n"},
		{"overlong lines", long + "\n" + long + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := withJournal(t, header+record(1, "a")+tt.garbage+record(3, "b"), "")
			h := open(t, dir)
			h.want("a", "b")
			h.add("c")
			h.want("a", "b", "c")
			open(t, dir).want("a", "b", "c")
		})
		t.Run(tt.name+" at the end", func(t *testing.T) {
			for _, torn := range []bool{false, true} {
				garbage := tt.garbage
				if torn {
					garbage = strings.TrimSuffix(garbage, "\n")
				}
				dir := withJournal(t, header+record(1, "a")+garbage, "")
				h, other := open(t, dir), open(t, dir)
				h.want("a")
				h.add("b")
				other.want("a", "b")
				other.add("c")
				h.want("a", "b", "c")
				open(t, dir).want("a", "b", "c")
			}
		})
	}
}

// A torn line grows while others look on.
func TestJournalGrowingGarbage(t *testing.T) {
	dir := withJournal(t, header+lines("a"), "")
	h, other := open(t, dir), open(t, dir)
	f, err := os.OpenFile(journalOf(dir), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 7 {
		if _, err := f.Write(bytes.Repeat([]byte("x"), 700<<10)); err != nil {
			t.Fatal(err)
		}
		h.want("a")
	}
	other.add("b")
	h.want("a", "b")
	h.add("c")
	other.want("a", "b", "c")
	open(t, dir).want("a", "b", "c")
}

// A record that readers would pass over is refused.
func TestAppendOverlong(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	h.add("a")
	err := h.Update(t.Context(), func(tx *layout.Tx) error {
		return tx.Append(records("b", strings.Repeat("x", 1<<20))...)
	})
	if err == nil {
		t.Error("appended a record of over a MiB")
	}
	h.want("a")
	h.add("c")
	open(t, dir).want("a", "c")
}
