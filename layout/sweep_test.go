package layout_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ocicache/ocicache/layout"
)

// Ingests begin and end while others open the layout and checkpoint it, which
// sweeps: none is taken for debris.
func TestIngestWhileOthersSweep(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				l, err := layout.Open(dir, layout.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				l.Close()
			}
		})
	}
	for range 2000 {
		in, err := h.Ingest()
		if err != nil {
			t.Error(err)
			break
		}
		if err := in.Close(); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	wg.Wait()
}

// Another tool removed the lock file of an ingest that is over: its bytes are
// debris all the same.
func TestSweepWithoutLockFile(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	live, err := h.Ingest()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	for _, sweep := range []func(){func() { open(t, dir) }, func() { h.add("a"); h.fold() }} {
		write(t, filepath.Join(dir, ".ocicache", "ingest", "debris"), "debris")
		write(t, filepath.Join(dir, ".ocicache", "trash", "debris"), "debris")
		sweep()
		if got := ingests(t, h); len(got) != 2 {
			t.Errorf("got %q, want the live one and its lock", got)
		}
		if _, err := os.Stat(filepath.Join(dir, ".ocicache", "trash", "debris")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("trash: got %v, want it gone", err)
		}
	}
}

// When an update fails after it committed, no blob stays that no record
// lists. One that was there before stays.
func TestUpdateTakesBack(t *testing.T) {
	h := open(t, t.TempDir())
	old := h.commit("old")
	broken := errors.New("broken")
	for _, data := range []string{"old", "new"} {
		in, err := h.Ingest()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(in, data); err != nil {
			t.Fatal(err)
		}
		err = h.Update(t.Context(), func(tx *layout.Tx) error {
			if _, err := tx.Commit(in, digestOf(data)); err != nil {
				t.Error(err)
			}
			return broken
		})
		if !errors.Is(err, broken) {
			t.Errorf("%s: got %v, want its own error", data, err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
	wantBlob(t, h, old, "old")
	if _, _, err := h.StatBlob(digestOf("new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("new: got %v, want it gone", err)
	}
}

// Another tool removed the directories that blobs are moved away to.
func TestMoveAwayMakesDirectory(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	trashed, bad := h.commit("trashed"), h.commit("bad")
	for _, name := range []string{"trash", "quarantine"} {
		if err := os.RemoveAll(filepath.Join(dir, ".ocicache", name)); err != nil {
			t.Fatal(err)
		}
	}
	err := h.Update(t.Context(), func(tx *layout.Tx) error {
		return errors.Join(tx.Trash(trashed), tx.Quarantine(bad))
	})
	if err != nil {
		t.Fatal(err)
	}
	if blobs, others, err := h.Blobs(); len(blobs)+len(others) != 0 || err != nil {
		t.Errorf("got %v, %q, %v; want none", blobs, others, err)
	}
	if got := read(t, filepath.Join(dir, ".ocicache", "quarantine", "sha256-"+bad.Hex)); got != "bad" {
		t.Errorf("quarantine: got %q", got)
	}
}
