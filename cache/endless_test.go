package cache_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// repeated is an origin that gives head, and then body for ever. It counts
// what it gave, and ends when it is closed.
type repeated struct {
	head, body []byte
	given      atomic.Int64
	total      *atomic.Int64 // of several; may be nil
	closed     atomic.Bool
	off        int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.closed.Load() {
		return 0, fs.ErrClosed
	}
	var n int
	if len(r.head) > 0 {
		n = copy(p, r.head)
		r.head = r.head[n:]
	} else {
		n = copy(p, r.body[r.off:])
		r.off = (r.off + n) % len(r.body)
	}
	r.given.Add(int64(n))
	if r.total != nil {
		r.total.Add(int64(n))
	}
	return n, nil
}

func (r *repeated) Close() error { r.closed.Store(true); return nil }

// diskUse returns the bytes of all files in a directory, however they are
// named.
func diskUse(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			if errors.Is(err, fs.ErrNotExist) { // it went meanwhile
				return nil
			}
			return err
		}
		if fi, err := os.Stat(path); err == nil {
			n += fi.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// noise does not compress, and is long enough to not repeat itself in a window.
var noise = sync.OnceValue(func() []byte { return gzipped(makeTar(7, 3<<20)) })

// An origin sends for ever what should have a size: it is stopped there.
func TestEndlessKnownSize(t *testing.T) {
	want := makeLayer(1, 200_000)
	for _, form := range []func(v1.Layer) (io.ReadCloser, error){v1.Layer.Compressed, v1.Layer.Uncompressed} {
		c := open(t)
		l := fake(want)
		origin := &repeated{head: want.blob, body: noise()}
		l.compressed = func() (io.ReadCloser, error) { return origin, nil }
		_, err := tryRead(func() (io.ReadCloser, error) { return form(layersOf(t, c.Image(imageOf(t, l)))[0]) })
		var size *cache.SizeMismatchError
		var digest *cache.DigestMismatchError
		if !errors.As(err, &size) && !errors.As(err, &digest) {
			t.Errorf("got %v, want a mismatch", err)
		}
		if got, most := origin.given.Load(), int64(len(want.blob)+64<<10); got > most || !origin.closed.Load() {
			t.Errorf("%d bytes were read, want at most %d; closed: %v", got, most, origin.closed.Load())
		}
		if n := len(blobs(t, dirOf(c))); n != 0 {
			t.Errorf("%d blobs were kept", n)
		}
	}
}

// Nobody says how much an origin should send: the limit, or the reserve of
// the disk, bounds what is written. Reading goes on, past the cache.
func TestEndlessUnknownSize(t *testing.T) {
	const limit, much = 1 << 20, 20 << 20
	for name, opt := range map[string]cache.Option{"limit": cache.WithMaxUncompressed(limit), "reserve": cache.WithMinFree(1 << 62)} {
		t.Run(name, func(t *testing.T) {
			c := open(t, opt)
			l := fake(makeLayer(1, 3000))
			var opened []*repeated
			l.compressed = func() (io.ReadCloser, error) {
				opened = append(opened, &repeated{body: noise()})
				return opened[len(opened)-1], nil
			}
			rc, err := c.Layer(l).Compressed()
			if err != nil {
				t.Fatal(err)
			}
			var most int64
			for n := 0; n < much; n += 1 << 20 {
				if _, err := io.CopyN(io.Discard, rc, 1<<20); err != nil {
					t.Fatal(err)
				}
				most = max(most, diskUse(t, dirOf(c)))
			}
			if err := rc.Close(); err != nil {
				t.Error(err)
			}
			if most > limit+256<<10 {
				t.Errorf("the cache took %d bytes of the disk, with a limit of %d", most, limit)
			}
			if len(opened) > 2 { // for the cache, and past it
				t.Errorf("the origin was opened %d times, want twice at most", len(opened))
			}
			for _, o := range opened {
				if !o.closed.Load() {
					t.Error("the origin is left open")
				}
			}
		})
	}
}

// Endless origins of which the decompressor never gets a byte, or just a few:
// it can be cancelled, and takes no more room than the limit.
func TestEndlessUncompressed(t *testing.T) {
	emptyMember, frame := gzipped(nil), []byte("\x50\x2a\x4d\x18\x01\x00\x00\x00x")
	huge := []byte("\x28\xb5\x2f\xfd\x00\x58") // a zstd frame
	for name, endless := range map[string]*repeated{
		"empty gzip members":  {body: emptyMember},
		"skippable frames":    {body: frame},
		"broken gzip":         {head: []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00\xff"), body: noise()},
		"garbage behind gzip": {head: gzipped([]byte("x")), body: []byte("garbage")},
		"a gzip file name":    {head: []byte("\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x00"), body: []byte("name")},
		"broken zstd":         {head: huge, body: []byte("\xff")},
		"a tar":               {body: makeTar(1, 3000)},
		"nothing but zeros":   {body: make([]byte, 64<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			const limit = 256 << 10
			c := open(t, cache.WithMaxUncompressed(limit), cache.WithCloseTimeout(time.Millisecond)) // what was left is read on for a while
			l := fake(makeLayer(1, 3000))
			var given atomic.Int64 // by all that were opened
			l.compressed = func() (io.ReadCloser, error) {
				return &repeated{head: endless.head, body: endless.body, total: &given}, nil
			}
			rc, err := c.Layer(l).Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			read := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, rc)
				read <- err
			}()
			for over := false; !over && given.Load() < 4*limit; {
				select {
				case err := <-read:
					read <- err
					over = true
				case <-time.After(time.Millisecond):
				}
			}
			if got := diskUse(t, dirOf(c)); got > 2*limit+512<<10 {
				t.Errorf("the cache took %d bytes of the disk, with a limit of %d for each form", got, limit)
			}
			if err := rc.Close(); err != nil {
				t.Error(err)
			}
			if err := <-read; err == nil {
				t.Error("the endless stream came to a good end")
			}
			if n := len(blobs(t, dirOf(c))); n != 0 {
				t.Errorf("%d blobs were kept", n)
			}
		})
	}
}

// An origin stalls in the middle. Other layers go on, its reader can be
// closed, and so can the cache.
func TestEndlessStall(t *testing.T) {
	other, want := makeLayer(2, 100_000), makeLayer(1, 4_000_000)
	for name, form := range map[string]func(v1.Layer) (io.ReadCloser, error){"compressed": v1.Layer.Compressed, "uncompressed": v1.Layer.Uncompressed} {
		c := open(t, cache.WithCloseTimeout(time.Millisecond))
		stall := func() (rc io.ReadCloser, origin *stalledReader, read chan error) {
			l := fake(want)
			origin = &stalledReader{first: want.blob[:70_000], blocked: make(chan struct{}), closed: make(chan struct{})}
			l.compressed = func() (io.ReadCloser, error) { return origin, nil }
			rc, err := form(layersOf(t, c.Image(imageOf(t, l)))[0])
			if err != nil {
				t.Fatal(err)
			}
			read = make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, rc)
				read <- err
			}()
			<-origin.blocked
			return rc, origin, read
		}
		rc, origin, read := stall()
		checkForms(t, c.Layer(fake(other)), other)
		if err := rc.Close(); err != nil {
			t.Error(err)
		}
		if err := <-read; err == nil {
			t.Errorf("%s: the read of a stalled origin came to a good end", name)
		}
		if name == "compressed" { // of a tar, nobody knows how little may be left: it is waited for a while
			<-origin.closed
			rc, origin, read = stall()
			defer rc.Close()
		}
		if err := c.Close(); err != nil {
			t.Errorf("%s: Close: %v", name, err)
		}
		<-origin.closed
		if name == "compressed" {
			if err := <-read; !errors.Is(err, cache.ErrClosed) {
				t.Errorf("after Close: %v, want ErrClosed", err)
			}
		}
	}
}

// An origin does not open. Who waits for it is told when the cache is closed.
func TestEndlessOpen(t *testing.T) {
	for _, form := range []func(v1.Layer) (io.ReadCloser, error){v1.Layer.Compressed, v1.Layer.Uncompressed} {
		c := open(t)
		l := fake(makeLayer(1, 3000))
		opening, hang := make(chan struct{}), make(chan struct{})
		l.compressed = func() (io.ReadCloser, error) {
			close(opening)
			<-hang
			return nil, errors.New("too late")
		}
		opened := make(chan error, 1)
		go func() {
			_, err := tryRead(func() (io.ReadCloser, error) { return form(c.Layer(l)) })
			opened <- err
		}()
		<-opening
		other := makeLayer(2, 3000)
		checkForms(t, c.Layer(fake(other)), other)
		closed := make(chan error, 1)
		go func() { closed <- c.Close() }()
		if err := <-opened; !errors.Is(err, cache.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		close(hang)
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// Layers of nothing, and origins that give nothing.
func TestEndlessNothing(t *testing.T) {
	nothing := content{mediaType: types.DockerLayer}
	tarOfNothing := makeTar(1, 0)
	for name, want := range map[string]content{
		"nothing":               nothing,
		"gzip of nothing":       {blob: gzipped(nil), mediaType: types.DockerLayer},
		"zstd of nothing":       {blob: zstded(nil), mediaType: types.OCILayerZStd},
		"skippable frame":       {blob: []byte("\x50\x2a\x4d\x18\x00\x00\x00\x00"), mediaType: types.OCILayerZStd},
		"many gzips of nothing": {blob: bytes.Repeat(gzipped(nil), 100_000), mediaType: types.DockerLayer},
		"a tar of nothing":      {blob: gzipped(tarOfNothing), tar: tarOfNothing, mediaType: types.DockerLayer},
	} {
		t.Run(name, func(t *testing.T) {
			for _, first := range []func(v1.Layer) (io.ReadCloser, error){v1.Layer.Compressed, v1.Layer.Uncompressed} {
				dir := t.TempDir()
				c := openDir(t, dir)
				readAll(t, func() (io.ReadCloser, error) { return first(c.Layer(fake(want))) })
				checkForms(t, c.Layer(fake(want)), want)
				checkForms(t, layersOf(t, c.Image(imageOf(t, fake(want))))[0], want)
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				checkForms(t, mustGet(t, openDir(t, dir), want.digest()), want)
			}
		})
	}
	full := fake(makeLayer(1, 3000))
	full.compressed = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }
	c := open(t)
	for _, form := range []func(v1.Layer) (io.ReadCloser, error){v1.Layer.Compressed, v1.Layer.Uncompressed} {
		var mismatch *cache.DigestMismatchError
		if _, err := tryRead(func() (io.ReadCloser, error) { return form(c.Layer(full)) }); !errors.As(err, &mismatch) {
			t.Errorf("nothing in the place of a layer: %v, want a DigestMismatchError", err)
		}
	}
	wantNotFound(t, c, digestOf(nil))
}
