package cli_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ocicache/ocicache/internal/cli"
)

// pulled is what the tests look at of pull.
type pulled struct {
	Image, Digest string
	Layers        []struct {
		Digest, State string
		Size          int64
	}
	Read, Saved int64
}

func TestPull(t *testing.T) {
	dir, host := newDir(t), startRegistry(t)
	base, first, second := layerOf(t, "base", "base"), layerOf(t, "first", "1"), layerOf(t, "second", "2")
	push(t, host+"/demo:1", imageOf(t, base, first))
	push(t, host+"/demo:2", imageOf(t, base, second, base))

	got := decoded[pulled](t, "pull", "--dir", dir, host+"/demo:1")
	if len(got.Layers) != 2 || got.Layers[0].State != "pulled" || got.Read == 0 || got.Saved != 0 || got.Image != host+"/demo:1" {
		t.Errorf("first: got %+v", got)
	}
	got = decoded[pulled](t, "pull", "--dir", dir, host+"/demo:2")
	if len(got.Layers) != 2 || got.Layers[0].State != "cached" || got.Layers[1].State != "pulled" || got.Saved != got.Layers[0].Size {
		t.Errorf("second: got %+v", got)
	}
	text := ok(t, "pull", "--dir", dir, host+"/demo:2")
	for _, want := range []string{"LAYER", "cached", "2 layers, 0 B read", "saved"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if got := ok(t, "pull", "--dir", dir, "--quiet", "--both", host+"/demo:1"); got != "" {
		t.Errorf("--quiet: got %q", got)
	}
	blobs := decoded[[]blob](t, "ls", "--dir", dir)
	if len(blobs) != 5 || !strings.HasSuffix(blobs[0].Origin+blobs[1].Origin+blobs[2].Origin, "/demo") {
		t.Errorf("--both: got %+v, want 3 blobs and 2 tars", blobs)
	}
}

func TestPullPlatform(t *testing.T) {
	dir, host := newDir(t), startRegistry(t)
	var adds []mutate.IndexAddendum
	for _, arch := range []string{"amd64", "arm64"} {
		adds = append(adds, mutate.IndexAddendum{
			Add:        imageOf(t, layerOf(t, arch, arch)),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	ref, err := name.ParseReference(host + "/demo")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, mutate.AppendManifests(empty.Index, adds...)); err != nil {
		t.Fatal(err)
	}
	got := decoded[pulled](t, "pull", "--dir", dir, "--platform", "linux/arm64", host+"/demo")
	want, err := adds[1].Add.(v1.Image).Digest()
	if err != nil || got.Digest != want.String() {
		t.Errorf("got %+v, %v, want %s", got, err, want)
	}
	_, stderr, code := run(t, "pull", "--dir", dir, "--platform", "linux/s390x", host+"/demo")
	if code != 1 || !strings.Contains(stderr, "s390x") {
		t.Errorf("got %d, %q", code, stderr)
	}
}

func TestPullErrors(t *testing.T) {
	dir, host := t.TempDir()+"/cache", startRegistry(t)
	locked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}))
	defer locked.Close()
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{host + "/none"}, 1, "check the image's name and tag"},
		{[]string{strings.TrimPrefix(locked.URL, "http://") + "/private"}, 1, "log in with"},
		{[]string{"127.0.0.1:1/demo"}, 1, "connection"},
		{[]string{"UPPER"}, 2, "want an image as in debian:12"},
		{[]string{"--platform", "a/b/c/d/e", "debian:12"}, 2, "want OS/ARCH"},
		{[]string{}, 2, "want ocicache pull IMAGE"},
		{[]string{"debian:12", "x"}, 2, "want --format oci"},
		{[]string{"debian:12", "--format", "oci"}, 2, "needs a directory"},
		{[]string{"debian:12", "--format", "tar", "x"}, 2, "want oci"},
		{[]string{"debian:12", "--format", "oci", "."}, 1, "name an empty directory"},
	} {
		checkError(t, append([]string{"pull", "--dir", dir}, tt.args...), tt.code, tt.want)
	}
	logins := t.TempDir()
	if err := os.WriteFile(filepath.Join(logins, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", logins)
	checkError(t, []string{"pull", "--dir", dir, host + "/none"}, 1, "mend that file")
	if _, err := os.Stat(dir); err == nil {
		t.Error("a pull that failed made a cache")
	}
}

func TestInterrupted(t *testing.T) {
	host := startRegistry(t)
	push(t, host+"/demo", imageOf(t, layerOf(t, "a", "a")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	code := cli.Run(ctx, []string{"pull", "--dir", newDir(t), host + "/demo"}, strings.NewReader(""), &out, &errs)
	if code != 130 || out.Len() > 0 || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("got %d, %q, %q", code, out.String(), errs.String())
	}
}

func TestPullFormat(t *testing.T) {
	dir, host, target := newDir(t), startRegistry(t), filepath.Join(t.TempDir(), "layout")
	img := imageOf(t, layerOf(t, "a", "a"))
	push(t, host+"/demo:1", img)
	for range 2 {
		ok(t, "pull", "--dir", dir, "--format", "oci", host+"/demo:1", target)
	}
	idx, err := layout.ImageIndexFromPath(target)
	if err != nil {
		t.Fatal(err)
	}
	m, err := idx.IndexManifest()
	want, derr := img.Digest()
	if err != nil || derr != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest != want {
		t.Errorf("got %+v, %v, want %v once", m, err, want)
	}
	if err := validate.Index(idx); err != nil {
		t.Error(err)
	}
	checkError(t, []string{"pull", "--dir", dir, "--format", "oci", host + "/demo:1", dir}, 1, "is the cache itself")
}

// A download that hangs ends soon after Ctrl-C, and leaves nothing half done.
func TestInterruptedDownload(t *testing.T) {
	inside := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	image := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, image) && image != "" {
			cancel()
			<-r.Context().Done()
			return
		}
		inside.ServeHTTP(w, r)
	}))
	defer s.Close()
	host, l := strings.TrimPrefix(s.URL, "http://"), layerOf(t, "a", "a")
	push(t, host+"/demo", imageOf(t, l))
	h, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	image = h.String()

	dir := newDir(t)
	var out, errs bytes.Buffer
	start := time.Now()
	code := cli.Run(ctx, []string{"pull", "--dir", dir, host + "/demo"}, strings.NewReader(""), &out, &errs)
	if code != 130 || time.Since(start) > 5*time.Second {
		t.Errorf("got %d after %v, %q", code, time.Since(start), errs.String())
	}
	if got := ok(t, "ls", "--dir", dir, "-q", "present"); got != "" {
		t.Errorf("left %q", got)
	}
}
