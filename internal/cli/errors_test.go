package cli_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/cli"
)

// What a registry should not answer is said, and what to do about it.
func TestPullAnswers(t *testing.T) {
	inside := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	honest := httptest.NewServer(inside)
	defer honest.Close()
	l := layerOf(t, "a", strings.Repeat("a", 1000))
	img := imageOf(t, l)
	push(t, strings.TrimPrefix(honest.URL, "http://")+"/demo", img)
	digest, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	size, err := l.Size()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	blob := "/v2/demo/blobs/" + digest.String()
	const manifests, docker = "/v2/demo/manifests/latest", string(types.DockerManifestSchema2)
	for _, tt := range []struct {
		name, path string
		status     int
		mediaType  string
		body       string
		want       string
	}{
		{"a failure", manifests, 501, "", "", "the registry failed: try again later"},
		{"a failure of a blob", blob, 501, "", "", "the registry failed: try again later"},
		{"HTML", manifests, 200, docker, "<html>", "what answered is no registry"},
		{"garbage", manifests, 200, docker, "{", "something else than an image's manifest"},
		{"a list", manifests, 200, docker, "[]", "there is JSON of another kind, array, than belongs there"},
		{"nothing", manifests, 200, docker, "", "something else than an image's manifest"},
		{"schema 1", manifests, 200, string(types.DockerManifestSchema1), "{}", "push it again with a newer tool"},
		{"a bad digest", manifests, 200, docker, strings.Replace(string(manifest), digest.Hex, "abc", 1), "something else than an image's manifest"},
		{"no blob", blob, 404, "", "", "the registry has the image and not this layer"},
		{"other bytes", blob, 200, "", strings.Repeat("x", int(size)), "something else than the image names"},
		{"few bytes", blob, 200, "", "x", "something else than the image names"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != tt.path {
				inside.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", tt.mediaType)
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		}))
		stdout, stderr, code := run(t, "pull", "--dir", newDir(t), strings.TrimPrefix(s.URL, "http://")+"/demo")
		if code != 1 || stdout != "" || !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: got %d, %q, %q, want %q", tt.name, code, stdout, stderr, tt.want)
		}
		if strings.Contains(stderr, "Go value") || strings.Count(stderr, digest.Hex) > 1 {
			t.Errorf("%s: got %q", tt.name, stderr)
		}
		s.Close()
	}
}

// What is in the way in a cache's directory is named, and removing it helps.
func TestBadFiles(t *testing.T) {
	for _, tt := range []struct {
		path  string
		isDir bool // it is a directory, else an empty file
		args  string
		want  string
	}{
		{"index.json", true, "ls", "index.json is no file: remove it, and run ocicache verify --rebuild --dir "},
		{"index.json", true, "verify --rebuild", "index.json is no file: remove it"},
		{".ocicache/journal", true, "ls", "journal is no file: remove it"},
		{".ocicache/version", true, "ls", "version is no file: remove it"},
		{".ocicache/version", false, "ls", "the file is empty: remove it"},
		{".ocicache/lock", true, "prune", "lock is no file: remove it"},
		{"blobs", false, "verify", "blobs is no directory: remove it"},
	} {
		f := newFixture(t)
		path := filepath.Join(f.dir, tt.path)
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		var err error
		if tt.isDir {
			err = os.Mkdir(path, 0o700)
		} else {
			err = os.WriteFile(path, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		args := append(strings.Fields(tt.args), "--dir", f.dir)
		checkError(t, args, 1, tt.want)
		checkError(t, args, 1, filepath.Base(tt.path))
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the first finds what was lost
			_, _, _ = run(t, "verify", "--rebuild", "--dir", f.dir)
		}
		ok(t, args...)
	}
}

func TestDanglingDir(t *testing.T) {
	host, link := startRegistry(t), filepath.Join(t.TempDir(), "link")
	push(t, host+"/demo", imageOf(t, layerOf(t, "a", "a")))
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	checkError(t, []string{"pull", "--dir", link, host + "/demo"}, 1, "it is a link to what is not there")
}

func TestHints(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{cache.ErrNotKept, "look for room on the disk, or run ocicache prune --max-bytes 10GB --dir 'a b'"},
		{cache.ErrMalformed, "run ocicache verify --rebuild --dir 'a b' to set it aside"},
		{cache.ErrLocked, "end it, or try again"},
		{cache.ErrReadOnly, "run as the user who owns the directory"},
		{os.ErrPermission, "run as the user who owns the directory"},
		{cache.ErrVersion, "a newer ocicache"},
		{syscall.ENOSPC, "make room on the disk, or name another directory with --dir"},
		{syscall.EROFS, "the file system cannot be written"},
		{cli.ExportError(syscall.ENOSPC), "make room on that disk, or name another directory for the image"},
		{cli.ExportError(syscall.EROFS), "name a directory for the image that can be written"},
	} {
		if got := cli.Hint("a b", fmt.Errorf("x: %w", tt.err)); !strings.Contains(got, tt.want) {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	if got := cli.Hint("", fmt.Errorf("x")); got != "x" {
		t.Errorf("got %q", got)
	}
}

// A pull that fails prints what became of the layers, for programs.
func TestPullPartly(t *testing.T) {
	inside := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	bad, good := layerOf(t, "bad", "bad"), layerOf(t, "good", "good")
	digest, err := bad.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, digest.String()) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		inside.ServeHTTP(w, r)
	}))
	defer s.Close()
	host, dir := strings.TrimPrefix(s.URL, "http://"), newDir(t)
	push(t, host+"/good", imageOf(t, good))
	push(t, host+"/demo", imageOf(t, good, bad))
	ok(t, "pull", "--dir", dir, host+"/good")
	stdout, stderr, code := run(t, "pull", "--dir", dir, "-o", "json", host+"/demo")
	if code != 1 || !strings.Contains(stdout, `"state": "cached"`) || !strings.Contains(stdout, `"state": "failed"`) || !strings.Contains(stderr, "push the image again") {
		t.Errorf("got %d, %s%s", code, stdout, stderr)
	}
}

// A layer that an image has several times is read, and used, once.
func TestPullTwice(t *testing.T) {
	host, dir := startRegistry(t), newDir(t)
	l := layerOf(t, "a", "a")
	push(t, host+"/demo", imageOf(t, l, l, l))
	for range 2 {
		ok(t, "pull", "--dir", dir, host+"/demo")
	}
	blobs := decoded[[]struct{ UseCount int }](t, "ls", "--dir", dir)
	if len(blobs) != 1 || blobs[0].UseCount != 1 {
		t.Errorf("got %+v, want one use", blobs)
	}
}

// Rot that nothing shows is not written, and put aside.
func TestCatRotten(t *testing.T) {
	f := newFixture(t)
	settle(t, f.dir)
	rot(t, f.dir, f.digests[1])
	var out, errs bytes.Buffer
	code := cli.Run(t.Context(), []string{"cat", "--dir", f.dir, f.digests[1]}, strings.NewReader(""), &out, &errs)
	stderr := errs.String()
	if code != 1 || out.Len() > 0 || !strings.HasPrefix(stderr, "ocicache: warning: the blob "+f.digests[1]+" does not have its digest\n") ||
		!strings.Contains(stderr, "were put into quarantine: pull an image that has it") || strings.Count(stderr, "\n") != 2 {
		t.Errorf("got %d, %q, %q", code, out.String(), stderr)
	}
}
