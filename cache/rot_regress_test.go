package cache_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// A blob rots silently before anybody has decompressed it. What then came out
// was recorded as its pair, and served for ever; or the read failed, though its
// origin could serve it.
func TestRotBeforeFirstDecompression(t *testing.T) {
	raw := makeTar(1, 100_000)
	for name, want := range map[string]content{
		"gzip":                    makeLayer(1, 100_000),
		"zstd without a checksum": {blob: stored(raw), tar: raw, mediaType: types.OCILayerZStd},
	} {
		for _, image := range []bool{false, true} {
			for _, opts := range [][]cache.Option{nil, {cache.WithoutTar()}} {
				t.Run(name, func(t *testing.T) {
					c := open(t, opts...)
					wrapped := func() v1.Layer {
						if image {
							return layersOf(t, c.Image(imageOf(t, fake(want))))[0]
						}
						return c.Layer(fake(want))
					}
					readAll(t, wrapped().Compressed)
					silently(t, blobPath(dirOf(c), want.digest()), []byte("rot"))
					for range 2 {
						if got := readAll(t, wrapped().Uncompressed); !bytes.Equal(got, want.tar) {
							t.Errorf("got %d bytes of %s", len(got), digestOf(got))
						}
					}
					checkForms(t, wrapped(), want)
					if h, err := mustGet(t, c, want.digest()).DiffID(); h != want.diffID() {
						t.Errorf("DiffID: got %s, %v; want %s", h, err, want.diffID())
					}
					if got := c.Stats().Repairs; got != 1 {
						t.Errorf("Repairs: got %d, want 1", got)
					}
					wantFindings(t, verify(t, c, cache.VerifyOptions{}))
				})
			}
		}
	}
}

// What was found to be rotten is not served, also if it cannot be put aside or
// recorded: on a full disk, and in a read-only cache.
func TestRotFoundIsNotServed(t *testing.T) {
	want := makeLayer(1, 100_000)
	var full atomic.Bool
	hook := func(op, name string) error {
		if full.Load() && op == "write" && strings.HasSuffix(name, "journal") {
			return syscall.ENOSPC
		}
		return nil
	}
	dir := t.TempDir()
	c := openDir(t, dir, cache.WithHook(hook))
	only := openDir(t, dir, cache.WithReadOnly())
	checkForms(t, c.Layer(fake(want)), want)
	must(c.Flush())
	silently(t, blobPath(dir, want.digest()), []byte("rot"))
	if r := verify(t, only, cache.VerifyOptions{ReportOnly: true}); len(r.Findings) != 1 {
		t.Errorf("read-only: got %v", r.Findings)
	}
	checkForms(t, only.Layer(fake(want)), want)
	full.Store(true)
	if r := verify(t, c, cache.VerifyOptions{}); len(r.Findings) == 0 {
		t.Errorf("got %v", r.Findings)
	}
	checkForms(t, c.Layer(fake(want)), want)
	full.Store(false)
	checkForms(t, c.Layer(fake(want)), want)
}

// Another tool wrote a blob again, with the same bytes: before the index says
// that it is safe, it is synced.
func TestRewrittenIsSynced(t *testing.T) {
	for _, how := range []string{"read", "Verify"} {
		var r recorder
		c := open(t, cache.WithHook(r.hook))
		want := makeLayer(1, 100_000)
		must(c.Fill(t.Context(), fake(want)))
		must(c.Flush())
		path := blobPath(dirOf(c), want.digest())
		must(os.Remove(path))
		must(os.WriteFile(path, want.blob, 0o644))
		then := time.Now().Add(-time.Minute)
		must(os.Chtimes(path, then, then))
		r.mark("rewritten")
		if how == "read" {
			readAll(t, c.Layer(fake(want)).Compressed)
		} else {
			verify(t, c, cache.VerifyOptions{})
		}
		must(c.Flush())
		wantOrder(t, r.since("rewritten"), "sync blobs/sha256/"+want.digest().Hex, "rename .ocicache/new-index.json-*")
	}
}

// A blob whose modification time is in the future is hashed once, not at each
// read.
func TestFutureModTime(t *testing.T) {
	c := open(t)
	want := makeLayer(1, 10_000)
	readAll(t, c.Layer(fake(want)).Compressed)
	then := time.Now().Add(1000 * time.Hour)
	must(os.Chtimes(blobPath(dirOf(c), want.digest()), then, then))
	journal := filepath.Join(dirOf(c), ".ocicache", "journal")
	readAll(t, c.Layer(fake(want)).Compressed)
	before := readFile(t, journal)
	for range 10 {
		readAll(t, c.Layer(fake(want)).Compressed)
	}
	if after := readFile(t, journal); !bytes.Equal(after, before) {
		t.Errorf("the journal grew by\n%s", after[len(before):])
	}
}

// SyncCommit, with a checkpoint beside it: a record that was set aside is
// synced where it is by then.
func TestSyncCommitSetAside(t *testing.T) {
	var r recorder
	c := open(t, cache.WithSync(cache.SyncCommit), cache.WithHook(r.hook))
	must(os.WriteFile(filepath.Join(dirOf(c), ".ocicache", "journal.old"), nil, 0o644)) // as while a checkpoint writes
	r.mark("begun")
	must(c.Fill(t.Context(), fake(makeLayer(1, 1000))))
	wantOrder(t, r.since("begun"), "sync .ocicache/journal", "sync .ocicache/journal.old")
}
