package cache_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/layout"
)

// What a power failure can leave of a blob that was not synced, and what rot
// and meddling do to one: it is noticed before the first byte is served.
func TestChangedBlob(t *testing.T) {
	want := makeLayer(1, 100_000)
	changes := map[string]func(t *testing.T, path string){
		"empty":    func(t *testing.T, path string) { truncate(t, path, 0) },
		"short":    func(t *testing.T, path string) { truncate(t, path, 1000) },
		"long":     func(t *testing.T, path string) { truncate(t, path, 1<<20) },
		"flipped":  func(t *testing.T, path string) { overwrite(t, path, []byte{0x55}) },
		"replaced": func(t *testing.T, path string) { overwrite(t, path, bytes.Repeat([]byte{0}, 1000)) },
	}
	for name, change := range changes {
		for _, form := range []string{"digest", "diffID"} {
			t.Run(name+" "+form, func(t *testing.T) {
				c := open(t)
				l := fake(want)
				checkForms(t, c.Layer(l), want)
				h := want.digest()
				if form == "diffID" {
					h = want.diffID()
				}
				change(t, blobPath(dirOf(c), h))
				checkForms(t, c.Layer(l), want)
				checkForms(t, mustGet(t, c, want.digest()), want)
				checkForms(t, mustGet(t, c, want.diffID()), want)
				if got := c.Stats().Repairs; got != 1 {
					t.Errorf("Repairs: got %d, want 1", got)
				}
				if got := listDir(t, filepath.Join(dirOf(c), ".ocicache", "quarantine")); len(got) != 1 {
					t.Errorf("quarantine holds %v, want the bad blob", got)
				}
			})
		}
	}
}

func truncate(t *testing.T, path string, n int64) {
	t.Helper()
	if err := os.Truncate(path, n); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 100); err != nil {
		t.Fatal(err)
	}
}

// A blob that was only touched is hashed, and served.
func TestTouchedBlob(t *testing.T) {
	want := makeLayer(1, 100_000)
	c := open(t)
	l := fake(want)
	checkForms(t, c.Layer(l), want)
	for _, h := range []v1.Hash{want.digest(), want.diffID()} {
		if err := os.Chtimes(blobPath(dirOf(c), h), time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	checkForms(t, c.Layer(l), want)
	checkForms(t, mustGet(t, c, want.diffID()), want)
	if got := l.opens.Load(); got != 1 {
		t.Errorf("the origin was opened %d times, want once", got)
	}
	if got := c.Stats().Repairs; got != 0 {
		t.Errorf("Repairs: got %d, want 0", got)
	}
}

// After a power failure, what no checkpoint covered is hashed before it is
// served: here the journal says that it was written under another boot, and
// the blob came back as zeros of the right size and time.
func TestUnsyncedBoot(t *testing.T) {
	good, bad := makeLayer(1, 100_000), makeLayer(2, 100_000)
	dir := t.TempDir()
	c := openDir(t, dir, cache.WithSync(cache.SyncNever))
	checkForms(t, c.Layer(fake(good)), good)
	checkForms(t, c.Layer(fake(bad)), bad)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	indexFile := filepath.Join(dir, "index.json")
	b := readFile(t, indexFile)
	boot := layout.Boot()
	if !bytes.Contains(b, []byte(boot)) {
		t.Fatalf("SyncNever: the index does not name the boot:\n%s", b)
	}
	if err := os.WriteFile(indexFile, bytes.ReplaceAll(b, []byte(boot), []byte("another-boot")), 0o644); err != nil {
		t.Fatal(err)
	}
	zero(t, blobPath(dir, bad.digest()))
	zero(t, blobPath(dir, bad.diffID()))

	again := openDir(t, dir)
	checkForms(t, mustGet(t, again, good.digest()), good)
	checkForms(t, mustGet(t, again, good.diffID()), good)
	wantNotFound(t, again, bad.digest())
	wantNotFound(t, again, bad.diffID())
	checkForms(t, again.Layer(fake(bad)), bad)
	if got := again.Stats().Repairs; got != 2 {
		t.Errorf("Repairs: got %d, want 2", got)
	}
	if err := again.Flush(); err != nil {
		t.Fatal(err)
	}
	if b := readFile(t, indexFile); bytes.Contains(b, []byte("another-boot")) || bytes.Contains(b, []byte(boot)) {
		t.Errorf("after verifying and a checkpoint, all is synced; the index says\n%s", b)
	}
}

// zero overwrites a file with zeros and gives it back its time.
func zero(t *testing.T, path string) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, fi.Size()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, fi.ModTime()); err != nil {
		t.Fatal(err)
	}
}

func TestSyncLevels(t *testing.T) {
	want := makeLayer(1, 100_000)
	boot := layout.Boot()
	for _, tc := range []struct {
		level              cache.SyncLevel
		inJournal, inIndex bool // is the boot named
	}{
		{cache.SyncCheckpoint, true, false},
		{cache.SyncCommit, false, false},
		{cache.SyncNever, true, true},
	} {
		c := open(t, cache.WithSync(tc.level))
		checkForms(t, c.Layer(fake(want)), want)
		journal := readFile(t, filepath.Join(dirOf(c), ".ocicache", "journal"))
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		index := readFile(t, filepath.Join(dirOf(c), "index.json"))
		mark := []byte(`dev.ggcr.cache.unsynced":"` + boot)
		if got := bytes.Contains(journal, mark); got != tc.inJournal {
			t.Errorf("level %d: unsynced in the journal: %v, want %v", tc.level, got, tc.inJournal)
		}
		if got := bytes.Contains(index, mark); got != tc.inIndex {
			t.Errorf("level %d: unsynced in the index: %v, want %v", tc.level, got, tc.inIndex)
		}
	}
}
