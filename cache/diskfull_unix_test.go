//go:build unix

package cache_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// A fullDisk is a disk that has room for few layers, and a directory on it
// for a cache.
type fullDisk struct {
	dir    string
	layers int            // more than there is room for
	size   int            // of each one's tar, in bytes
	opts   []cache.Option // that make it small, if it is not
	space  int64          // bytes, if opts make it small; else 0
}

// The disk is full as far as the hook can tell; a real one is in
// diskfull_linux_test.go.
func TestFullDisk(t *testing.T) {
	d := &fullDisk{dir: t.TempDir(), layers: 12, size: 300_000, space: 3 << 20}
	d.opts = []cache.Option{cache.WithHook(d.hook)}
	testFullDisk(t, d)
}

// hook gives the errors of a disk of d.space bytes.
func (d *fullDisk) hook(op, name string) error {
	fi, err := os.Stat(filepath.Join(d.dir, name))
	switch {
	case op == "write" && err == nil && 0 < fi.Size()%block && fi.Size()%block < block-256:
		return nil // into the file's last block: a record of a deletion fits
	case op == "write", op == "create", op == "mkdir" && err != nil:
		if d.used() >= d.space {
			return syscall.ENOSPC
		}
	}
	return nil
}

const block = 4096

// used returns how many bytes the files on the disk take.
func (d *fullDisk) used() (n int64) {
	_ = filepath.WalkDir(d.dir, func(_ string, de fs.DirEntry, err error) error {
		if err != nil { // it was removed meanwhile
			return nil
		}
		if fi, err := de.Info(); err == nil {
			n += (fi.Size() + block - 1) / block * block
		}
		return nil
	})
	return n
}

// fill takes what is left of the disk: bytes and names.
func (d *fullDisk) fill(t *testing.T) {
	t.Helper()
	for d.space == 0 || d.used() < d.space {
		f, err := os.CreateTemp(d.dir, "ballast-")
		if err == nil {
			_, err = f.Write(make([]byte, block))
			err = errors.Join(err, f.Close())
		}
		if errors.Is(err, syscall.ENOSPC) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (d *fullDisk) open(t *testing.T, opts ...cache.Option) *cache.Cache {
	t.Helper()
	c, err := cache.Open(d.dir, append(opts, d.opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testFullDisk(t *testing.T, d *fullDisk) {
	t.Cleanup(func() { checkGoroutines(t) })
	var layers []content
	for i := range d.layers {
		layers = append(layers, makeLayer(uint64(i), d.size))
	}
	c := d.open(t, cache.WithMinFree(0))
	for i, l := range layers {
		readTogether(t, c, l)
		if i == 0 {
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c.Stats().WriteFaults == 0 {
		t.Error("WriteFaults: got 0; nothing failed, and the test tests nothing")
	}
	if got := checkKept(t, c, layers); got == 0 || got == len(layers) {
		t.Errorf("%d of %d layers were kept", got, len(layers))
	}

	d.makeRoom(t, c, layers)
	d.fill(t)
	index := readFile(t, filepath.Join(d.dir, "index.json"))
	switch err := c.Flush(); {
	case err != nil && !errors.Is(err, syscall.ENOSPC):
		t.Errorf("Flush: %v", err)
	case err != nil && !bytes.Equal(readFile(t, filepath.Join(d.dir, "index.json")), index):
		t.Errorf("Flush: %v, and index.json is another one", err)
	}
	for _, l := range layers {
		readTogether(t, c, l)
	}
	kept := checkKept(t, c, layers)
	d.close(t, c)

	// Opening it again takes no room, and with the default reserve nothing is
	// filled.
	reserve := cache.WithMinFree(128 << 20)
	if d.space > 0 {
		reserve = cache.WithMinFree(1 << 62) // what is really free is another disk's
	}
	for _, opt := range []cache.Option{cache.WithReadOnly(), cache.WithMinFree(0), reserve} {
		c := d.open(t, opt)
		if got := checkKept(t, c, layers); got < kept {
			t.Errorf("%d layers after reopening on a full disk, there were %d", got, kept)
		}
		for _, l := range layers {
			readTogether(t, c, l)
		}
		d.close(t, c)
	}
	d.empty(t)
	c = d.open(t, reserve)
	before := len(blobs(t, d.dir))
	for _, l := range layers {
		readTogether(t, c, l)
	}
	if got := len(blobs(t, d.dir)); got != before {
		t.Errorf("%d blobs beyond the reserve, there were %d", got, before)
	}
	if c.Stats().WriteFaults == 0 {
		t.Error("WriteFaults: got 0 beyond the reserve")
	}
	if err := c.Close(); err != nil { // checkpoints: there is room again
		t.Errorf("Close: %v", err)
	}
	checkDir(t, d.dir)
}

// makeRoom deletes layers on a full disk. Then there is room for another.
func (d *fullDisk) makeRoom(t *testing.T, c *cache.Cache, layers []content) {
	t.Helper()
	remove := func(l content) {
		t.Helper()
		for _, h := range []v1.Hash{l.digest(), l.diffID()} {
			if err := c.Delete(h); err != nil {
				t.Errorf("Delete on a full disk: %v", err)
			}
			wantNotFound(t, c, h)
		}
	}
	// A record must fit into the journal's last block, so the journal is to be
	// a short one: with a layer gone, there is room for a checkpoint.
	remove(layers[0])
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	d.fill(t)
	remove(layers[1])
	remove(layers[2])
	next := makeLayer(100, d.size/3)
	readTogether(t, c, next)
	checkForms(t, mustGet(t, c, next.digest()), next)
	checkForms(t, mustGet(t, c, next.diffID()), next)
}

// close closes a cache, which may have no room for its checkpoint.
func (d *fullDisk) close(t *testing.T, c *cache.Cache) {
	t.Helper()
	if err := c.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close: %v", err)
	}
}

// empty takes away what fill made.
func (d *fullDisk) empty(t *testing.T) {
	t.Helper()
	for _, name := range listDir(t, d.dir) {
		if strings.HasPrefix(name, "ballast-") {
			if err := os.Remove(filepath.Join(d.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// readTogether reads a layer several times at once, in both forms.
func readTogether(t *testing.T, c *cache.Cache, want content) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			l := c.Layer(fake(want))
			open, bytesOf := l.Compressed, want.blob
			if i%2 == 1 {
				open, bytesOf = l.Uncompressed, want.tar
			}
			if got, err := tryRead(open); err != nil || !bytes.Equal(got, bytesOf) {
				t.Errorf("reader %d: got %d bytes, %v; want %d", i, len(got), err, len(bytesOf))
			}
		})
	}
	wg.Wait()
}

// checkKept looks that what is there is whole, and returns how much is.
func checkKept(t *testing.T, c *cache.Cache, layers []content) (n int) {
	t.Helper()
	for _, want := range layers {
		if l, err := c.Get(want.digest()); err == nil {
			n++
			checkForms(t, l, want)
		}
		if l, err := c.Get(want.diffID()); err == nil {
			if got := readAll(t, l.Uncompressed); !bytes.Equal(got, want.tar) {
				t.Errorf("Uncompressed: got %d bytes, want %d", len(got), len(want.tar))
			}
		}
	}
	return n
}
