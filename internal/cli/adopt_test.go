package cli_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// adopted is what the tests look at of adopt.
type adopted struct {
	Layout         string
	Images, Absent int
	Copied         int64
	Blobs          []struct {
		Digest, State, Error string
		Size                 int64
	}
}

func TestAdopt(t *testing.T) {
	from, dir := t.TempDir(), newDir(t)
	p, err := layout.Write(from, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"1", "2"} {
		if err := p.AppendImage(imageOf(t, layerOf(t, "base", "base"), layerOf(t, "own", text))); err != nil {
			t.Fatal(err)
		}
	}
	got := decoded[adopted](t, "adopt", "--dir", dir, from)
	if got.Images != 2 || len(got.Blobs) != 3 || got.Copied == 0 || got.Layout != from {
		t.Errorf("got %+v", got)
	}
	for _, b := range got.Blobs {
		if b.State != "adopted" || b.Size == 0 {
			t.Errorf("got %+v", b)
		}
	}
	if text := ok(t, "adopt", "--dir", dir, from); strings.Count(text, " cached\n") != 3 || !strings.HasSuffix(text, ": 2 images, 3 blobs, 0 B copied\n") {
		t.Errorf("again: got\n%s", text)
	}
	if got := ok(t, "adopt", "-q", "--dir", dir, from); got != "" {
		t.Errorf("--quiet: got %q", got)
	}

	blobs := filepath.Join(from, "blobs", "sha256")
	for i, b := range got.Blobs {
		path := filepath.Join(blobs, strings.TrimPrefix(b.Digest, "sha256:"))
		switch i {
		case 0:
			err = os.WriteFile(path, []byte("rot"), 0o644)
		case 1:
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	stdout, stderr, code := run(t, "adopt", "--dir", newDir(t), from)
	if code != 1 || !strings.Contains(stdout, " failed\n") || !strings.Contains(stdout, "; 1 blob not in the layout\n") ||
		!strings.HasPrefix(stderr, "ocicache: 1 blob could not be taken") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("got %d\n%s%s", code, stdout, stderr)
	}
}

// What cannot be read of a layout is said, and fails.
func TestAdoptBroken(t *testing.T) {
	const manifest = `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:abc","size":1}`
	for _, tt := range []struct{ index, want string }{
		{`{"schemaVersion":2,"manifests":[` + manifest + `]}`, "1 blob could not be taken"},
		{``, "index.json is empty: have the tool that wrote it write it again"},
	} {
		from := t.TempDir()
		if _, err := layout.Write(from, empty.Index); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, "index.json"), []byte(tt.index), 0o644); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := run(t, "adopt", "-o", "json", "--dir", newDir(t), from)
		if code != 1 || !strings.Contains(stderr, tt.want) || (stdout != "") != strings.Contains(stdout, `"state": "failed"`) {
			t.Errorf("got %d, %q%q, want %q", code, stdout, stderr, tt.want)
		}
	}
}

// What is no layout is said to be none, and makes no cache.
func TestAdoptNothing(t *testing.T) {
	broken := t.TempDir()
	if _, err := layout.Write(broken, empty.Index); err != nil {
		t.Fatal(err)
	}
	odd := t.TempDir()
	if err := errors.Join(os.CopyFS(odd, os.DirFS(broken)), os.Remove(filepath.Join(odd, "index.json")), os.Mkdir(filepath.Join(odd, "index.json"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "index.json"), []byte("[]"), 0o644); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		filepath.Join(broken, "none"): "is no OCI image layout: name a directory",
		t.TempDir():                   "is no OCI image layout: name a directory",
		odd:                           "have the tool that wrote it write it again",
		broken:                        "have the tool that wrote it write it again",
	} {
		dir := newDir(t)
		stdout, stderr, code := run(t, "adopt", "--dir", dir, from)
		if code != 1 || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: got %d, %q, %q", from, code, stdout, stderr)
		}
		if _, err := os.Stat(dir); err == nil && from != broken && from != odd {
			t.Errorf("%s: a cache was made", from)
		}
	}
}
