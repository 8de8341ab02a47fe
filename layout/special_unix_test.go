//go:build linux || darwin

package layout_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ocicache/ocicache/layout"
)

// Files that are none, in a blob's place: nothing waits, and the error says
// what it is.
func TestBlobSpecialFile(t *testing.T) {
	tests := map[string]func(t *testing.T, path string) error{
		"FIFO": func(_ *testing.T, path string) error { return unix.Mkfifo(path, 0o600) },
		"device": func(_ *testing.T, path string) error {
			err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))
			if errors.Is(err, unix.EPERM) {
				return unix.Mkfifo(path, 0o600) // only root may make a device
			}
			return err
		},
		"socket": func(t *testing.T, path string) error {
			wd := filepath.Dir(path)
			t.Chdir(wd) // the path of a socket is bounded
			l, err := net.Listen("unix", "s")
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
			return os.Rename("s", path)
		},
	}
	for name, make := range tests {
		t.Run(name, func(t *testing.T) {
			h := open(t, t.TempDir())
			digest := digestOf(name)
			if err := make(t, filepath.Join(h.Dir(), "blobs", "sha256", digest.Hex)); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Blob(digest); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("open: got %v, want fs.ErrInvalid", err)
			}
			if _, _, err := h.StatBlob(digest); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("stat: got %v, want fs.ErrInvalid", err)
			}
			if err := h.SyncBlob(digest); err == nil {
				t.Error("synced")
			}
			h.commit(name)
			wantBlob(t, h, digest, name)
		})
	}
}

// A FIFO in the place of a file of ours fails what needs it, and holds
// nothing up.
func TestSpecialFileOfOurs(t *testing.T) {
	for _, name := range []string{"oci-layout", "index.json", ".ocicache/version", ".ocicache/journal", ".ocicache/journal.old"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			h := open(t, dir)
			h.add("x")
			path := filepath.Join(dir, name)
			b, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if b != nil {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := layout.Open(dir, layout.Options{})
			if err == nil {
				err = l.Load(&replica{})
				l.Close()
			}
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("got %v, want fs.ErrInvalid", err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if b != nil {
				write(t, path, string(b))
			}
			open(t, dir).want("x")
		})
	}
}
