package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/cli"
)

// Names that are not UTF-8 are quoted: a terminal, and the table's writer, take
// some bytes for something else.
func TestOddNames(t *testing.T) {
	for name, want := range map[string]string{
		"etc/é": "etc/é", "a\xffb\tc\xff": `"a\xffb\tc\xff"`, "\x9b2J": `"\x9b2J"`, "a\x1b[2J": `"a\x1b[2J"`,
	} {
		if got := cli.Printable(name); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What was unpinned before a name that is none, is reported.
func TestUnpinPartly(t *testing.T) {
	f := newFixture(t)
	for _, asJSON := range []bool{false, true} {
		ok(t, "pin", "--dir", f.dir, "a", f.digests[0])
		args, want := []string{"unpin", "--dir", f.dir, "a", "nosuch"}, "unpinned a\n"
		if asJSON {
			args = append(args, "-o", "json")
		}
		stdout, stderr, code := run(t, args...)
		if asJSON {
			var got struct{ Unpinned []string }
			if err := json.Unmarshal([]byte(stdout), &got); err != nil || !slices.Equal(got.Unpinned, []string{"a"}) {
				t.Errorf("got %q, %v", stdout, err)
			}
		} else if stdout != want {
			t.Errorf("got %q, want %q", stdout, want)
		}
		if code != 1 || !strings.Contains(stderr, `no such pin: "nosuch": ocicache pins --dir `) {
			t.Errorf("got %d, %q", code, stderr)
		}
	}
}

// To look at an empty directory makes no cache in it.
func TestEmptyDir(t *testing.T) {
	dir := t.TempDir()
	for _, args := range []string{"ls", "du", "stats", "verify", "pins", "prune"} {
		checkError(t, append(strings.Fields(args), "--dir", dir), 1, "there is no cache at "+dir)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("got %v, %v, want nothing", entries, err)
	}
}

// The list of files is there if it was asked for, however short.
func TestInspectNoFiles(t *testing.T) {
	f := newFixture(t)
	for _, files := range []bool{false, true} {
		args := []string{"inspect", "-o", "json", "--dir", f.dir, f.digests[0]}
		if files {
			args = append(args, "--files")
		}
		var got map[string]json.RawMessage
		if err := json.Unmarshal([]byte(ok(t, args...)), &got); err != nil || (got["files"] != nil) != files {
			t.Errorf("--files=%v: got %s, %v", files, got["files"], err)
		}
	}
	if got, err := json.Marshal(cli.NoFiles); err != nil || !strings.Contains(string(got), `"files":[]`) {
		t.Errorf("got %s, %v", got, err)
	}
}

// The command that verify names depends on what it found, and was asked for.
func TestVerifyNext(t *testing.T) {
	f := newFixture(t)
	rot(t, f.dir, f.digests[1])
	blob := filepath.Join(f.dir, "blobs", strings.ReplaceAll(f.digests[1], ":", "/"))
	if err := os.Chtimes(blob, time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(f.dir, "blobs", "sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	for _, tt := range []struct {
		orphan bool
		flag   string
		want   string // "" for none
	}{
		{true, "", "--rebuild"},
		{false, "", "--repair"},
		{true, "--repair", "--rebuild"},
		{true, "--rebuild", ""},
	} {
		_ = os.Remove(orphan)
		if tt.orphan {
			if err := os.WriteFile(orphan, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		stdout, _, code := run(t, slices.DeleteFunc([]string{"verify", "--dir", f.dir, tt.flag}, func(s string) bool { return s == "" })...)
		next := "to put it right, run ocicache verify " + tt.want + " --dir " + f.dir + "\n"
		if code != 3 || strings.HasSuffix(stdout, next) != (tt.want != "") || strings.Contains(stdout, "to put it right") != (tt.want != "") {
			t.Errorf("%s: got %d, %s, want %q", tt.flag, code, stdout, next)
		}
	}
}

// What ls says of age and state fits 80 columns.
func TestLsWidth(t *testing.T) {
	now := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	h := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	text := cli.LsTable(now, cache.Usage{
		Digest: h, DiffID: h, Form: cache.FormUncompressed, Size: 888_800_000, Present: true, Remakable: true, Shared: true,
		LastUsed: now.Add(-59 * time.Minute), Pair: "verified", Created: now,
	}, cache.Usage{
		Digest: h, DiffID: h, Form: cache.FormCompressed, Present: true, Pinned: true, Remakable: true, LastUsed: now.AddDate(0, -11, 0),
	}, cache.Usage{Digest: h, DiffID: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("b", 64)}})
	for line, want := range map[int]string{0: "STATE", 1: "same", 2: "pinned,remakable", 3: "remembered"} {
		got := cli.Fit(strings.Split(text, "\n")[line], 80)
		if !strings.Contains(got, want) || utf8.RuneCountInString(got) > 80 {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := cli.Fit(text, 80); !strings.Contains(got, "59 min     remakable,shared") {
		t.Errorf("got\n%s", got)
	}
}

// A layout that becomes its own cache is not copied.
func TestAdoptItself(t *testing.T) {
	f, target := newFixture(t), filepath.Join(t.TempDir(), "layout")
	c, err := cache.Open(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := cli.Export(t.Context(), c, target, "demo", imageOf(t, f.layers...)); err != nil {
		t.Fatal(err)
	}
	if got := ok(t, "adopt", "--dir", target, target); strings.Contains(got, "copied") || !strings.HasSuffix(got, ": 1 image, 2 blobs, in the cache's own directory\n") {
		t.Errorf("got\n%s", got)
	}
	if got := decoded[adopted](t, "adopt", "--dir", target, target); got.Copied != 0 {
		t.Errorf("got %+v, want nothing copied", got)
	}
}
