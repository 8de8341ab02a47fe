package layout_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkDir asserts what holds of a directory that nobody writes to.
func checkDir(t testing.TB, dir string) {
	t.Helper()
	for _, name := range []string{"ingest", "trash"} {
		if left := names(t, filepath.Join(dir, ".ocicache", name)); len(left) > 0 {
			t.Errorf("left in %s: %q", name, left)
		}
	}
	for _, name := range names(t, filepath.Join(dir, ".ocicache")) {
		if strings.HasPrefix(name, "new-") {
			t.Errorf("left in .ocicache: %s", name)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "oci-layout"))
	if err != nil || !bytes.Contains(b, []byte(`"1.0.0"`)) {
		t.Errorf("oci-layout: %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "index.json")); err == nil && !json.Valid(b) {
		t.Errorf("index.json is not valid JSON: %q", b)
	}
}

// names lists a directory; one that is not there is empty.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// tree returns all files below dir, each with its content, its mode and its
// modification time.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		content := fmt.Sprint(fi.Mode(), fi.ModTime().UnixNano())
		if fi.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content += " " + string(b)
		}
		files[path] = content
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func wantSameTree(t testing.TB, before, after map[string]string) {
	t.Helper()
	if !maps.Equal(before, after) {
		t.Errorf("the directory changed:\nbefore %q\nafter  %q", before, after)
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
