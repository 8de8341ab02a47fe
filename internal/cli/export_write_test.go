package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/cli"
)

// rot changes a byte of a blob, so that nothing but its content shows it.
func rot(t *testing.T, dir, digest string) {
	t.Helper()
	path := filepath.Join(dir, "blobs", strings.ReplaceAll(digest, ":", "/"))
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// settle makes the blobs old enough that a change that leaves their
// modification time as it was does not show.
func settle(t *testing.T, dir string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatal(blobs, err)
	}
	for _, path := range blobs {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	ok(t, "verify", "--dir", dir, "--repair", "--quiet") // records them
}

// Rot that nothing shows is not written into another layout.
func TestExportRotten(t *testing.T) {
	dir, host, target := newDir(t), startRegistry(t), filepath.Join(t.TempDir(), "layout")
	l := layerOf(t, "a", strings.Repeat("a", 1000))
	push(t, host+"/demo", imageOf(t, l))
	ok(t, "pull", "--dir", dir, host+"/demo")
	settle(t, dir)
	h, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	rot(t, dir, h.String())
	stdout, stderr, code := run(t, "pull", "--dir", dir, "--format", "oci", host+"/demo", target)
	if code != 0 || !strings.Contains(stderr, "warning: ") || !strings.Contains(stderr, h.String()) {
		t.Errorf("got %d, %q%q", code, stdout, stderr)
	}
	validLayout(t, target, 1)
}

// Exports into one layout at once are all in it.
func TestExportTogether(t *testing.T) {
	f, target := newFixture(t), filepath.Join(t.TempDir(), "layout")
	c, err := cache.Open(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const exports = 32
	var wg sync.WaitGroup
	for i := range exports {
		name := fmt.Sprintf("demo:%d", i)
		img := c.Image(imageOf(t, layerOf(t, "base", "base"), layerOf(t, "own", name)))
		wg.Go(func() {
			if err := cli.Export(t.Context(), c, target, name, img); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	validLayout(t, target, exports)
}

// validLayout checks a layout of so many images.
func validLayout(t *testing.T, dir string, images int) {
	t.Helper()
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := idx.IndexManifest()
	if err != nil || len(m.Manifests) != images {
		t.Errorf("got %d images, %v, want %d", len(m.Manifests), err, images)
	}
	if err := validate.Index(idx); err != nil {
		t.Error(err)
	}
}

// stopping is an image whose first layer ends a context when it is opened.
type stopping struct {
	v1.Image
	stop func()
}

func (s stopping) Layers() ([]v1.Layer, error) {
	layers, err := s.Image.Layers()
	layers[0] = stoppingLayer{layers[0], s.stop}
	return layers, err
}

type stoppingLayer struct {
	v1.Layer
	stop func()
}

func (l stoppingLayer) Compressed() (io.ReadCloser, error) {
	l.stop()
	return l.Layer.Compressed()
}

// Ctrl-C ends an export between two reads, and lists nothing. The cache, which
// may be checking a blob, is closed.
func TestExportInterrupted(t *testing.T) {
	f, target := newFixture(t), filepath.Join(t.TempDir(), "layout")
	c, err := cache.Open(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	err = cli.Export(ctx, c, target, "demo", stopping{imageOf(t, f.layers[:1]...), cancel})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if blobs, err := filepath.Glob(filepath.Join(target, "blobs", "*", "*")); err != nil || len(blobs) > 0 {
		t.Errorf("wrote %q, %v", blobs, err)
	}
	if err := c.Flush(); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("the cache: got %v, want %v", err, cache.ErrClosed)
	}
	validLayout(t, target, 0)
}
