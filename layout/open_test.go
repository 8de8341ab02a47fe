package layout_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ocicache/ocicache/layout"
)

func TestOpenCreates(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string // a name that ends in a slash is a directory
	}{
		{"no directory", nil},
		{"empty directory", map[string]string{"./": ""}},
		{"died before the version", map[string]string{".ocicache/": ""}},
		{"died writing the version", map[string]string{".ocicache/new-.ocicache-version-abc": "1"}},
		{"died after the version", map[string]string{".ocicache/version": "1\n"}},
		{"died after the blobs", map[string]string{".ocicache/version": "1\n", "blobs/sha256/": ""}},
		{"died after the index", map[string]string{".ocicache/version": "1\n", "blobs/sha256/": "", "index.json": `{"schemaVersion":2}`}},
		{"another tool's layout", map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"schemaVersion":2}`, "blobs/": "", "README": "x"}},
		{"a layout without an index", map[string]string{"oci-layout": `{"imageLayoutVersion": "1.0.0", "more": 1}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			fill(t, dir, tt.files)
			h := open(t, dir)
			h.add("x")
			open(t, dir).want("x")
			for name, want := range tt.files {
				if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "/") {
					continue
				}
				if got := read(t, filepath.Join(dir, name)); got != want {
					t.Errorf("%s: got %q, want what it was, %q", name, got, want)
				}
			}
			if got := read(t, filepath.Join(dir, ".ocicache", "version")); got != "1\n" {
				t.Errorf("version: got %q", got)
			}
			os.Remove(filepath.Join(dir, ".ocicache", "new-.ocicache-version-abc"))
		})
	}
}

func TestOpenNewDirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	open(t, dir)
	fi, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Mode().Perm(); got&0o077 != 0 && os.PathSeparator == '/' {
		t.Errorf("mode: got %o, want 0700", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	const good = `{"imageLayoutVersion":"1.0.0"}`
	tests := []struct {
		name  string
		files map[string]string
		want  error  // nil: any error
		names string // what the error is to name
	}{
		{"other things", map[string]string{"notes.txt": "mine"}, layout.ErrNotLayout, "notes.txt"},
		{"other things, and a dot directory", map[string]string{"notes.txt": "mine", ".ocicache/": ""}, layout.ErrNotLayout, "notes.txt"},
		{"a blobs directory", map[string]string{"blobs/sha256/": ""}, layout.ErrNotLayout, "blobs"},
		{"unknown layout version", map[string]string{"oci-layout": `{"imageLayoutVersion":"2.0.0"}`}, layout.ErrVersion, "2.0.0"},
		{"no layout version", map[string]string{"oci-layout": `{}`}, layout.ErrVersion, "1.0.0"},
		{"oci-layout is no JSON", map[string]string{"oci-layout": `hello`}, layout.ErrNotLayout, "oci-layout"},
		{"oci-layout is empty", map[string]string{"oci-layout": ``}, layout.ErrNotLayout, "oci-layout"},
		{"oci-layout is a directory", map[string]string{"oci-layout/": ``}, fs.ErrInvalid, "oci-layout"},
		{"unknown version of ours", map[string]string{"oci-layout": good, ".ocicache/version": "2\n"}, layout.ErrVersion, "version"},
		{"unknown version, cut short", map[string]string{".ocicache/version": "11\n"}, layout.ErrVersion, "version"},
		{"version is a directory", map[string]string{"oci-layout": good, ".ocicache/version/": ""}, fs.ErrInvalid, "version"},
		{"dot directory is a file", map[string]string{".ocicache": "mine"}, nil, ".ocicache"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, tt.files)
			before := tree(t, dir)
			for _, o := range []layout.Options{{}, {ReadOnly: true}} {
				l, err := layout.Open(dir, o)
				if err == nil {
					l.Close()
					t.Fatalf("%+v: opened", o)
				}
				if tt.want != nil && !errors.Is(err, tt.want) && !o.ReadOnly {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if !strings.Contains(err.Error(), tt.names) && !o.ReadOnly {
					t.Errorf("got %v, want %q named", err, tt.names)
				}
			}
			wantSameTree(t, before, tree(t, dir))
		})
	}
}

func TestOpenFile(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"file": "mine"})
	before := tree(t, dir)
	for _, name := range []string{"file", "file/below"} {
		if _, err := layout.Open(filepath.Join(dir, name), layout.Options{}); err == nil {
			t.Errorf("%s: opened", name)
		} else if name == "file" && !errors.Is(err, layout.ErrNotLayout) {
			t.Errorf("%s: got %v, want ErrNotLayout", name, err)
		}
	}
	wantSameTree(t, before, tree(t, dir))
}

func TestOpenReadOnly(t *testing.T) {
	layoutOnly := map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"names":["a"]}`}
	journaled := map[string]string{".ocicache/version": "1\n",
		".ocicache/journal": `{"version":1,"generation":"g","boot":"b"}` + "\n" + `{"n":1,"add":"b"}` + "\n" + `{"n":2,"ad`}
	for name, content := range layoutOnly {
		journaled[name] = content
	}
	tests := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"of another tool", layoutOnly, []string{"a"}},
		{"with a torn journal", journaled, []string{"a", "b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, tt.files)
			before := tree(t, dir)
			h := openWith(t, dir, layout.Options{ReadOnly: true})
			h.want(tt.want...)
			if !h.ReadOnly() {
				t.Error("ReadOnly: got false")
			}
			for name, err := range map[string]error{
				"update":     h.Update(t.Context(), func(*layout.Tx) error { return nil }),
				"checkpoint": h.Checkpoint(t.Context(), h.r.encode),
				"ingest":     second(h.Ingest()),
			} {
				if !errors.Is(err, layout.ErrReadOnly) {
					t.Errorf("%s: got %v, want ErrReadOnly", name, err)
				}
			}
			wantSameTree(t, before, tree(t, dir))
		})
	}

	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := layout.Open(missing, layout.Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: got %v, want fs.ErrNotExist", err)
	}
	empty := t.TempDir()
	if _, err := layout.Open(empty, layout.Options{ReadOnly: true}); !errors.Is(err, layout.ErrNotLayout) {
		t.Errorf("empty directory: got %v, want ErrNotLayout", err)
	}
	if got := names(t, empty); len(got) > 0 {
		t.Errorf("created %q", got)
	}
}

// Many handles make one directory at once: all of them must succeed, and see
// what each wrote.
func TestOpenCreatesOnce(t *testing.T) {
	for range 50 {
		dir := filepath.Join(t.TempDir(), "new")
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				l, err := layout.Open(dir, layout.Options{})
				if err != nil {
					t.Errorf("handle %d: %v", i, err)
					return
				}
				defer l.Close()
				if err := l.Load(&replica{}); err != nil {
					t.Errorf("handle %d: %v", i, err)
					return
				}
				err = l.Update(t.Context(), func(tx *layout.Tx) error {
					return tx.Append(records(string(rune('a' + i)))...)
				})
				if err != nil {
					t.Errorf("handle %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		open(t, dir).want("a", "b", "c", "d")
	}
}

// fill makes files in dir. A nil map makes nothing.
func fill(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		write(t, path, content)
	}
}

func second[T any](_ T, err error) error { return err }
