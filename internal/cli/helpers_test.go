package cli_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/cli"
)

// run runs a command line, and returns what it printed and its exit code.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

// ok is run for what has to end well.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := run(t, args...)
	if code != 0 || stderr != "" {
		t.Fatalf("ocicache %s: got %d: %s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// decoded is ok for what prints JSON.
func decoded[T any](t *testing.T, args ...string) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(ok(t, append(args, "-o", "json")...)))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("ocicache %s: %v", strings.Join(args, " "), err)
	}
	return v
}

// blob is what the tests look at of ls and inspect.
type blob struct {
	Digest, DiffID, Pair, Form, Origin string
	Size                               int64
	Present, Pinned                    bool
	Pins, Keys                         []string
}

// tarOf returns a tar of one file.
func tarOf(t *testing.T, file, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layerOf returns a layer of one file, compressed with gzip.
func layerOf(t *testing.T, file, text string) v1.Layer {
	t.Helper()
	b := tarOf(t, file, text)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// imageOf returns an image of some layers.
func imageOf(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// startRegistry starts a registry, and returns its host.
func startRegistry(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// push sends an image to a registry.
func push(t *testing.T, image string, img v1.Image) {
	t.Helper()
	ref, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
}

// newDir returns a directory for a cache, and has it verified in the end.
func newDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cache")
	t.Cleanup(func() {
		c, err := cache.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r, err := c.Verify(t.Context(), cache.VerifyOptions{ReportOnly: true})
		if len(r.Findings) > 0 {
			t.Errorf("verify of %s: %v, %v", dir, r.Findings, err)
		}
	})
	return dir
}

// A fixture is a cache of two layers, of which the first is there in both
// forms, and has a build key.
type fixture struct {
	dir     string
	layers  []v1.Layer
	digests []string
	diffIDs []string
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	f := fixture{dir: newDir(t)}
	c, err := cache.Open(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"etc/hosts", "etc/passwd"} {
		l := layerOf(t, file, strings.Repeat("of "+file+"\n", 1000))
		digest, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		diffID, err := l.DiffID()
		if err != nil {
			t.Fatal(err)
		}
		f.layers = append(f.layers, l)
		f.digests = append(f.digests, digest.String())
		f.diffIDs = append(f.diffIDs, diffID.String())
	}
	first := func(context.Context) (v1.Layer, error) { return f.layers[0], nil }
	if _, err := c.Build(t.Context(), "the-key", first); err != nil {
		t.Fatal(err)
	}
	if err := c.FillUncompressed(t.Context(), f.layers[0]); err != nil {
		t.Fatal(err)
	}
	if err := c.Fill(t.Context(), imageLayers(t, c, imageOf(t, f.layers...))...); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return f
}

// imageLayers returns an image's layers, wrapped.
func imageLayers(t *testing.T, c *cache.Cache, img v1.Image) []v1.Layer {
	t.Helper()
	layers, err := c.Image(img).Layers()
	if err != nil {
		t.Fatal(err)
	}
	return layers
}
