package layout_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocicache/ocicache/layout"
)

func TestIngestAbort(t *testing.T) {
	h := open(t, t.TempDir())
	in, err := h.Ingest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "half"); err != nil {
		t.Fatal(err)
	}
	if got := ingests(t, h); len(got) != 2 {
		t.Errorf("while it is written: got %q, want a file and its lock", got)
	}
	for range 2 {
		if err := in.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if got := ingests(t, h); len(got) != 0 {
		t.Errorf("after the abort: got %q", got)
	}
	if got := names(t, filepath.Join(h.Dir(), "blobs", "sha256")); len(got) != 0 {
		t.Errorf("blobs: got %q", got)
	}
}

func TestIngestCommit(t *testing.T) {
	h := open(t, t.TempDir())
	in, err := h.Ingest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "whole"); err != nil {
		t.Fatal(err)
	}
	digest := digestOf("whole")
	var modTime int64
	err = h.Update(t.Context(), func(tx *layout.Tx) (err error) {
		modTime, err = tx.Commit(in, digest)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantBlob(t, h, digest, "whole")
	if _, got, err := h.StatBlob(digest); got != modTime || err != nil {
		t.Errorf("modification time: got %d, %v, want %d as Commit said", got, err, modTime)
	}
	// A write that is yet to come must show, on a clock of two seconds.
	if age := time.Since(time.Unix(0, modTime)); age < 2*time.Second || modTime%int64(2*time.Second) != 0 {
		t.Errorf("modification time %d is %v ago, want whole, and over two seconds", modTime, age)
	}
	got := make([]byte, 5)
	if _, err := in.ReadAt(got, 0); err != nil || string(got) != "whole" {
		t.Errorf("read after the commit: got %q, %v", got, err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, h, digest, "whole")
	if got := ingests(t, h); len(got) != 0 {
		t.Errorf("after the commit: got %q", got)
	}
	b, err := h.Blob(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Write([]byte("x")); err == nil {
		t.Error("a committed blob was opened for writing")
	}
}

// A commit takes the place of whatever is there.
func TestIngestCommitOver(t *testing.T) {
	h := open(t, t.TempDir())
	digest := digestOf("good")
	write(t, filepath.Join(h.Dir(), "blobs", "sha256", digest.Hex), "rotten")
	old, err := h.Blob(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	h.commit("good")
	wantBlob(t, h, digest, "good")
	if got, err := io.ReadAll(old); string(got) != "rotten" || err != nil {
		t.Errorf("who has the old one open: got %q, %v", got, err)
	}
}

func TestCommitTwice(t *testing.T) {
	h := open(t, t.TempDir())
	in, err := h.Ingest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "once"); err != nil {
		t.Fatal(err)
	}
	commit := func() error {
		return h.Update(t.Context(), func(tx *layout.Tx) error {
			_, err := tx.Commit(in, digestOf("once"))
			return err
		})
	}
	if err := commit(); err != nil {
		t.Fatal(err)
	}
	if err := commit(); err == nil {
		t.Error("committed twice")
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := commit(); err == nil {
		t.Error("committed after Close")
	}
	wantBlob(t, h, digestOf("once"), "once")
}

// Another tool may remove and make again the directory of the blobs while we
// have it open.
func TestCommitBlobsReplaced(t *testing.T) {
	h := open(t, t.TempDir())
	first := h.commit("first")
	if err := os.RemoveAll(filepath.Join(h.Dir(), "blobs")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Blob(first); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	wantBlob(t, h, h.commit("second"), "second")
	other := open(t, h.Dir())
	wantBlob(t, other, digestOf("second"), "second")
}

// What a dead process left is removed when the layout is opened; what a live
// one writes is left alone.
func TestSweep(t *testing.T) {
	h := open(t, t.TempDir())
	live, err := h.Ingest()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	if _, err := io.WriteString(live, "live"); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(h.Dir(), ".ocicache"), map[string]string{
		"ingest/dead":       "half",
		"ingest/dead.lock":  "",
		"ingest/early.lock": "", // died before it made the file, or after the commit
		"trash/dead":        "x",
		"quarantine/kept":   "rotten",
	})
	open(t, h.Dir())
	if got := ingests(t, h); len(got) != 2 {
		t.Errorf("ingest: got %q, want the live one alone", got)
	}
	if got := names(t, filepath.Join(h.Dir(), ".ocicache", "trash")); len(got) != 0 {
		t.Errorf("trash: got %q", got)
	}
	if got := names(t, filepath.Join(h.Dir(), ".ocicache", "quarantine")); len(got) != 1 {
		t.Errorf("quarantine: got %q, want what was there", got)
	}
	err = h.Update(t.Context(), func(tx *layout.Tx) error {
		_, err := tx.Commit(live, digestOf("live"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantBlob(t, h, digestOf("live"), "live")
}

func TestQuarantine(t *testing.T) {
	h := open(t, t.TempDir())
	digest := digestOf("good")
	for _, bytes := range []string{"rotten", "rotten again"} {
		write(t, filepath.Join(h.Dir(), "blobs", "sha256", digest.Hex), bytes)
		err := h.Update(t.Context(), func(tx *layout.Tx) error { return tx.Quarantine(digest) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Blob(digest); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want fs.ErrNotExist", err)
		}
		if got := read(t, filepath.Join(h.Dir(), ".ocicache", "quarantine", "sha256-"+digest.Hex)); got != bytes {
			t.Errorf("kept aside: got %q, want %q", got, bytes)
		}
	}
	err := h.Update(t.Context(), func(tx *layout.Tx) error {
		return errors.Join(tx.Quarantine(digest), tx.Trash(digest))
	})
	if err != nil {
		t.Errorf("a blob that is not there: %v", err)
	}
}

func ingests(t *testing.T, h *handle) []string {
	return names(t, filepath.Join(h.Dir(), ".ocicache", "ingest"))
}
