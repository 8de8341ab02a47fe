package cache_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/ocicache/ocicache/cache"
)

func itoa(n int) string { return strconv.Itoa(n) }

// An origin that sends wrong bytes: a typed error before EOF, nothing kept.
func TestWrongBytes(t *testing.T) {
	want := makeLayer(1, 200_000)
	flipped := slices.Clone(want.blob)
	flipped[len(flipped)/2] ^= 1
	for name, sent := range map[string][]byte{
		"flipped": flipped,
		"short":   want.blob[:len(want.blob)-1],
		"half":    want.blob[:len(want.blob)/2],
		"long":    append(slices.Clone(want.blob), 0),
		"endless": slices.Concat(want.blob, make([]byte, 10<<20)),
		"none":    nil,
	} {
		for _, wrap := range []func(*cache.Cache, *fakeLayer) v1.Layer{
			func(c *cache.Cache, l *fakeLayer) v1.Layer { return c.Layer(l) },
			func(c *cache.Cache, l *fakeLayer) v1.Layer { return layersOf(t, c.Image(imageOf(t, l)))[0] },
		} {
			l := fake(want)
			l.compressed = func() (io.ReadCloser, error) {
				return &closeCounter{Reader: bytes.NewReader(sent), n: &l.closes}, nil
			}
			c := open(t)
			for _, form := range []func(v1.Layer) (io.ReadCloser, error){v1.Layer.Compressed, v1.Layer.Uncompressed} {
				_, err := tryRead(func() (io.ReadCloser, error) { return form(wrap(c, l)) })
				var digest *cache.DigestMismatchError
				var size *cache.SizeMismatchError
				if !errors.As(err, &digest) && !errors.As(err, &size) {
					t.Errorf("%s: got %v, want a mismatch", name, err)
				}
			}
			wantNotFound(t, c, want.digest())
			wantNotFound(t, c, want.diffID())
			if n := len(blobs(t, dirOf(c))); n != 0 {
				t.Errorf("%s: %d blobs were kept", name, n)
			}
			l.compressed = nil
			checkForms(t, wrap(c, l), want)
		}
	}
}

// A reader's own origin's errors come as they are, at opening if they come
// at opening.
func TestOriginErrors(t *testing.T) {
	want := makeLayer(1, 200_000)
	boom := errors.New("boom")
	c := open(t)
	for _, form := range []func(v1.Layer) (io.ReadCloser, error){v1.Layer.Compressed, v1.Layer.Uncompressed} {
		l := fake(want)
		l.compressed = func() (io.ReadCloser, error) { return nil, boom }
		if _, err := form(c.Layer(l)); err != boom {
			t.Errorf("opening: got %v, want %v itself", err, boom)
		}
		l.compressed = func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(want.blob[:50_000]), &failingReader{boom})), nil
		}
		if _, err := tryRead(func() (io.ReadCloser, error) { return form(c.Layer(l)) }); err != boom {
			t.Errorf("reading: got %v, want %v itself", err, boom)
		}
		l.compressed = func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(want.blob[:50_000]), &failingReader{wrappedEOF{}})), nil
		}
		if _, err := tryRead(func() (io.ReadCloser, error) { return form(c.Layer(l)) }); err == nil {
			t.Error("an error that wraps EOF reads as the end")
		}
	}
	if n := len(blobs(t, dirOf(c))); n != 0 {
		t.Errorf("%d blobs were kept", n)
	}

	r := newRegistry(t)
	img := r.push(imageOf(t, fake(want)), "repo")
	if _, err := img.ConfigFile(); err != nil {
		t.Fatal(err)
	}
	deny := func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/blobs/") {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	r.hook.Store(&deny)
	var terr *transport.Error
	if _, err := layersOf(t, c.Image(img))[0].Compressed(); !errors.As(err, &terr) || terr.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %v, want 401", err)
	}
	wantNotFound(t, c, want.digest())
	r.hook.Store(nil) // not cached: it works as soon as it works
	checkForms(t, layersOf(t, c.Image(img))[0], want)
}

type failingReader struct{ err error }

func (f *failingReader) Read([]byte) (int, error) { return 0, f.err }

type wrappedEOF struct{}

func (wrappedEOF) Error() string { return "connection lost" }
func (wrappedEOF) Unwrap() error { return io.EOF }

// A warm hit answers everything without its origin.
func TestWarmAsksNothing(t *testing.T) {
	want := makeLayer(1, 100_000)
	r := newRegistry(t)
	img := r.push(imageOf(t, fake(want)), "repo")
	c := open(t)
	checkForms(t, layersOf(t, c.Image(img))[0], want)

	refuse := func(w http.ResponseWriter, req *http.Request) bool {
		t.Errorf("a request: %s %s", req.Method, req.URL)
		w.WriteHeader(http.StatusTeapot)
		return true
	}
	r.hook.Store(&refuse)
	for _, l := range []v1.Layer{layersOf(t, c.Image(img))[0], mustGet(t, c, want.digest()), mustGet(t, c, want.diffID())} {
		checkForms(t, l, want)
		checkFacts(t, l, want)
	}
}

// checkFacts asks a layer for what it can tell without its bytes.
func checkFacts(t *testing.T, l v1.Layer, want content) {
	t.Helper()
	if got, err := l.Digest(); got != want.digest() || err != nil {
		t.Errorf("Digest: got %s, %v, want %s", got, err, want.digest())
	}
	if got, err := l.DiffID(); got != want.diffID() || err != nil {
		t.Errorf("DiffID: got %s, %v, want %s", got, err, want.diffID())
	}
	if got, err := l.Size(); got != int64(len(want.blob)) || err != nil {
		t.Errorf("Size: got %d, %v, want %d", got, err, len(want.blob))
	}
	if got, err := l.MediaType(); got != want.mediaType || err != nil {
		t.Errorf("MediaType: got %s, %v, want %s", got, err, want.mediaType)
	}
}
