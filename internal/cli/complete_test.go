package cli_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gofrs/flock"
)

// completed returns what a shell is told: the words, without what they are
// about, and the directive.
func completed(t *testing.T, args ...string) (words []string, directive string) {
	t.Helper()
	stdout, stderr, code := run(t, append([]string{"__complete"}, args...)...)
	if code != 0 {
		t.Fatalf("%v: got %d, %q", args, code, stderr)
	}
	for line := range strings.Lines(stdout) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		words = append(words, word)
	}
	last := len(words) - 1
	return words[:last], words[last]
}

// The directives, as cobra writes them.
const (
	failed         = ":1"
	noFiles        = ":4"
	noFilesNoSpace = ":6"
	filesOfExt     = ":8"
	onlyDirs       = ":16"
)

func TestCompletion(t *testing.T) {
	f := newFixture(t)
	ok(t, "pin", "--dir", f.dir, "release", f.digests[0])
	ok(t, "pin", "--dir", f.dir, "other", f.digests[1])
	t.Setenv("OCICACHE_DIR", f.dir)
	hashes := []string{f.digests[0], f.digests[1], f.diffIDs[0]}
	slices.Sort(hashes)
	hex := strings.TrimPrefix(f.digests[0], "sha256:")
	fields := strings.Fields("digest diffid pair mediatype form size present created lastused touched usecount pinned pins inuse keys origin remakable shared")
	for _, tt := range []struct {
		args      string // the last word is what was begun; - for nothing
		want      []string
		directive string
	}{
		{"inspect -", hashes, noFiles},
		{"inspect " + f.digests[0][:12], f.digests[:1], noFiles},
		{"inspect " + hex[:5], []string{hex}, noFiles},
		{"cat " + hex[:5], []string{hex}, noFiles},
		{"cat " + hashes[0] + " -", nil, noFiles},
		{"rm " + hashes[0] + " -", hashes[1:], noFiles},
		{"pin -", []string{"other", "release"}, noFiles},
		{"pin new -", hashes, noFiles},
		{"unpin -", []string{"other", "release"}, noFiles},
		{"unpin o", []string{"other"}, noFiles},
		{"unpin other -", []string{"release"}, noFiles},
		{"keys -", []string{"ls", "rm"}, noFiles},
		{"keys rm -", []string{"the-key"}, noFiles},
		{"keys rm the-key -", nil, noFiles},
		{"keys ls -", nil, noFiles},
		{"ls -", fields, noFilesNoSpace},
		{"du si", []string{"size"}, noFilesNoSpace},
		{"ls size>1,pin", []string{"size>1,pinned", "size>1,pins"}, noFilesNoSpace},
		{"ls size>", nil, noFilesNoSpace},
		{"prune --filter las", []string{"lastused"}, noFilesNoSpace},
		{"prune --policy -", []string{"json"}, filesOfExt},
		{"prune --max-bytes -", nil, noFiles},
		{"prune -", nil, noFiles},
		{"ls -o -", []string{"text", "json"}, noFiles},
		{"ls --dir -", nil, onlyDirs},
		{"man -", nil, onlyDirs},
		{"man x -", nil, noFiles},
		{"pull -", nil, noFiles},
		{"pull debian:12 -", nil, onlyDirs},
		{"pull --format -", []string{"oci"}, noFiles},
		{"help pru", []string{"prune"}, noFiles},
		{"help keys -", []string{"ls", "rm"}, noFiles},
		{"help lss -", nil, noFiles},
		{"version -", nil, noFiles},
	} {
		args := strings.Fields(tt.args)
		if last := len(args) - 1; args[last] == "-" {
			args[last] = ""
		}
		if got, directive := completed(t, args...); !slices.Equal(got, tt.want) || directive != tt.directive {
			t.Errorf("%s: got %v, %s, want %v, %s", tt.args, got, directive, tt.want, tt.directive)
		}
	}
}

// Hashes say what they are of.
func TestCompletionAbout(t *testing.T) {
	f := newFixture(t)
	stdout, _, _ := run(t, "__complete", "inspect", "--dir", f.dir, f.digests[0][:12])
	if !strings.HasPrefix(stdout, f.digests[0]+"\tcompressed, ") {
		t.Errorf("got %q", stdout)
	}
}

// The fields that are completed are those of filters: an unknown one is refused
// with a list of all.
func TestCompletionFields(t *testing.T) {
	f := newFixture(t)
	_, stderr, _ := run(t, "ls", "--dir", f.dir, "frob")
	_, all, _ := strings.Cut(stderr, "one of ")
	all, _, _ = strings.Cut(all, " was expected")
	want := strings.Split(all, ", ")
	got, _ := completed(t, "ls", "--dir", f.dir, "")
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Names that a shell or terminal might obey are not offered.
func TestCompletionHostile(t *testing.T) {
	f := newFixture(t)
	ok(t, "pin", "--dir", f.dir, "a\nb", f.digests[0])
	ok(t, "pin", "--dir", f.dir, "a\x1b[2Jb", f.digests[0])
	ok(t, "pin", "--dir", f.dir, "a b", f.digests[0])
	if got, _ := completed(t, "unpin", "--dir", f.dir, ""); !slices.Equal(got, []string{"a b"}) {
		t.Errorf("got %q", got)
	}
}

// Completing waits for nobody, and says nothing if there is no cache.
func TestCompletionReadOnly(t *testing.T) {
	f := newFixture(t)
	lock := flock.New(filepath.Join(f.dir, ".ocicache", "lock"))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"inspect", "unpin", "keys rm"} {
		args := append(strings.Fields(args), "--dir", f.dir, "")
		if _, directive := completed(t, args...); directive != noFiles {
			t.Errorf("%v: got %s, want no error", args, directive)
		}
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	none := t.TempDir() + "/none"
	if got, directive := completed(t, "unpin", "--dir", none, ""); len(got) != 0 || directive != failed {
		t.Errorf("got %v, %s, want an error", got, directive)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("completing made a cache")
	}
}
