//go:build linux || darwin

package cache_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocicache/ocicache/cache"
)

// os.Root.OpenRoot and os.Root.Open wait at a FIFO.
func TestHostileFIFOInPlaceOfDirectory(t *testing.T) {
	for _, place := range []string{"blobs/sha256", "blobs/sha512"} {
		t.Run(place, func(t *testing.T) {
			n := newNest(t)
			n.replace(t, place, "FIFO")
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := cache.Open(n.dir)
				if err != nil {
					return
				}
				n.use(t, c)
			}()
			select {
			case <-done:
			case <-time.After(5 * time.Second):
				t.Error("hangs")
				for range 100 { // let it go
					if f, err := os.OpenFile(filepath.Join(n.dir, place), os.O_RDWR|unix.O_NONBLOCK, 0); err == nil {
						defer f.Close()
					}
				}
				<-done
			}
		})
	}
}

// A sweep emptied whatever ingest or trash is a link to, within the
// directory: the blobs, other tools' too.
func TestHostileLinkedTrash(t *testing.T) {
	for place, to := range map[string]string{
		".ocicache/trash": "../blobs/sha256", ".ocicache/ingest": "../blobs/sha256", ".ocicache/quarantine": "../blobs/sha256",
	} {
		t.Run(place, func(t *testing.T) {
			n := newNest(t)
			theirs := []byte("another tool's blob")
			path := blobPath(n.dir, digestOf(theirs))
			if err := os.WriteFile(path, theirs, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(n.dir, place)); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(to, filepath.Join(n.dir, place)); err != nil {
				t.Fatal(err)
			}
			if c, err := cache.Open(n.dir); err == nil {
				c.Close()
			}
			if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, theirs) {
				t.Errorf("opening removed a blob of another tool: %v", err)
			}
		})
	}
	n := newNest(t)
	if err := os.RemoveAll(filepath.Join(n.dir, ".ocicache/trash")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..", filepath.Join(n.dir, ".ocicache/trash")); err != nil {
		t.Fatal(err)
	}
	if c, err := cache.Open(n.dir); err == nil {
		c.Close()
	}
	for _, name := range []string{"index.json", "oci-layout"} {
		if _, err := os.Stat(filepath.Join(n.dir, name)); err != nil {
			t.Errorf("opening removed %s", name)
		}
	}
}

// Lock files are opened by path, and led outside if a directory above
// them had become a link since the cache was opened.
func TestHostileLockOutside(t *testing.T) {
	for _, place := range []string{".ocicache", ".ocicache/ingest"} {
		t.Run(place, func(t *testing.T) {
			n := newNest(t)
			c, err := cache.Open(n.dir)
			if err != nil {
				t.Fatal(err)
			}
			n.replace(t, place, "link outside")
			n.use(t, c)
		})
	}
}
