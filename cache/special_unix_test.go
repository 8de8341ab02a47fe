//go:build linux || darwin

package cache_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocicache/ocicache/cache"
)

// watchdog fails the test with all stacks if it hangs.
func watchdog(t *testing.T) {
	t.Helper()
	timer := time.AfterFunc(time.Minute, func() {
		buf := make([]byte, 1<<20)
		panic(fmt.Sprintf("%s hangs\n%s", t.Name(), buf[:runtime.Stack(buf, true)]))
	})
	t.Cleanup(func() { timer.Stop() })
}

// A nest is a cache's directory with things around it that are not the
// cache's to touch.
type nest struct {
	outside string // canaries
	dir     string
	known   content // is in the cache, in both forms
	before  []string
}

// newNest makes a nest, with known in its cache. A record of it is left in the
// journal.
func newNest(t *testing.T) *nest {
	t.Helper()
	top := t.TempDir()
	n := &nest{outside: filepath.Join(top, "outside"), dir: filepath.Join(top, "cache"), known: makeLayer(1, 3000)}
	c, err := cache.Open(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	checkForms(t, c.Layer(fake(n.known)), n.known)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(n.outside, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "dir/file", "dir/file.lock", "dir/" + n.known.digest().Hex} {
		if err := os.WriteFile(filepath.Join(n.outside, name), []byte("canary"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// watch notes what is outside, to see whether that changes.
func (n *nest) watch(t *testing.T) {
	n.before = n.tree(t)
	t.Cleanup(func() {
		if after := n.tree(t); !slices.Equal(n.before, after) {
			t.Errorf("outside of the cache, what was\n%s\nis now\n%s", strings.Join(n.before, "\n"), strings.Join(after, "\n"))
		}
	})
}

func (n *nest) tree(t *testing.T) (lines []string) {
	err := filepath.WalkDir(filepath.Dir(n.dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == n.dir {
			return fs.SkipDir
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		text := ""
		if fi.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = digestOf(b).Hex
		}
		if path != filepath.Dir(n.dir) {
			lines = append(lines, fmt.Sprint(path, fi.Mode(), fi.Size(), fi.ModTime(), text))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// kinds of things that may stand in the place of a file or directory. Each is
// given the path, and the path of a copy of what was there outside the cache.
var kinds = map[string]func(t *testing.T, path, copied string) error{
	"link outside":          func(_ *testing.T, path, copied string) error { return os.Symlink(copied, path) },
	"relative link outside": relativeLink,
	"link to a directory": func(_ *testing.T, path, copied string) error {
		return os.Symlink(filepath.Join(filepath.Dir(copied), "dir"), path)
	},
	"link to a new file": func(_ *testing.T, path, copied string) error {
		return os.Symlink(filepath.Join(filepath.Dir(copied), "new"), path)
	},
	"link to nothing":  func(_ *testing.T, path, _ string) error { return os.Symlink("nothing", path) },
	"link to itself":   func(_ *testing.T, path, _ string) error { return os.Symlink(filepath.Base(path), path) },
	"link to a device": func(_ *testing.T, path, _ string) error { return os.Symlink("/dev/zero", path) },
	"FIFO":             func(_ *testing.T, path, _ string) error { return unix.Mkfifo(path, 0o600) },
	"device":           device,
	"socket":           socket,
	"directory":        func(_ *testing.T, path, _ string) error { return os.MkdirAll(filepath.Join(path, "below"), 0o700) },
	"file":             func(_ *testing.T, path, _ string) error { return os.WriteFile(path, []byte("text"), 0o600) },
}

func relativeLink(_ *testing.T, path, copied string) error {
	to, err := filepath.Rel(filepath.Dir(path), copied)
	if err != nil {
		return err
	}
	return os.Symlink(to, path)
}

// device makes one like /dev/zero, or a FIFO if only root may.
func device(_ *testing.T, path, _ string) error {
	err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))
	if errors.Is(err, unix.EPERM) {
		return unix.Mkfifo(path, 0o600)
	}
	return err
}

func socket(t *testing.T, path, _ string) error {
	t.Chdir(filepath.Dir(path)) // the path of a socket is bounded
	l, err := net.Listen("unix", "s")
	if err != nil {
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	t.Cleanup(func() { l.Close() })
	return os.Rename("s", path)
}

// replace puts a thing in the place of a file or directory of the cache, a
// copy of which is outside.
func (n *nest) replace(t *testing.T, place, kind string) {
	t.Helper()
	path, copied := filepath.Join(n.dir, place), filepath.Join(n.outside, "copy")
	from := path
	if place == ".ocicache/journal.old" {
		from = filepath.Join(n.dir, ".ocicache/journal")
	}
	if fi, err := os.Lstat(from); err == nil && fi.IsDir() {
		if err := os.CopyFS(copied, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	} else if err == nil {
		if err := os.WriteFile(copied, readFile(t, from), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.watch(t)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := kinds[kind](t, path, copied); err != nil {
		t.Fatal(err)
	}
}

var places = []string{
	"blob", "tar", "index.json", "oci-layout", "blobs", "blobs/sha256", "blobs/sha512", ".ocicache",
	".ocicache/version", ".ocicache/journal", ".ocicache/journal.old", ".ocicache/lock", ".ocicache/checkpoint.lock",
	".ocicache/ingest", ".ocicache/trash", ".ocicache/quarantine",
}

// eachSpecial runs test for each kind of thing in each place.
func eachSpecial(t *testing.T, test func(t *testing.T, n *nest, place, kind string)) {
	watchdog(t)
	for _, place := range places {
		for kind := range kinds {
			t.Run(place+"/"+kind, func(t *testing.T) {
				n := newNest(t)
				at, ok := map[string]string{
					"blob": "blobs/sha256/" + n.known.digest().Hex,
					"tar":  "blobs/sha256/" + n.known.diffID().Hex,
				}[place]
				if !ok {
					at = place
				}
				test(t, n, at, kind)
			})
		}
	}
}

// use does with an open cache what can be done, and looks that origins are
// read and nothing wrong is served.
func (n *nest) use(t *testing.T, c *cache.Cache) {
	t.Helper()
	fresh := makeLayer(2, 3000)
	for _, h := range []content{n.known, fresh} {
		checkServed(t, c, h.digest(), honest, false)
		checkServed(t, c, h.diffID(), honest, false)
		checkForms(t, c.Layer(fake(h)), h)
		checkForms(t, layersOf(t, c.Image(imageOf(t, fake(h))))[0], h)
		checkServed(t, c, h.digest(), honest, false)
	}
	_, _ = c.Verify(t.Context(), cache.VerifyOptions{}) // puts aside what is bad
	checkForms(t, c.Layer(fake(fresh)), fresh)
	for name, err := range map[string]error{"Delete": c.Delete(n.known.diffID()), "Flush": c.Flush(), "Close": c.Close()} {
		if err != nil && !errors.Is(err, cache.ErrNotFound) && !errors.Is(err, cache.ErrReadOnly) && !strings.Contains(err.Error(), ".ocicache") && !strings.Contains(err.Error(), "blobs") && !strings.Contains(err.Error(), "index.json") && !strings.Contains(err.Error(), n.dir) {
			t.Errorf("%s: %v, which names no path", name, err)
		}
	}
}

// A thing that is no regular file, or no directory, is in a place when the
// cache is opened.
func TestSpecialFiles(t *testing.T) {
	eachSpecial(t, func(t *testing.T, n *nest, place, kind string) {
		n.replace(t, place, kind)
		for _, opts := range [][]cache.Option{{cache.WithReadOnly()}, nil, {cache.WithRecovery()}} {
			c, err := cache.Open(n.dir, opts...)
			if err != nil {
				if !strings.Contains(err.Error(), n.dir) || !strings.Contains(err.Error(), filepath.Base(place)) {
					t.Errorf("Open: %v, which does not name %s", err, place)
				}
				continue
			}
			n.use(t, c)
		}
	})
}

// It comes while the cache is open.
func TestSpecialFilesLater(t *testing.T) {
	eachSpecial(t, func(t *testing.T, n *nest, place, kind string) {
		ro, err := cache.Open(n.dir, cache.WithReadOnly())
		if err != nil {
			t.Fatal(err)
		}
		c, err := cache.Open(n.dir)
		if err != nil {
			t.Fatal(err)
		}
		n.replace(t, place, kind)
		n.use(t, ro)
		n.use(t, c)
	})
}

// Debris of any kind goes, or stays, and leads nowhere.
func TestSpecialDebris(t *testing.T) {
	watchdog(t)
	n := newNest(t)
	if err := os.WriteFile(filepath.Join(n.outside, "copy"), []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.watch(t)
	for _, sub := range []string{"ingest", "trash", "quarantine"} {
		for kind, make := range kinds {
			for _, suffix := range []string{"", ".lock", ".lock.lock"} {
				path := filepath.Join(n.dir, ".ocicache", sub, strings.ReplaceAll(kind, " ", "-")+suffix)
				if err := make(t, path, filepath.Join(n.outside, "copy")); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := os.WriteFile(filepath.Join(n.dir, ".ocicache", "ingest", ".lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := cache.Open(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range listDir(t, filepath.Join(n.dir, ".ocicache", "trash")) {
		if !strings.Contains(name, "directory") || strings.HasPrefix(name, "link") { // that is not empty
			t.Errorf("trash holds %s", name)
		}
	}
	n.use(t, c)
}
