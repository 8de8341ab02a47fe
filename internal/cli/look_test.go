package cli_test

import (
	"archive/tar"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
)

func TestLs(t *testing.T) {
	f := newFixture(t)
	if got := decoded[[]blob](t, "ls", "--dir", f.dir); len(got) != 3 {
		t.Errorf("got %d blobs, want 3: %+v", len(got), got)
	}
	got := decoded[[]blob](t, "ls", "--dir", f.dir, "form==uncompressed")
	if len(got) != 1 || got[0].Digest != f.diffIDs[0] || got[0].Pair != "verified" || !got[0].Present || got[0].Size == 0 {
		t.Errorf("form==uncompressed: got %+v, want the tar of %s", got, f.diffIDs[0])
	}
	if got, want := ok(t, "ls", "--dir", f.dir, "-q", "form==uncompressed"), f.diffIDs[0]+"\n"; got != want {
		t.Errorf("-q: got %q, want %q", got, want)
	}
	if got := ok(t, "ls", "--dir", f.dir, "-o", "json", "size<0"); got != "[]\n" {
		t.Errorf("nothing: got %q, want []", got)
	}
	text := ok(t, "ls", "--dir", f.dir)
	for _, want := range []string{"DIGEST", f.digests[0][7:19], "compressed", "verified", "now", "present", "remakable"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// The field names of ls are those of filters, and stay.
func TestLsFields(t *testing.T) {
	f := newFixture(t)
	for _, blob := range decoded[[]map[string]json.RawMessage](t, "ls", "--dir", f.dir) {
		for field := range blob {
			ok(t, "ls", "--dir", f.dir, field)
		}
		for _, want := range []string{"digest", "diffid", "pair", "mediatype", "form", "size", "present", "created", "usecount", "pinned", "inuse", "remakable", "shared"} {
			if blob[want] == nil {
				t.Errorf("no %s in %v", want, blob)
			}
		}
	}
}

func TestDu(t *testing.T) {
	f := newFixture(t)
	var want int64
	for _, b := range decoded[[]blob](t, "ls", "--dir", f.dir) {
		want += b.Size
	}
	got := decoded[struct{ Present, Bytes, Remakable int64 }](t, "du", "--dir", f.dir)
	if got.Present != 3 || got.Bytes != want || got.Remakable == 0 {
		t.Errorf("got %+v, want 3 blobs of %d bytes", got, want)
	}
	if got := decoded[struct{ Present int64 }](t, "du", "--dir", f.dir, "form==compressed"); got.Present != 2 {
		t.Errorf("form==compressed: got %+v, want 2", got)
	}
	if text := ok(t, "du", "--dir", f.dir); !strings.Contains(text, "█") || !strings.Contains(text, "in 3 blobs (and 0 pairs remembered)") {
		t.Errorf("got\n%s", text)
	}
}

func TestInspect(t *testing.T) {
	f := newFixture(t)
	type layer struct {
		Hash, DiffID string
		Blobs        []blob
		Files        []struct {
			Name, Mode string
			Size       int64
		}
	}
	for _, tt := range []struct {
		arg   string
		hash  string
		blobs int
	}{
		{f.digests[0], f.digests[0], 2},
		{f.diffIDs[0], f.diffIDs[0], 2},
		{f.digests[1], f.digests[1], 1},
		{f.diffIDs[1], f.diffIDs[1], 1},
		{f.diffIDs[1][:len("sha256:")+8], f.diffIDs[1], 1},
		{f.diffIDs[1][len("sha256:"):][:8], f.diffIDs[1], 1},
	} {
		got := decoded[layer](t, "inspect", "--dir", f.dir, tt.arg)
		if got.Hash != tt.hash || len(got.Blobs) != tt.blobs || len(got.Files) != 0 {
			t.Errorf("%s: got %+v, want %d blobs of %s", tt.arg, got, tt.blobs, tt.hash)
		}
	}
	got := decoded[layer](t, "inspect", "--dir", f.dir, "--files", f.digests[1])
	if len(got.Files) != 1 || got.Files[0].Name != "etc/passwd" || got.Files[0].Mode != "-rw-r--r--" || got.Files[0].Size == 0 {
		t.Errorf("--files: got %+v", got.Files)
	}
	if n := len(decoded[[]blob](t, "ls", "--dir", f.dir)); n != 3 {
		t.Errorf("--files left %d blobs, want 3", n)
	}
	text := ok(t, "inspect", "--dir", f.dir, "--files", f.digests[0])
	for _, want := range []string{f.diffIDs[0], "keys     the-key", "etc/hosts"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestCat(t *testing.T) {
	f := newFixture(t)
	for i, file := range []string{"etc/hosts", "etc/passwd"} {
		for _, args := range [][]string{{f.diffIDs[i]}, {f.digests[i], "--uncompressed"}} {
			out := ok(t, append([]string{"cat", "--dir", f.dir}, args...)...)
			if h, err := tar.NewReader(strings.NewReader(out)).Next(); err != nil || h.Name != file {
				t.Errorf("cat %v: got %v, %v, want the tar of %s", args, h, err, file)
			}
		}
		rc, err := f.layers[i].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		if got := ok(t, "cat", "--dir", f.dir, f.digests[i]); got != string(want) {
			t.Errorf("cat %s: got %d bytes, want %d", f.digests[i], len(got), len(want))
		}
	}
	if n := len(decoded[[]blob](t, "ls", "--dir", f.dir)); n != 3 {
		t.Errorf("cat left %d blobs, want 3", n)
	}
}

func TestVersion(t *testing.T) {
	if got := ok(t, "version"); !strings.HasPrefix(got, "ocicache ") {
		t.Errorf("got %q", got)
	}
	if got := decoded[map[string]string](t, "version"); got["version"] == "" || got["go"] == "" || got["platform"] == "" {
		t.Errorf("got %v", got)
	}
}

// The directory is --dir, else $OCICACHE_DIR, else the user's.
func TestDir(t *testing.T) {
	f, none := newFixture(t), t.TempDir()+"/none"
	t.Setenv("OCICACHE_DIR", f.dir)
	ok(t, "ls")
	if _, stderr, code := run(t, "ls", "--dir", none); code != 1 || !strings.Contains(stderr, "there is no cache at "+none) {
		t.Errorf("got %d, %q", code, stderr)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("ls made a cache")
	}
	t.Setenv("OCICACHE_DIR", "")
	t.Setenv("XDG_CACHE_HOME", none)
	t.Setenv("HOME", none)
	t.Setenv("LocalAppData", none)
	if _, stderr, code := run(t, "ls"); code != 1 || !strings.Contains(stderr, none) {
		t.Errorf("got %d, %q, want the user's directory", code, stderr)
	}
}
