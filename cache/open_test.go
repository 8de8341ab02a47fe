package cache_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

func TestOpenRefuses(t *testing.T) {
	const layoutFile, indexFile = "oci-layout", "index.json"
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  error
		says  string
	}{
		{"other things", map[string]string{"notes.txt": "mine"}, cache.ErrNotLayout, "notes.txt"},
		{"unknown layout version", map[string]string{layoutFile: `{"imageLayoutVersion":"2.0.0"}`}, layout.ErrVersion, "2.0.0"},
		{"oci-layout is no JSON", map[string]string{layoutFile: `nonsense`}, cache.ErrNotLayout, layoutFile},
		{"malformed index", map[string]string{layoutFile: `{"imageLayoutVersion":"1.0.0"}`, indexFile: "{\"schemaVersion\":2,\n\"manifests\":[{]}"}, index.ErrMalformed, "line 2"},
		{"unknown version of ours", map[string]string{layoutFile: `{"imageLayoutVersion":"1.0.0"}`, ".ocicache/version": "99"}, layout.ErrVersion, "99"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range tc.files {
				path := filepath.Join(dir, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			c, err := cache.Open(dir)
			if err == nil {
				c.Close()
			}
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %v that names %s and the directory", err, tc.want, tc.says)
			}
			for name, content := range tc.files {
				if got := string(readFile(t, filepath.Join(dir, name))); got != content {
					t.Errorf("%s was overwritten: %q", name, got)
				}
			}
		})
	}

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if _, err := cache.Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%s): got %v, want an error that names it", path, err)
		}
	}
	if _, err := cache.Open(filepath.Join(t.TempDir(), "none"), cache.WithReadOnly()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of nothing, read-only: got %v", err)
	}
}

func TestClosed(t *testing.T) {
	want := makeLayer(1, 10_000)
	c := open(t)
	l := c.Layer(fake(want))
	checkForms(t, l, want)
	got := mustGet(t, c, want.diffID())
	opened, err := got.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if b, err := io.ReadAll(opened); err != nil || digestOf(b) != want.diffID() {
		t.Errorf("a reader that was open: %d bytes, %v", len(b), err)
	}
	opened.Close()
	_, getErr := c.Get(want.digest())
	_, putErr := c.Put(fake(want))
	_, readErr := l.Compressed()
	_, unErr := l.Uncompressed()
	_, gotErr := got.Uncompressed()
	_, indexErr := c.Index()
	for what, err := range map[string]error{
		"Get": getErr, "Put": putErr, "Compressed": readErr, "Uncompressed": unErr, "Get's Uncompressed": gotErr,
		"Index": indexErr, "Delete": c.Delete(want.digest()), "Flush": c.Flush(),
	} {
		if !errors.Is(err, cache.ErrClosed) {
			t.Errorf("%s after Close: got %v, want ErrClosed", what, err)
		}
	}
}

// Close in the middle of fills: readers get ErrClosed, origins are closed.
func TestCloseInterrupts(t *testing.T) {
	want := makeLayer(1, 1_000_000)
	c := open(t, cache.WithCloseTimeout(time.Millisecond))
	var wg sync.WaitGroup
	for n := range 4 {
		l := fake(makeLayer(uint64(n), 1_000_000))
		blocked, closed := make(chan struct{}), make(chan struct{})
		l.compressed = func() (io.ReadCloser, error) {
			return &stalledReader{first: want.blob[:1000], blocked: blocked, closed: closed}, nil
		}
		form := c.Layer(l).Compressed
		if n%2 == 1 {
			form = c.Layer(l).Uncompressed
		}
		wg.Go(func() {
			if _, err := tryRead(form); !errors.Is(err, cache.ErrClosed) {
				t.Errorf("reader: got %v, want ErrClosed", err)
			}
			<-closed
		})
		<-blocked
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	wg.Wait()
}

func TestFill(t *testing.T) {
	var layers []v1.Layer
	var want []content
	for n := range uint64(6) {
		want = append(want, makeLayer(n, 100_000))
		layers = append(layers, fake(want[n]))
	}
	var mu sync.Mutex
	var reports []cache.Progress
	c := open(t, cache.WithMaxFills(2), cache.WithProgress(func(p cache.Progress) {
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, p)
	}))
	img := imageOf(t, layers...)
	wrapped := layersOf(t, c.Image(img))
	if err := c.Fill(t.Context(), wrapped...); err != nil {
		t.Fatal(err)
	}
	if n := len(blobs(t, dirOf(c))); n != len(want) {
		t.Errorf("%d blobs, want %d", n, len(want))
	}
	last := reports[len(reports)-1]
	var total int64
	for _, w := range want {
		total += int64(len(w.blob))
	}
	if got := (cache.Progress{Layers: 6, LayersTotal: 6, Bytes: total, BytesTotal: total}); last != got {
		t.Errorf("last report: got %+v, want %+v", last, got)
	}
	if err := c.FillUncompressed(t.Context(), wrapped...); err != nil {
		t.Fatal(err)
	}
	if n := len(blobs(t, dirOf(c))); n != 2*len(want) {
		t.Errorf("%d blobs, want %d", n, 2*len(want))
	}
	for n, w := range want {
		if got := layers[n].(*fakeLayer).opens.Load(); got != 1 {
			t.Errorf("layer %d was opened %d times, want once", n, got)
		}
		checkForms(t, mustGet(t, c, w.diffID()), w)
	}
}

func TestFillForms(t *testing.T) {
	want := makeLayer(1, 100_000)
	dir := t.TempDir()
	c := openDir(t, dir)
	checkForms(t, c.Layer(fake(want)), want)
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(blobPath(dir, want.digest())); err != nil {
		t.Fatal(err)
	}
	if err := c.FillUncompressed(t.Context(), fake(want)); err != nil { // the tar alone is not both forms
		t.Fatal(err)
	}
	checkForms(t, mustGet(t, c, want.digest()), want)

	inner := &tarLayer{tar: makeTar(2, 100_000)}
	built, err := partial.UncompressedToLayer(inner)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.FillUncompressed(t.Context(), built); err != nil {
		t.Fatal(err)
	}
	if inner.opens != 1 {
		t.Errorf("a layer that has no compressed form was read %d times, want once", inner.opens)
	}

	ro := openDir(t, dir, cache.WithReadOnly())
	if err := ro.FillUncompressed(t.Context(), fake(want), built); err != nil {
		t.Errorf("what is there, read-only: %v", err)
	}
	missing := fake(makeLayer(3, 1000))
	if err := ro.Fill(t.Context(), missing); !errors.Is(err, cache.ErrReadOnly) || missing.opens.Load() != 0 {
		t.Errorf("what is not there, read-only: got %v after %d opens, want ErrReadOnly", err, missing.opens.Load())
	}
}

func TestBadCodec(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	if _, err := cache.Open(dir, cache.WithCodec(compression.Settings{Format: compression.Gzip, Level: 99})); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error that names the directory", err)
	}
}

func TestFillCancelled(t *testing.T) {
	c := open(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	l := fake(makeLayer(1, 1_000_000))
	blocked, closed := make(chan struct{}), make(chan struct{})
	l.compressed = func() (io.ReadCloser, error) {
		return &stalledReader{first: l.blob[:1000], blocked: blocked, closed: closed}, nil
	}
	go func() {
		<-blocked
		cancel(why)
	}()
	img := imageOf(t, l)
	if err := c.Fill(ctx, layersOf(t, c.Image(img))...); !errors.Is(err, why) {
		t.Errorf("Fill: got %v, want the context's cause", err)
	}
	<-closed
}

// c.Index() through a registry that takes layers in an index.
func TestIndex(t *testing.T) {
	want := []content{makeLayer(1, 50_000), makeLayer(2, 50_000)}
	c := open(t)
	for _, w := range want {
		checkForms(t, c.Layer(fake(w)), w)
	}
	idx, err := c.Index()
	if err != nil {
		t.Fatal(err)
	}
	r := newRegistry(t)
	ref, err := name.ParseReference(r.host + "/cache")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, idx); err != nil {
		t.Fatal(err)
	}
	back, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	wantDigest, _ := idx.Digest()
	if got, err := back.Digest(); got != wantDigest || err != nil {
		t.Errorf("Digest: got %s, %v, want %s", got, err, wantDigest)
	}
	m, err := back.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	notes := map[v1.Hash]map[string]string{}
	for _, d := range m.Manifests {
		notes[d.Digest] = d.Annotations
	}
	for _, w := range want {
		if got := notes[w.digest()][ocicache.AnnotationDiffID]; got != w.diffID().String() {
			t.Errorf("%s: diffid %q, want %s", w.digest(), got, w.diffID())
		}
		if got := notes[w.diffID()][ocicache.AnnotationDigest]; got != w.digest().String() {
			t.Errorf("%s: digest %q, want %s", w.diffID(), got, w.digest())
		}
		// Another machine reads the layers out of the index.
		other := open(t)
		l, err := other.ImageIndex(back).(interface {
			Layer(v1.Hash) (v1.Layer, error)
		}).Layer(w.digest())
		if err != nil {
			t.Fatal(err)
		}
		checkForms(t, l, w)
	}
}

// A commit in one handle is a hit in another that was open before, also
// across checkpoints, and a delete is a miss.
func TestTwoHandles(t *testing.T) {
	dir := t.TempDir()
	a, b := openDir(t, dir), openDir(t, dir)
	for n := range uint64(8) {
		want := makeLayer(n, 10_000)
		checkForms(t, a.Layer(fake(want)), want)
		if n%3 == 1 {
			if err := a.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if n%4 == 3 {
			if err := b.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		checkForms(t, mustGet(t, b, want.digest()), want)
		checkForms(t, mustGet(t, b, want.diffID()), want)
		if n%2 == 0 {
			if err := b.Delete(want.digest()); err != nil {
				t.Fatal(err)
			}
			wantNotFound(t, a, want.digest())
			checkForms(t, a.Layer(fake(want)), want)
		}
	}
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	c := openDir(t, dir, cache.WithReadOnly())
	for n := range uint64(8) {
		want := makeLayer(n, 10_000)
		checkForms(t, mustGet(t, c, want.diffID()), want)
	}
}
