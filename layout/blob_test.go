package layout_test

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/layout"
)

func TestBlobSHA512(t *testing.T) {
	h := open(t, t.TempDir())
	sum := sha512.Sum512([]byte("long"))
	digest := v1.Hash{Algorithm: "sha512", Hex: hex.EncodeToString(sum[:])}
	if _, err := h.Blob(digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the commit: got %v, want fs.ErrNotExist", err)
	}
	in, err := h.Ingest()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := io.WriteString(in, "long"); err != nil {
		t.Fatal(err)
	}
	err = h.Update(t.Context(), func(tx *layout.Tx) error {
		_, err := tx.Commit(in, digest)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantBlob(t, h, digest, "long")
	if got := read(t, filepath.Join(h.Dir(), "blobs", "sha512", digest.Hex)); got != "long" {
		t.Errorf("file: got %q", got)
	}
	if err := h.SyncBlob(digest); err != nil {
		t.Error(err)
	}
	if err := h.SyncDirs(); err != nil {
		t.Error(err)
	}
}

// What is no digest names no file, whatever path it would make.
func TestBlobBadDigest(t *testing.T) {
	h := open(t, t.TempDir())
	good := h.commit("x").Hex
	bad := []v1.Hash{
		{},
		{Algorithm: "sha256"},
		{Hex: good},
		{Algorithm: "sha256", Hex: strings.ToUpper(good)},
		{Algorithm: "SHA256", Hex: good},
		{Algorithm: "sha512", Hex: good},
		{Algorithm: "md5", Hex: good[:32]},
		{Algorithm: "sha256", Hex: good[:63]},
		{Algorithm: "sha256", Hex: good + "0"},
		{Algorithm: "sha256", Hex: good[:63] + "\x00"},
		{Algorithm: "sha256", Hex: good[:63] + "g"},
		{Algorithm: "sha256", Hex: good[:63] + "/"},
		{Algorithm: "sha256", Hex: "../sha256/" + good[:54]},
		{Algorithm: "sha256", Hex: strings.Repeat("../", 20) + "etc/"},
		{Algorithm: "../blobs/sha256", Hex: good},
		{Algorithm: "sha256/../sha256", Hex: good},
		{Algorithm: "sha256\x00", Hex: good},
		{Algorithm: "", Hex: "sha256/" + good},
	}
	before := tree(t, h.Dir())
	for _, digest := range bad {
		if h.Valid(digest) {
			t.Errorf("%q is valid", digest)
		}
		if b, err := h.Blob(digest); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %q: got %v, %v, want fs.ErrNotExist", digest, b, err)
		}
		if _, _, err := h.StatBlob(digest); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat %q: got %v, want fs.ErrNotExist", digest, err)
		}
		if err := h.SyncBlob(digest); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("sync %q: got %v, want fs.ErrNotExist", digest, err)
		}
	}
	wantSameTree(t, before, tree(t, h.Dir()))

	in, err := h.Ingest()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, digest := range bad {
		err := h.Update(t.Context(), func(tx *layout.Tx) error {
			if err := errors.Join(tx.Trash(digest), tx.Quarantine(digest)); err != nil {
				t.Errorf("move %q away: %v", digest, err)
			}
			_, err := tx.Commit(in, digest)
			return err
		})
		if err == nil {
			t.Errorf("%q was committed", digest)
		}
	}
	wantBlob(t, h, v1.Hash{Algorithm: "sha256", Hex: good}, "x")
}

// A link is never followed out of the directory of blobs.
func TestBlobSymlink(t *testing.T) {
	tests := []struct {
		name, target string
		want         error
	}{
		{"to an absolute path", "/etc/hostname", fs.ErrInvalid},
		{"out of the layout", "../../../secret", fs.ErrInvalid},
		{"out of the blobs", "../../oci-layout", fs.ErrInvalid},
		{"to itself", digestOf("link").Hex, fs.ErrInvalid},
		{"to nothing", digestOf("nothing").Hex, fs.ErrNotExist},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "layout")
			h := open(t, dir)
			write(t, filepath.Join(filepath.Dir(dir), "secret"), "secret")
			digest := digestOf("link")
			path := filepath.Join(dir, "blobs", "sha256", digest.Hex)
			if err := os.Symlink(tt.target, path); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Blob(digest); !errors.Is(err, tt.want) {
				t.Errorf("open: got %v, want %v", err, tt.want)
			}
			if _, _, err := h.StatBlob(digest); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("stat: got %v, want fs.ErrInvalid", err)
			}
			h.commit("link") // takes the place of the link, not of what it names
			wantBlob(t, h, digest, "link")
			if got := read(t, filepath.Join(filepath.Dir(dir), "secret")); got != "secret" {
				t.Errorf("the link's target: got %q", got)
			}
		})
	}
}

func TestBlobDirectory(t *testing.T) {
	h := open(t, t.TempDir())
	digest := digestOf("dir")
	if err := os.Mkdir(filepath.Join(h.Dir(), "blobs", "sha256", digest.Hex), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Blob(digest); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("open: got %v, want fs.ErrInvalid", err)
	}
	if _, _, err := h.StatBlob(digest); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("stat: got %v, want fs.ErrInvalid", err)
	}
	err := h.Update(t.Context(), func(tx *layout.Tx) error { return tx.Trash(digest) })
	if err != nil {
		t.Fatal(err)
	}
	h.commit("dir")
	wantBlob(t, h, digest, "dir")
}

// A blob that is open stays readable when it is deleted or replaced.
func TestBlobStaysReadable(t *testing.T) {
	h := open(t, t.TempDir())
	digest := h.commit("bytes")
	b, err := h.Blob(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	again, err := h.Blob(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if same, err := layout.SameFile(b, again); !same || err != nil {
		t.Errorf("same file: got %v, %v", same, err)
	}
	err = h.Update(t.Context(), func(tx *layout.Tx) error { return tx.Trash(digest) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Blob(digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after trash: got %v, want fs.ErrNotExist", err)
	}
	h.commit("bytes")
	other, err := h.Blob(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if same, err := layout.SameFile(b, other); same || err != nil {
		t.Errorf("another file: got %v, %v", same, err)
	}
	if got, err := io.ReadAll(b); string(got) != "bytes" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func wantBlob(t testing.TB, h *handle, digest v1.Hash, want string) {
	t.Helper()
	b, err := h.Blob(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	size, modTime, err := h.StatBlob(digest)
	if err != nil || size != int64(len(want)) || size != b.Size || modTime != b.ModTime {
		t.Errorf("stat: got %d, %d, %v, want %d, %d", size, modTime, err, b.Size, b.ModTime)
	}
}
