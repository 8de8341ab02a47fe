package cli_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/cli"
)

func TestRm(t *testing.T) {
	f := newFixture(t)
	got := decoded[map[string][]string](t, "rm", "--dir", f.dir, f.diffIDs[0], f.digests[1], f.digests[1])
	if want := []string{f.diffIDs[0], f.digests[1]}; !slices.Equal(got["removed"], want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := ok(t, "ls", "--dir", f.dir, "-q"); got != f.digests[0]+"\n" {
		t.Errorf("left %q, want %s", got, f.digests[0])
	}
	if got := ok(t, "rm", "--dir", f.dir, f.digests[0]); got != "removed "+f.digests[0]+"\n" {
		t.Errorf("got %q", got)
	}
}

func TestPrune(t *testing.T) {
	f := newFixture(t)
	type report struct {
		DryRun   bool
		Bytes    int64
		Removals []struct{ Digest, Reason string }
	}
	got := decoded[report](t, "prune", "--dir", f.dir, "--filter", "form==uncompressed", "--dry-run")
	if !got.DryRun || len(got.Removals) != 1 || got.Removals[0].Digest != f.diffIDs[0] || got.Removals[0].Reason == "" {
		t.Errorf("--dry-run: got %+v, want the tar", got)
	}
	if got := decoded[report](t, "prune", "--dir", f.dir, "--all", "--keep-duration", "1d"); len(got.Removals) != 0 {
		t.Errorf("--keep-duration: got %+v, want nothing", got)
	}
	if got := decoded[report](t, "prune", "--dir", f.dir, "--all", "--max-bytes", "1GiB", "--reserved-bytes", "1KB", "--min-free-bytes", "1B"); len(got.Removals) != 0 {
		t.Errorf("--max-bytes: got %+v, want nothing", got)
	}
	if text := ok(t, "prune", "--dir", f.dir, "--all", "--dry-run"); !strings.Contains(text, "REASON") || !strings.Contains(text, "would free") {
		t.Errorf("got\n%s", text)
	}
	if text := ok(t, "prune", "--dir", f.dir, "--all", "--quiet"); text != "" {
		t.Errorf("--quiet: got %q", text)
	}
	if got := ok(t, "ls", "--dir", f.dir, "-q"); got != "" {
		t.Errorf("--all left %q", got)
	}
	if got, want := ok(t, "prune", "--dir", f.dir), "freed 0 B, 0 B kept\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestVerify(t *testing.T) {
	f := newFixture(t)
	if got := ok(t, "verify", "--dir", f.dir); !strings.Contains(got, "checked 3 blobs") || !strings.Contains(got, "all is well") {
		t.Errorf("got %q", got)
	}
	blob := filepath.Join(f.dir, "blobs", strings.ReplaceAll(f.digests[1], ":", "/"))
	if err := os.Chmod(blob, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, []byte("rotten"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		flag, want string
		code       int
	}{
		{"--quiet=false", "not repaired", 3},
		{"--repair", "quarantined", 3},
		{"--repair", "all is well", 0},
	} {
		stdout, stderr, code := run(t, "verify", "--dir", f.dir, tt.flag)
		if code != tt.code || stderr != "" || !strings.Contains(stdout, tt.want) {
			t.Errorf("%s: got %d, %q%s, want %d, %q", tt.flag, code, stdout, stderr, tt.code, tt.want)
		}
	}
	got := decoded[struct {
		Blobs    int
		Findings []any
	}](t, "verify", "--dir", f.dir, "--workers", "1", "--bytes-per-second", "1GB")
	if got.Blobs != 2 || got.Findings == nil {
		t.Errorf("got %+v, want 2 blobs, and findings that are not null", got)
	}
}

// A broken index.json is an error that says what to do, and that works.
func TestRebuild(t *testing.T) {
	f := newFixture(t)
	if err := os.WriteFile(filepath.Join(f.dir, "index.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := run(t, "ls", "--dir", f.dir)
	if code != 1 || !strings.Contains(stderr, "run ocicache verify --rebuild") {
		t.Errorf("got %d, %q", code, stderr)
	}
	if stdout, stderr, code := run(t, "verify", "--dir", f.dir, "--rebuild"); code != 3 || !strings.Contains(stdout, "listed") {
		t.Errorf("got %d, %q%s", code, stdout, stderr)
	}
	if got := ok(t, "ls", "--dir", f.dir, "-q", "present"); strings.Count(got, "\n") < 2 {
		t.Errorf("got %q, want the blobs again", got)
	}
}

func TestPins(t *testing.T) {
	f := newFixture(t)
	type pin struct {
		Name   string
		Hashes []string
	}
	if got := decoded[[]pin](t, "pins", "--dir", f.dir); len(got) != 0 || got == nil {
		t.Errorf("got %v, want []", got)
	}
	got := decoded[pin](t, "pin", "--dir", f.dir, "release", f.digests[0])
	if got.Name != "release" || !slices.Equal(got.Hashes, f.digests[:1]) {
		t.Errorf("got %v", got)
	}
	if got := ok(t, "pin", "--dir", f.dir, "other", f.digests[0], f.diffIDs[0]); got != "pinned 2 hashes as other\n" {
		t.Errorf("got %q", got)
	}
	if got := decoded[[]pin](t, "pins", "--dir", f.dir); len(got) != 2 || got[0].Name != "other" || len(got[0].Hashes) != 2 {
		t.Errorf("got %v", got)
	}
	ok(t, "unpin", "--dir", f.dir, "other")
	ok(t, "prune", "--dir", f.dir, "--all")
	if got := ok(t, "ls", "--dir", f.dir, "-q", "present"); got != f.digests[0]+"\n" {
		t.Errorf("left %q, want what is pinned", got)
	}
	if got := ok(t, "pins", "--dir", f.dir); !strings.Contains(got, f.digests[0][7:19]+"  release\n") {
		t.Errorf("got %q", got)
	}
}

func TestKeys(t *testing.T) {
	f := newFixture(t)
	type key struct{ Key, Digest, Created string }
	got := decoded[[]key](t, "keys", "ls", "--dir", f.dir)
	if len(got) != 1 || got[0].Key != "the-key" || got[0].Digest != f.digests[0] || got[0].Created == "" {
		t.Errorf("got %+v", got)
	}
	if got := ok(t, "keys", "ls", "--dir", f.dir); !strings.Contains(got, "the-key") || !strings.Contains(got, "local") {
		t.Errorf("got %q", got)
	}
	if got := ok(t, "keys", "rm", "--dir", f.dir, "the-key"); got != "forgot the-key\n" {
		t.Errorf("got %q", got)
	}
	if got := ok(t, "keys", "ls", "--dir", f.dir, "-o", "json"); got != "[]\n" {
		t.Errorf("got %q, want []", got)
	}
}

func TestKeysOlderThan(t *testing.T) {
	f := newFixture(t)
	type report struct{ Forgotten []string }
	if got := decoded[report](t, "keys", "rm", "--dir", f.dir, "--older-than", "1d"); got.Forgotten == nil || len(got.Forgotten) != 0 {
		t.Errorf("1d: got %v, want []", got)
	}
	if got, want := ok(t, "keys", "rm", "--dir", f.dir, "--older-than", "1d"), "no key is that old\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := decoded[report](t, "keys", "rm", "--dir", f.dir, "the-key", "--older-than", "0"); !slices.Equal(got.Forgotten, []string{"the-key"}) {
		t.Errorf("0: got %v, want the key once", got)
	}
	if got := ok(t, "keys", "ls", "--dir", f.dir, "-o", "json"); got != "[]\n" {
		t.Errorf("got %q, want []", got)
	}
	now := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	keys := []cache.Key{{Key: "old", Created: now.Add(-time.Second)}, {Key: "new", Created: now}, {Key: "unknown"}}
	if got := cli.KeysBefore(keys, now); !slices.Equal(got, []string{"old"}) {
		t.Errorf("got %v, want what is older", got)
	}
}

// What was pruned is remembered, and says so when its bytes are asked for.
func TestRemembered(t *testing.T) {
	f := newFixture(t)
	c, err := cache.Open(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Prune(t.Context(), cache.PrunePolicy{Filters: []string{"digest==" + f.digests[1]}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"cat"}, {"inspect", "--files"}} {
		_, stderr, code := run(t, append(args, "--dir", f.dir, f.digests[1])...)
		if code != 1 || !strings.Contains(stderr, "pull an image that has it") {
			t.Errorf("%v: got %d, %q", args, code, stderr)
		}
	}
	if _, stderr, code := run(t, "pin", "--dir", f.dir, "x", f.digests[1]); code != 1 || !strings.Contains(stderr, "only bytes that are there") {
		t.Errorf("pin: got %d, %q", code, stderr)
	}
}
