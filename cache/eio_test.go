package cache_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/layout"
)

// A brokenDisk fails operations that fails picks. It may be changed while
// caches run on it.
type brokenDisk struct {
	mu    sync.Mutex
	fails func(op, name string) bool // guarded by mu; nil: none
}

func (d *brokenDisk) hook(op, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails != nil && d.fails(op, name) {
		return syscall.EIO
	}
	return nil
}

func (d *brokenDisk) set(fails func(op, name string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = fails
}

// readsFail fails reads of blobs but for the first ones: n of them, or all if
// n is negative.
func readsFail(first, n int) func(op, name string) bool {
	reads := 0
	return func(op, name string) bool {
		if op != "read" || !strings.HasPrefix(name, "blobs/") {
			return false
		}
		reads++
		return reads > first && (n < 0 || reads <= first+n)
	}
}

// The disk gives EIO in the middle of a hit: the reader goes on from the
// origin, whichever way it reads and also if the disk recovers.
func TestReadErrorFallsBack(t *testing.T) {
	want := makeLayer(1, 400_000) // a blob of some reads
	ways := map[string]func(io.Reader) ([]byte, error){
		"Read": func(r io.Reader) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{r}) },
		"small Reads": func(r io.Reader) ([]byte, error) {
			var b bytes.Buffer
			_, err := io.CopyBuffer(struct{ io.Writer }{&b}, struct{ io.Reader }{r}, make([]byte, 1000))
			return b.Bytes(), err
		},
		"WriteTo": func(r io.Reader) ([]byte, error) {
			var b bytes.Buffer
			n, err := r.(io.WriterTo).WriteTo(&b)
			if n != int64(b.Len()) {
				return nil, errors.New("WriteTo counted wrong")
			}
			return b.Bytes(), err
		},
		"Read, then WriteTo": func(r io.Reader) ([]byte, error) {
			head := make([]byte, 100)
			if _, err := io.ReadFull(r, head); err != nil {
				return nil, err
			}
			b := bytes.NewBuffer(head)
			_, err := io.Copy(b, r)
			return b.Bytes(), err
		},
	}
	for name, read := range ways {
		for _, first := range []int{1, 3} {
			for _, n := range []int{1, -1} {
				disk := &brokenDisk{}
				c := open(t, cache.WithHook(disk.hook))
				checkForms(t, c.Layer(fake(want)), want)
				for form, want := range map[string][]byte{"Compressed": want.blob, "Uncompressed": want.tar} {
					l := fake(makeLayer(1, 400_000))
					open := c.Layer(l).Compressed
					if form == "Uncompressed" {
						open = c.Layer(l).Uncompressed
					}
					before := c.Stats()
					rc, err := open()
					if err != nil {
						t.Fatal(err)
					}
					disk.set(readsFail(first, n))
					got, err := read(rc)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s, %s, %d of the reads after %d fail: got %d bytes, %v; want %d", form, name, n, first, len(got), err, len(want))
					}
					disk.set(nil)
					if err := rc.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
					if s := c.Stats(); s.Fallbacks == before.Fallbacks {
						t.Errorf("%s, %s: no fallback, and the test tests nothing", form, name)
					}
				}
			}
		}
	}
}

// What cannot be had from anywhere else is an error, that of the disk: no
// read ends early without one.
func TestReadErrorWithoutOrigin(t *testing.T) {
	want := makeLayer(1, 400_000)
	disk := &brokenDisk{}
	c := open(t, cache.WithHook(disk.hook))
	checkForms(t, c.Layer(fake(want)), want)
	l := mustGet(t, c, want.digest())
	for form, open := range map[string]func() (io.ReadCloser, error){"Compressed": l.Compressed, "Uncompressed": l.Uncompressed} {
		disk.set(nil)
		rc, err := open()
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		disk.set(readsFail(1, -1))
		if got, err := io.ReadAll(rc); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: got %d bytes, %v; want EIO", form, len(got), err)
		}
	}
	disk.set(nil)
	checkForms(t, l, want)
}

// ReadAt and Seek cannot go over to the origin: they say what is wrong, and
// the bytes can be read as soon as the disk recovers.
func TestReadAtError(t *testing.T) {
	want := makeLayer(1, 400_000)
	disk := &brokenDisk{}
	c := open(t, cache.WithHook(disk.hook))
	l := fake(want)
	checkForms(t, c.Layer(l), want)
	rc, err := c.Layer(l).Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	at, head := make([]byte, 5000), make([]byte, 1000)
	if _, err := io.ReadFull(rc, head); err != nil {
		t.Fatal(err)
	}
	disk.set(readsFail(0, 1))
	if n, err := rc.(io.ReaderAt).ReadAt(at, 1000); n != 0 || !errors.Is(err, syscall.EIO) {
		t.Errorf("ReadAt on a broken disk: %d, %v; want EIO", n, err)
	}
	if n, err := rc.(io.ReaderAt).ReadAt(at, 1000); n != len(at) || err != nil || !bytes.Equal(at, want.tar[1000:6000]) {
		t.Errorf("ReadAt after that: %d, %v", n, err)
	}
	disk.set(readsFail(0, -1))
	rest, err := io.ReadAll(rc) // ReadAt moved nothing
	if err != nil || !bytes.Equal(append(head, rest...), want.tar) {
		t.Errorf("Read: %d more bytes, %v", len(rest), err)
	}

	disk.set(nil)
	rc, err = c.Layer(l).Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := rc.(io.Seeker).Seek(5000, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	disk.set(readsFail(0, 1))
	if n, err := rc.Read(at); n != 0 || !errors.Is(err, syscall.EIO) {
		t.Errorf("Read after Seek: %d, %v; want EIO", n, err)
	}
	if rest, err := io.ReadAll(rc); err != nil || !bytes.Equal(rest, want.tar[5000:]) {
		t.Errorf("Read after that: %d bytes, %v", len(rest), err)
	}
}

// An error of whoever takes the bytes is no error of the disk.
func TestWriterError(t *testing.T) {
	want := makeLayer(1, 400_000)
	c := open(t)
	checkForms(t, c.Layer(fake(want)), want)
	l := fake(want)
	rc, err := c.Layer(l).Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	boom := errors.New("boom")
	if _, err := io.Copy(&failingWriter{boom}, rc); !errors.Is(err, boom) {
		t.Errorf("got %v, want %v", err, boom)
	}
	if n, s := l.opens.Load(), c.Stats(); n != 0 || s.Fallbacks != 0 {
		t.Errorf("the origin was opened %d times, Fallbacks: %d; want 0", n, s.Fallbacks)
	}
}

type failingWriter struct{ err error }

func (w *failingWriter) Write([]byte) (int, error) { return 0, w.err }

// A system tells of a failed write-back once. A blob whose sync failed in the
// background stays unsynced, though the checkpoint's own sync of it succeeds,
// and so do later ones; under another boot it is hashed before it is served.
func TestSyncFailsOnce(t *testing.T) {
	good, bad := makeLayer(1, 100_000), makeLayer(2, 100_000)
	dir := t.TempDir()
	disk := &brokenDisk{}
	synced := make(chan struct{}) // the background has come past both blobs
	bothFail(disk, synced, good, bad)
	c := openDir(t, dir, cache.WithHook(disk.hook))
	for _, l := range []content{good, bad} {
		readAll(t, c.Layer(fake(l)).Compressed)
	}
	last := makeLayer(3, 1000)
	readAll(t, c.Layer(fake(last)).Compressed) // in the queue behind them
	<-synced

	failed := "failed:" + layout.Boot()
	for range 2 { // the second checkpoint syncs nothing anew
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, l := range []content{good, bad} {
			if got := unsynced(t, dir, l.digest()); got != failed {
				t.Errorf("%s: unsynced is %q, want %q", l.digest(), got, failed)
			}
		}
		if got := unsynced(t, dir, last.digest()); got != "" {
			t.Errorf("%s: unsynced is %q, want none", last.digest(), got)
		}
		checkForms(t, c.Layer(fake(good)), good) // commits the tar, so that there is something to checkpoint
	}
	if c.Stats().WriteFaults == 0 {
		t.Error("WriteFaults: got 0")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	// Under the same boot the bytes in memory prove nothing of the disk.
	again := openDir(t, dir)
	checkForms(t, mustGet(t, again, good.digest()), good)
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if got := unsynced(t, dir, good.digest()); got != failed {
		t.Errorf("after a read under the same boot: unsynced is %q, want %q", got, failed)
	}

	anotherBoot(t, dir)
	zero(t, blobPath(dir, bad.digest()))
	reads := 0
	counting := &brokenDisk{fails: func(op, name string) bool {
		if op == "read" && strings.HasSuffix(name, good.digest().Hex) {
			reads++
		}
		return false
	}}
	after := openDir(t, dir, cache.WithHook(counting.hook))
	mustGet(t, after, good.digest())
	if counting.set(nil); reads == 0 {
		t.Error("the blob was not hashed before it was served")
	}
	checkForms(t, mustGet(t, after, good.digest()), good)
	wantNotFound(t, after, bad.digest())
	if got := after.Stats().Repairs; got != 1 {
		t.Errorf("Repairs: got %d, want 1", got)
	}
	if err := after.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := unsynced(t, dir, good.digest()); got != "" {
		t.Errorf("read from the disk, and still unsynced: %q", got)
	}
}

// bothFail has the first sync of each layer's blob fail, and closes synced
// when the background syncs another blob after that.
func bothFail(disk *brokenDisk, synced chan struct{}, layers ...content) {
	todo := map[string]bool{}
	for _, l := range layers {
		todo["blobs/sha256/"+l.digest().Hex] = true
	}
	told := false
	disk.set(func(op, name string) bool {
		if op != "sync" || !strings.HasPrefix(name, "blobs/sha256/") {
			return false
		}
		fails := todo[name]
		delete(todo, name)
		if len(todo) == 0 && !fails && !told {
			told = true
			close(synced)
		}
		return fails
	})
}

// unsynced returns what index.json says of a blob.
func unsynced(t *testing.T, dir string, h v1.Hash) string {
	t.Helper()
	m, err := v1.ParseIndexManifest(bytes.NewReader(readFile(t, filepath.Join(dir, "index.json"))))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		if d.Digest == h {
			return d.Annotations["dev.ggcr.cache.unsynced"]
		}
	}
	t.Fatalf("index.json does not list %s", h)
	return ""
}

// anotherBoot makes what is unsynced be so since a boot before this one.
func anotherBoot(t *testing.T, dir string) {
	t.Helper()
	boot := regexp.MustCompile(regexp.QuoteMeta(layout.Boot()))
	for _, name := range []string{"index.json", filepath.Join(".ocicache", "journal")} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, boot.ReplaceAll(readFile(t, path), []byte("another-boot")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
