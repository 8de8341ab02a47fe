package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocicache/ocicache/cache"
)

// A crash is something that a process does in a directory, and is killed at
// each of its operations on the file system.
type crash struct {
	name string
	dir  func(t *testing.T) string // makes the directory as it is before; its copies are used
	had  ledger                    // what must be so before
	opts []cache.Option
	run  func(c *cache.Cache) error
	// then looks at a copy of the directory, before wantSound does at the
	// directory itself. It may be nil.
	then func(t *testing.T, dir string, said []string)
}

var crashes = append(lifecycleCrashes, []crash{
	{
		name: "create", dir: (*testing.T).TempDir,
		run: func(*cache.Cache) error { return nil },
	},
	{
		name: "fill", dir: settledDir, had: settled,
		run: func(c *cache.Cache) error { return fillAloud(c, 4, "compressed", "uncompressed") },
	},
	{
		name: "fill at once", dir: settledDir, had: settled,
		run: func(c *cache.Cache) error { return fillAloud(c, 4, "uncompressed") },
	},
	{
		name: "fill SyncCommit", dir: settledDir, had: settled, opts: []cache.Option{cache.WithSync(cache.SyncCommit)},
		run: func(c *cache.Cache) error { return fillAloud(c, 4, "compressed", "uncompressed") },
	},
	{
		name: "flush", dir: settledDir, had: settled,
		run: (*cache.Cache).Flush,
	},
	{
		name: "delete", dir: settledDir, had: settled,
		run: func(c *cache.Cache) error { return errors.Join(deleteAloud(c, 1), deleteAloud(c, 3)) },
	},
	{
		name: "reopen", dir: interruptedDir, had: ledger{1: "filled", 2: "filled", 3: "filled", 5: "filled"},
		run: (*cache.Cache).Flush,
	},
	{
		name: "quarantine", dir: corruptDir, had: ledger{1: "corrupt", 2: "filled", 3: "filled"},
		run: func(c *cache.Cache) error { return fillAloud(c, 1, "compressed", "uncompressed") },
	},
}...)

// settled is what settledDir holds: 1 and 2 in index.json, 3 in the journal.
var settled = ledger{1: "filled", 2: "filled", 3: "filled"}

func settledDir(t *testing.T) string {
	from, to := t.TempDir(), t.TempDir()
	c := openHandle(t, from)
	for n := range uint64(3) {
		checkForms(t, c.Layer(fake(small(n+1))), small(n+1))
		if n == 1 {
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	copyDir(t, to, from)
	return to
}

// interruptedDir is of a writer that died in the middle of a checkpoint, while
// others wrote on, and of a fill, and had a blob to unlink.
func interruptedDir(t *testing.T) string {
	from, to := settledDir(t), t.TempDir()
	other := openHandle(t, from)
	c := openHandle(t, from, cache.WithHook(func(op, name string) error {
		if op == "rename" && strings.HasPrefix(name, ".ocicache/new-index.json") && len(listDir(t, to)) == 0 {
			checkForms(t, other.Layer(fake(small(5))), small(5))
			copyDir(t, to, from)
		}
		return nil
	}))
	finish := halfway(t, c, small(4))
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	finish()
	if err := os.WriteFile(filepath.Join(to, ".ocicache", "trash", "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(to, ".ocicache", "journal.old")); err != nil {
		t.Fatal(err)
	}
	return to
}

func corruptDir(t *testing.T) string {
	dir := settledDir(t)
	overwrite(t, blobPath(dir, small(1).digest()), []byte("rot"))
	return dir
}

// copyDir copies a directory with its files' times. What vanishes meanwhile
// is left out.
func copyDir(t *testing.T, to, from string) {
	t.Helper()
	copyFile := func(dst, src string) error {
		fi, err := os.Stat(src)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(src)
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(dst, b, 0o644), os.Chtimes(dst, fi.ModTime(), fi.ModTime()))
	}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dst := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(dst, 0o755)
		}
		if err := copyFile(dst, path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// changing are the operations that a process is killed at. A kill before any
// other one leaves what a kill before the next of these does.
var changing = []string{"mkdir", "create", "write", "truncate", "chtimes", "sync", "rename", "remove", "lock"}

// crashRole is killed at an operation of a crash.
func crashRole(t *testing.T, dir, arg string) {
	which, at, _ := strings.Cut(arg, " ")
	i, err := strconv.Atoi(which)
	must(err)
	left, err := strconv.Atoi(at)
	must(err)
	var mu sync.Mutex
	hook := func(op, name string) error {
		if !slices.Contains(changing, op) {
			return nil
		}
		mu.Lock() // for good, in the end: nothing is done after it
		defer mu.Unlock()
		if left--; left < 0 {
			say("killed before %s %s", op, name)
			self, err := os.FindProcess(os.Getpid())
			must(err)
			must(self.Kill())
			time.Sleep(time.Hour)
		}
		return nil
	}
	c, err := cache.Open(dir, append(crashes[i].opts, cache.WithHook(hook))...)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(crashes[i].run(c), c.Close()); err != nil {
		t.Fatal(err)
	}
	say("ended")
}

// A process is killed with SIGKILL at each operation on the file system, and
// others find the cache sound.
func TestCrash(t *testing.T) {
	for i, crash := range crashes {
		t.Run(crash.name, func(t *testing.T) {
			t.Parallel()
			prepared, tmp := crash.dir(t), memoryDir(t)
			for n := 0; ; n += stride() {
				dir := filepath.Join(tmp, strconv.Itoa(n))
				copyDir(t, dir, prepared)
				out, err := command("crash", dir, fmt.Sprint(i, " ", n)).Output()
				lines := strings.Split(string(out), "\n")
				ended := slices.Contains(lines, "ended")
				if ended && err != nil || !ended && !strings.Contains(string(out), "killed before") {
					t.Fatalf("at point %d: the process failed: %v\n%s", n, err, out)
				}
				t.Run(strconv.Itoa(n), func(t *testing.T) {
					if crash.then != nil {
						other := dir + "-copy"
						t.Cleanup(func() { must(os.RemoveAll(other)) })
						copyDir(t, other, dir)
						crash.then(t, other, lines)
					}
					wantSound(t, dir, crash.had, lines)
				})
				if t.Failed() {
					t.Fatalf("at point %d the process said\n%s", n, out)
				}
				if ended {
					t.Logf("killed at %d points", n/stride())
					return
				}
				must(os.RemoveAll(dir))
			}
		})
	}
}

// wantSound asserts of a directory in which a process was killed: it opens,
// all that must be there is, nothing is wrong, debris goes, what others are
// writing stays, and layers can be filled.
func wantSound(t *testing.T, dir string, had ledger, said []string) {
	t.Helper()
	ledger := ledger{}
	maps.Copy(ledger, had)
	ledger.note(said...)
	ingests, trash := filepath.Join(dir, ".ocicache", "ingest"), filepath.Join(dir, ".ocicache", "trash")

	live := openHandle(t, dir, cache.WithHook(func(op, name string) error {
		if op == "list" && (name == ".ocicache/ingest" || name == ".ocicache/trash") {
			return errors.New("the other one is to sweep")
		}
		return nil
	}))
	before := listDir(t, ingests)
	finish := halfway(t, live, small(9))
	during := slices.DeleteFunc(listDir(t, ingests), func(s string) bool { return slices.Contains(before, s) })
	c := openHandle(t, dir)
	if got := listDir(t, ingests); len(during) != 2 || !slices.Equal(got, during) {
		t.Errorf("ingest holds %v, want what the live writer made there, %v", got, during)
	}
	if got := listDir(t, trash); len(got) > 0 {
		t.Errorf("trash holds %v", got)
	}
	finish()
	mustGet(t, live, small(9).digest()) // its record stands whole behind what was torn
	mustGet(t, c, small(9).digest())
	ledger.check(t, c)
	ledger[9] = "fetched"
	for n := range ledger {
		checkForms(t, c.Layer(fake(small(n))), small(n))
		ledger[n] = "filled"
	}
	ledger.check(t, c)
	ledger.check(t, live)
	for _, c := range []*cache.Cache{c, live} {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	checkDir(t, dir)
	c = openHandle(t, dir, cache.WithReadOnly())
	ledger.check(t, c)
}

// openHandle opens a cache, and leaves the checks that openDir makes in the
// end to the test: others run beside it, and its directory is another's too.
func openHandle(t *testing.T, dir string, opts ...cache.Option) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, append(opts, cache.WithLockTimeout(time.Minute))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) // if it was not closed before
	return c
}

// halfway reads a part of a layer that is not there. What it returns reads
// the rest.
func halfway(t *testing.T, c *cache.Cache, want content) (finish func()) {
	t.Helper()
	gate := make(chan struct{})
	openGate := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(openGate)
	l := fake(want)
	l.compressed = func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(want.blob[:100]), &gatedReader{r: bytes.NewReader(want.blob[100:]), gate: gate})), nil
	}
	rc, err := c.Layer(l).Compressed()
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 50)
	if _, err := io.ReadFull(rc, head); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		openGate()
		rest, err := io.ReadAll(rc)
		if err != nil || !bytes.Equal(append(head, rest...), want.blob) {
			t.Errorf("the layer being filled: %d more bytes, %v", len(rest), err)
		}
		must(rc.Close())
	}
}
