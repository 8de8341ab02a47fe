package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// What a session found whose only task was to break the cache.

// A closed hit once went to the origin, which nobody closed then.
func TestReadAfterClose(t *testing.T) {
	c := open(t)
	l := fake(makeLayer(1, 100_000))
	checkForms(t, c.Layer(l), l.content)
	for _, form := range []func() (io.ReadCloser, error){c.Layer(l).Compressed, c.Layer(l).Uncompressed} {
		rc, err := form()
		if err != nil {
			t.Fatal(err)
		}
		rc.Close()
		if n, err := rc.Read(make([]byte, 10)); n != 0 || !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Read after Close: %d, %v", n, err)
		}
	}
	if got := l.opens.Load(); got != 1 {
		t.Errorf("the origin was opened %d times, want once", got)
	}
}

// Close from another goroutine, while the blob fails and the origin opens.
func TestCloseWhileFallingBack(t *testing.T) {
	c := open(t)
	l := fake(makeLayer(1, 300_000))
	readAll(t, c.Layer(l).Compressed)
	rc, err := c.Layer(l).Compressed()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(blobPath(dirOf(c), l.digest()), 5); err != nil {
		t.Fatal(err)
	}
	var closes atomic.Int64
	opening, closed := make(chan struct{}), make(chan struct{})
	l.compressed = func() (io.ReadCloser, error) {
		close(opening)
		<-closed
		return &closeCounter{Reader: bytes.NewReader(l.blob), n: &closes}, nil
	}
	read := make(chan error)
	go func() {
		_, err := io.ReadAll(rc)
		read <- err
	}()
	<-opening
	rc.Close()
	close(closed)
	if err := <-read; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("the read ended with %v", err)
	}
	if closes.Load() != 1 {
		t.Error("the origin is still open")
	}
	l.compressed = nil
	checkForms(t, c.Layer(l), l.content) // and the blob is put right
}

// A blob that is written in place while it is read is not stitched together
// with the origin's bytes.
func TestOverwrittenWhileReading(t *testing.T) {
	c := open(t)
	l := fake(makeLayer(1, 300_000))
	readAll(t, c.Layer(l).Compressed)
	rc, err := c.Layer(l).Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if err := os.WriteFile(blobPath(dirOf(c), l.digest()), make([]byte, 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(rc); err == nil {
		t.Errorf("got %d bytes and EOF; right: %v", len(b), bytes.Equal(b, l.blob))
	}
	checkForms(t, c.Layer(l), l.content)
}

func TestSeekPastEnd(t *testing.T) {
	c := open(t)
	l := fake(makeLayer(1, 3000))
	readAll(t, c.Layer(l).Compressed)
	for _, hit := range []v1.Layer{c.Layer(l), mustGet(t, c, l.digest())} {
		rc, err := hit.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rc.(io.Seeker).Seek(10, io.SeekEnd); err != nil {
			t.Fatal(err)
		}
		if n, err := rc.Read(make([]byte, 10)); n != 0 || err != io.EOF {
			t.Errorf("got %d, %v, want EOF", n, err)
		}
		rc.Close()
	}
}

// The tar of the diffID that an image lies about is in the cache: it is not
// what the image's layer holds.
func TestLiarsTarIsThere(t *testing.T) {
	honest, evil := makeLayer(1, 3000), makeLayer(2, 3000)
	c := open(t)
	checkForms(t, c.Layer(fake(honest)), honest)
	img := liar(t, evil, honest.diffID())
	for range 2 {
		var mismatch *cache.DigestMismatchError
		if _, err := tryRead(layersOf(t, c.Image(img))[0].Uncompressed); !errors.As(err, &mismatch) {
			t.Errorf("got %v, want a DigestMismatchError", err)
		}
	}
	checkForms(t, mustGet(t, c, honest.diffID()), honest)
}

// Read-only, a claimed pair is confirmed all the same.
func TestReadOnlyClaimed(t *testing.T) {
	want := makeLayer(1, 3000)
	img := imageOf(t, fake(want))
	dir := t.TempDir()
	c := openDir(t, dir)
	readAll(t, layersOf(t, c.Image(img))[0].Compressed)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	ro := openDir(t, dir, cache.WithReadOnly())
	checkFacts(t, mustGet(t, ro, want.diffID()), want)
	checkForms(t, mustGet(t, ro, want.diffID()), want)
	l, err := ggcrcache.Image(img, ro).LayerByDiffID(want.diffID())
	if err != nil {
		t.Fatal(err)
	}
	checkForms(t, l, want)
	if got := ro.Stats().Decompressions; got > 4 {
		t.Errorf("%d decompressions: the pair is confirmed again and again", got)
	}
}

func TestSHA512DiffID(t *testing.T) {
	want := makeLayer(1, 3000)
	l := fake(want)
	l.claim = hashOf("sha512", want.tar)
	c := open(t)
	wrapped := c.Layer(l)
	if got, err := wrapped.DiffID(); got != l.claim || err != nil {
		t.Fatalf("DiffID: %s, %v", got, err)
	}
	readAll(t, wrapped.Compressed)
	if got, err := mustGet(t, c, l.claim).Digest(); got != want.digest() || err != nil {
		t.Errorf("Digest: got %s, %v, want %s", got, err, want.digest())
	}
	checkForms(t, mustGet(t, c, l.claim), want)
}

// index.json gives a wrong size: the blob tells.
func TestWrongSizeInIndex(t *testing.T) {
	want := makeLayer(1, 3000)
	img := imageOf(t, fake(want))
	for _, opts := range [][]cache.Option{nil, {cache.WithReadOnly()}} {
		dir := t.TempDir()
		c := openDir(t, dir)
		readAll(t, layersOf(t, c.Image(img))[0].Compressed)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "index.json")
		b := bytes.Replace(readFile(t, path), []byte(`"size":`+itoa(len(want.blob))), []byte(`"size":9`+itoa(len(want.blob))), 1)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		again := openDir(t, dir, opts...)
		for range 2 {
			if got := readAll(t, layersOf(t, again.Image(img))[0].Compressed); !bytes.Equal(got, want.blob) {
				t.Error("Compressed gave other bytes")
			}
		}
	}
}

func TestProgressHangs(t *testing.T) {
	hang := make(chan struct{})
	c := open(t, cache.WithProgress(func(cache.Progress) { <-hang }))
	if err := c.Fill(t.Context(), fake(makeLayer(1, 3000))); err != nil {
		t.Error(err)
	}
	close(hang)
}

func TestFillOriginHangs(t *testing.T) {
	c := open(t, cache.WithCloseTimeout(time.Millisecond))
	l := fake(makeLayer(1, 3000))
	opening, hang := make(chan struct{}), make(chan struct{})
	l.compressed = func() (io.ReadCloser, error) {
		close(opening)
		<-hang
		return nil, io.ErrUnexpectedEOF
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-opening
		cancel()
	}()
	if err := c.Fill(ctx, l); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	close(hang)
}

// The working directory changes while a cache is open in a relative one.
func TestChdir(t *testing.T) {
	t.Chdir(t.TempDir())
	c, err := cache.Open("cache")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	l := fake(makeLayer(1, 3000))
	readAll(t, c.Layer(l).Compressed)
	checkForms(t, mustGet(t, c, l.digest()), l.content)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Another tool removes the blobs and makes their directory anew.
func TestBlobDirReplaced(t *testing.T) {
	c := open(t)
	l := fake(makeLayer(1, 3000))
	readAll(t, c.Layer(l).Compressed)
	blobs := filepath.Join(dirOf(c), "blobs", "sha256")
	if err := os.RemoveAll(blobs); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		readAll(t, c.Layer(l).Compressed)
	}
	if got := l.opens.Load(); got != 2 {
		t.Errorf("the origin was opened %d times, want twice", got)
	}
}

// An image's config does not arrive. The layers do not need it.
func TestConfigHangs(t *testing.T) {
	r := newRegistry(t)
	img := r.push(imageOf(t, fake(makeLayer(1, 3000))), "repo")
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	hang := make(chan struct{})
	hook := func(_ http.ResponseWriter, req *http.Request) bool {
		if strings.HasSuffix(req.URL.Path, config.String()) {
			<-hang
		}
		return false
	}
	img = r.pull("repo")
	r.hook.Store(&hook)
	c := open(t)
	readAll(t, layersOf(t, c.Image(img))[0].Compressed)
	close(hang)
}

// Close does not wait for layers that nobody reads.
func TestCloseUnread(t *testing.T) {
	c := open(t, cache.WithCloseTimeout(time.Hour))
	for _, form := range []func() (io.ReadCloser, error){
		c.Layer(fake(makeLayer(1, 3000))).Compressed, c.Layer(fake(makeLayer(2, 3000))).Uncompressed,
	} {
		rc, err := form()
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestConfigIsNoLayer(t *testing.T) {
	r := newRegistry(t)
	img := r.push(imageOf(t, fake(makeLayer(1, 3000))), "repo")
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	c := open(t)
	l, err := c.Image(img).LayerByDigest(config)
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, l.Compressed)
	wantNotFound(t, c, config)
}

// A liar's claim answers for its digest until somebody reads what is in it.
func TestLieOfBareLayer(t *testing.T) {
	want := makeLayer(1, 3000)
	r := newRegistry(t)
	c := open(t)
	readAll(t, layersOf(t, c.Image(r.push(liar(t, want, makeLayer(2, 3000).diffID()), "repo")))[0].Compressed)
	ref, err := name.NewDigest(r.host + "/repo@" + want.digest().String())
	if err != nil {
		t.Fatal(err)
	}
	bare, err := remote.Layer(ref)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, mustGet(t, c, want.digest()).Uncompressed); !bytes.Equal(got, want.tar) {
		t.Error("Uncompressed gave other bytes")
	}
	for _, l := range []v1.Layer{c.Layer(bare), mustGet(t, c, want.digest())} {
		if got, err := l.DiffID(); got != want.diffID() || err != nil {
			t.Errorf("DiffID: got %s, %v, want %s", got, err, want.diffID())
		}
	}
	checkForms(t, mustGet(t, c, want.diffID()), want)
}

// A layer that is known only as a tar, in a cache that can keep nothing.
func TestPackUnkept(t *testing.T) {
	tar := makeTar(1, 100_000)
	dir := t.TempDir()
	c := openDir(t, dir)
	built, err := partial.UncompressedToLayer(&tarLayer{tar: tar})
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, c.Layer(built).Uncompressed)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, opt := range []cache.Option{cache.WithMinFree(1 << 62), cache.WithReadOnly()} {
		again := openDir(t, dir, opt)
		l := mustGet(t, again, digestOf(tar))
		blob := readAll(t, l.Compressed)
		checkFacts(t, l, content{blob: blob, tar: tar, mediaType: types.OCILayer})
		checkForms(t, l, content{blob: blob, tar: tar})
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(blobs(t, dir)); n != 1 {
		t.Errorf("%d blobs, want the tar", n)
	}
}

// Another tool put an image into the layout that has a layer of the cache.
// Deleting the layer leaves the image whole.
func TestDeleteKeepsOthersBlobs(t *testing.T) {
	want, other := makeLayer(1, 3000), makeLayer(2, 3000)
	dir := t.TempDir()
	c := openDir(t, dir)
	for _, l := range []content{want, other} {
		checkForms(t, c.Layer(fake(l)), l)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	img := imageOf(t, fake(want))
	idx := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}) // reached through an index
	path, err := ggcrlayout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(idx); err != nil {
		t.Fatal(err)
	}
	for _, l := range []content{want, other} {
		if err := c.Delete(l.digest()); err != nil {
			t.Fatal(err)
		}
		wantNotFound(t, c, l.digest())
	}
	if got := readFile(t, blobPath(dir, want.digest())); !bytes.Equal(got, want.blob) {
		t.Error("the image's layer is gone")
	}
	if _, err := os.Stat(blobPath(dir, other.digest())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the other layer is still there: %v", err)
	}
	checkForms(t, c.Layer(fake(want)), want)
}
