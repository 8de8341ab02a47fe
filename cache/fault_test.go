package cache_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/stream"

	"github.com/ocicache/ocicache/cache"
)

// A cache that cannot be written never fails a read, and says so.
func TestCannotWrite(t *testing.T) {
	want := makeLayer(1, 300_000)
	for name, breakIt := range map[string]func(t *testing.T, dir string){
		"no ingest directory": func(t *testing.T, dir string) { replaceByFile(t, filepath.Join(dir, ".ocicache", "ingest")) },
		"no blobs directory":  func(t *testing.T, dir string) { replaceByFile(t, filepath.Join(dir, "blobs", "sha256")) },
		"malformed index": func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte("{"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			dir := t.TempDir()
			c, err := cache.Open(dir, cache.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
			if err != nil {
				t.Fatal(err)
			}
			breakIt(t, dir)
			for range 2 {
				checkForms(t, c.Layer(fake(want)), want)
				checkForms(t, layersOf(t, c.Image(imageOf(t, fake(want))))[0], want)
			}
			if got := c.Stats().WriteFaults; got == 0 {
				t.Error("WriteFaults: got 0")
			}
			if !strings.Contains(logged.String(), dir) {
				t.Errorf("the log does not name the directory: %s", logged.String())
			}
			c.Close() // may fail, of course
		})
	}
}

func replaceByFile(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Less than the reserve is free: reading goes on, filling does not.
func TestReserve(t *testing.T) {
	want := makeLayer(1, 300_000)
	c := open(t, cache.WithMinFree(1<<62))
	l := fake(want)
	checkForms(t, c.Layer(l), want)
	if n := len(blobs(t, dirOf(c))); n != 0 {
		t.Errorf("%d blobs were kept", n)
	}
	if c.Stats().WriteFaults == 0 {
		t.Error("WriteFaults: got 0")
	}
	if err := c.Fill(t.Context(), l); err == nil {
		t.Error("Fill reported success")
	}
}

// The lock is held by another process, as far as flock can tell.
func TestLocked(t *testing.T) {
	want := makeLayer(1, 100_000)
	c := open(t, cache.WithLockTimeout(20*time.Millisecond))
	unlock := flockFile(t, filepath.Join(dirOf(c), ".ocicache", "lock"))
	checkForms(t, c.Layer(fake(want)), want)
	if c.Stats().WriteFaults == 0 {
		t.Error("WriteFaults: got 0")
	}
	if err := c.Delete(want.digest()); !errors.Is(err, cache.ErrLocked) || !strings.Contains(err.Error(), "lock") {
		t.Errorf("Delete: got %v, want ErrLocked", err)
	}
	unlock()
	checkForms(t, c.Layer(fake(want)), want)
}

// A layer that can be read once, and is cached when its digest is known.
func TestStreamingLayer(t *testing.T) {
	tar := makeTar(1, 500_000)
	c := open(t)
	inner := stream.NewLayer(io.NopCloser(bytes.NewReader(tar)))
	l := c.Layer(inner)
	if _, err := l.Digest(); !errors.Is(err, stream.ErrNotComputed) {
		t.Errorf("Digest before reading: %v", err)
	}
	blob := readAll(t, l.Compressed)
	want := content{blob: blob, tar: tar}
	want.mediaType, _ = inner.MediaType()
	checkFacts(t, l, want)
	checkForms(t, l, want) // ggcr's own would say that it was consumed
	checkForms(t, mustGet(t, c, want.digest()), want)
	checkForms(t, mustGet(t, c, want.diffID()), want)
}

func TestStreamingUncompressed(t *testing.T) {
	tar := makeTar(1, 500_000)
	c := open(t)
	l := c.Layer(stream.NewLayer(io.NopCloser(bytes.NewReader(tar))))
	if got := readAll(t, l.Uncompressed); !bytes.Equal(got, tar) {
		t.Error("Uncompressed gave other bytes")
	}
	checkForms(t, l, content{blob: readAll(t, l.Compressed), tar: tar})
}

// The disk fails while a layer is read that can be read only once.
func TestStreamingCannotWrite(t *testing.T) {
	tar := makeTar(1, 2_000_000)
	c := open(t)
	inner := stream.NewLayer(io.NopCloser(bytes.NewReader(tar)))
	l := c.Layer(inner)
	rc, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	head := make([]byte, 1000)
	if _, err := io.ReadFull(rc, head); err != nil {
		t.Fatal(err)
	}
	replaceByFile(t, filepath.Join(dirOf(c), "blobs", "sha256")) // the commit will fail
	rest, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	want, err := inner.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got := digestOf(append(head, rest...)); got != want {
		t.Errorf("got bytes of %s, want %s", got, want)
	}
	if err := os.Remove(filepath.Join(dirOf(c), "blobs", "sha256")); err != nil {
		t.Fatal(err)
	}
}

// A streaming layer on a full disk: nothing can be kept, all can be read.
func TestStreamingReserve(t *testing.T) {
	tar := makeTar(1, 2_000_000)
	c := open(t, cache.WithMinFree(1<<62))
	inner := stream.NewLayer(io.NopCloser(bytes.NewReader(tar)))
	blob := readAll(t, c.Layer(inner).Compressed)
	if want, err := inner.Digest(); err != nil || digestOf(blob) != want {
		t.Errorf("got %s, want %s, %v", digestOf(blob), want, err)
	}
}

// A blob that can be opened and not read to its end is read on from its
// origin.
func TestTruncatedWhileReading(t *testing.T) {
	want := makeLayer(1, 500_000)
	for _, form := range []func(v1.Layer) (io.ReadCloser, error){v1.Layer.Compressed, v1.Layer.Uncompressed} {
		c := open(t)
		l := c.Layer(fake(want))
		checkForms(t, l, want)
		rc, err := form(l)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		head := make([]byte, 1000)
		if _, err := io.ReadFull(rc, head); err != nil {
			t.Fatal(err)
		}
		for h, path := range blobs(t, dirOf(c)) {
			if h == want.digest() || h == want.diffID() {
				if err := os.Truncate(path, 2000); err != nil {
					t.Fatal(err)
				}
			}
		}
		rest, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		got := digestOf(append(head, rest...))
		if got != want.digest() && got != want.diffID() {
			t.Errorf("got bytes of %s", got)
		}
		checkForms(t, l, want) // and it is filled again
	}
}

// Readers of a layer that can be read once come while it is read, and just
// after: it is there for all of them.
func TestStreamingConcurrent(t *testing.T) {
	c := open(t)
	for n := range uint64(300) {
		tar := makeTar(n, 100)
		l := c.Layer(stream.NewLayer(io.NopCloser(bytes.NewReader(tar))))
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				if i == 5 {
					if got, err := tryRead(l.Uncompressed); err != nil || !bytes.Equal(got, tar) {
						t.Errorf("uncompressed: %d bytes, %v", len(got), err)
					}
				} else if _, err := tryRead(l.Compressed); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}
