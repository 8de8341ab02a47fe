package cli_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/internal/cli"
)

// pages returns the manual pages in a directory, by name.
func pages(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[f.Name()] = string(b)
	}
	return all
}

// Every command has a page, which is the same each time.
func TestMan(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	dir := filepath.Join(t.TempDir(), "share", "man1")
	written := decoded[struct{ Written []string }](t, "man", dir).Written
	got, want := pages(t, dir), 0
	everyCommand(cli.Root(), func(of *cobra.Command) {
		if of.Name() == "help" {
			return
		}
		want++
		page := got[strings.ReplaceAll(of.CommandPath(), " ", "-")+".1"]
		for _, s := range []string{".TH \"OCICACHE", "\"1\" \"\" \"ocicache\"", "\n.SH NAME\n", "\n.SH SYNOPSIS\n", "\n.SH EXAMPLE\n", of.Short} {
			if !strings.Contains(page, s) {
				t.Errorf("%s: no %q in %.300s", of.CommandPath(), s, page)
			}
		}
	})
	if len(got) != want || len(written) != want {
		t.Errorf("got %d pages, and %v, want %d", len(got), written, want)
	}
	if text := ok(t, "man", dir); !strings.HasPrefix(text, "wrote ") {
		t.Errorf("got %q", text)
	}
	for name, page := range pages(t, dir) {
		if strings.Contains(page, "Auto generated") {
			t.Errorf("%s says when it was made:\n%s", name, page)
		}
		if page != got[name] || strings.Contains(page, `="linux/`+runtime.GOARCH) {
			t.Errorf("%s is another one the second time, or on another machine:\n%s", name, page)
		}
	}
	if page := got["ocicache.1"]; !strings.Contains(page, "  3    verify found problems, whether it repaired them or not\n") {
		t.Errorf("the exit codes are no list in\n%s", page)
	}
}

func TestManDate(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "1748736000")
	ok(t, "man", "--quiet", dir)
	for name, page := range pages(t, dir) {
		if !strings.Contains(page, "\"1\" \"Jun 2025\"") {
			t.Errorf("%s: got %.100s, want June 2025", name, page)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "June")
	checkError(t, []string{"man", dir}, 2, "want seconds since 1970")
	t.Setenv("SOURCE_DATE_EPOCH", "")
	file := filepath.Join(dir, "ocicache.1")
	checkError(t, []string{"man", file}, 1, "name a directory that can be written")
}
