package cache_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// layIn returns a cache's directory as another tool sees it.
func layIn(t *testing.T, dir string) lay {
	t.Helper()
	p, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	return lay{t, dir, p}
}

// foreignIndex returns an image index of some manifests, which is as large as a
// note in it makes it.
func foreignIndex(note int, digests ...string) []byte {
	var ms []string
	for _, d := range digests {
		ms = append(ms, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, types.OCIManifestSchema1, d))
	}
	return []byte(fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s],"annotations":{"note":%q}}`, strings.Join(ms, ","), strings.Repeat("x", note)))
}

// foreignManifest returns an image manifest of one layer.
func foreignManifest(h v1.Hash) []byte {
	return []byte(fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":"sha256:%064d","size":2},"layers":[{"mediaType":%q,"digest":%q,"size":1}]}`, 0, types.OCILayer, h))
}

// grow makes all files in blobs old enough to be debris.
func grow(t *testing.T, dir string) {
	t.Helper()
	for _, path := range blobs(t, dir) {
		must(os.Chtimes(path, time.Time{}, time.Now().Add(-2*time.Hour)))
	}
}

// What an index of another tool reaches stays, however large the index is, and
// nothing at all goes if it cannot be told what it reaches.
func TestPruneManifestUnreadable(t *testing.T) {
	const index, layer = string(types.OCIImageIndex), string(types.OCILayer)
	for name, tt := range map[string]struct {
		mediaType string
		note      int
		spoil     func(path string) error
		fails     bool
	}{
		"large":           {index, 9 << 20, nil, false},
		"too large":       {index, 64 << 20, nil, true},
		"torn":            {index, 10, func(path string) error { return os.Truncate(path, 20) }, true},
		"torn, untyped":   {"", 10, func(path string) error { return os.Truncate(path, 20) }, true},
		"not a manifest":  {layer, 64 << 20, nil, false},
		"like a manifest": {layer, 10, func(path string) error { return os.Truncate(path, 20) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			dir := dirOf(c)
			own, theirs := makeLayer(1, 1000), makeLayer(2, 1000)
			readAll(t, c.Layer(fake(own)).Compressed)
			must(c.Flush())
			l := layIn(t, dir)
			l.put(theirs.blob)
			idx := foreignIndex(tt.note, l.put(foreignManifest(theirs.digest())))
			l.list(tt.mediaType, idx)
			if path := blobPath(dir, digestOf(idx)); tt.spoil != nil {
				must(tt.spoil(path))
				tamperedPaths.Store(path, true)
			}
			grow(t, dir)
			r, err := c.Prune(t.Context(), cache.PrunePolicy{All: true})
			if got := err != nil; got != tt.fails {
				t.Errorf("got %+v, %v", r, err)
			}
			if tt.fails && (len(r.Removals) > 0 || !strings.Contains(err.Error(), digestOf(idx).String()) || !strings.Contains(err.Error(), "verify")) {
				t.Errorf("got %+v, %v", r, err)
			}
			reaches := tt.fails || tt.mediaType == index
			if got := exists(blobPath(dir, theirs.digest())); got != reaches {
				t.Errorf("the other tool's layer is there: %v, want %v", got, reaches)
			}
			if err := c.Delete(own.digest()); tt.fails && err == nil {
				t.Error("Delete: no error, though the index may reach the blob")
			}
			if _, err := c.DiskUsage(t.Context()); err != nil {
				t.Errorf("DiskUsage: %v", err)
			}
		})
	}
}

// Verify puts a manifest aside that rotted, and tells of one that never was
// one. Only of the former can it be known what is reached now.
func TestVerifyManifestUnreadable(t *testing.T) {
	c := open(t)
	dir := dirOf(c)
	l, theirs := layIn(t, dir), makeLayer(2, 1000)
	l.put(theirs.blob)
	idx := foreignIndex(10, l.put(foreignManifest(theirs.digest())))
	l.list(string(types.OCIImageIndex), idx)
	must(os.Truncate(blobPath(dir, digestOf(idx)), 20))
	want := []string{fmt.Sprintf("corrupt %s ", digestOf(idx))}
	wantFindings(t, verify(t, c, cache.VerifyOptions{ReportOnly: true}), want...)
	want = []string{
		fmt.Sprintf("corrupt %s quarantined", digestOf(idx)),
		fmt.Sprintf("missing %s ", digestOf(idx)),
		fmt.Sprintf("unlisted %s listed", digestOf(foreignManifest(theirs.digest()))),
		fmt.Sprintf("unlisted %s listed", theirs.digest()),
	}
	wantFindings(t, verify(t, c, cache.VerifyOptions{Rebuild: true}), want...)
	grow(t, dir)
	prune(t, c, cache.PrunePolicy{})
	if !exists(blobPath(dir, theirs.digest())) {
		t.Error("what was listed again is gone")
	}

	none := []byte(`{"manifests":[`)
	l.list(string(types.OCIImageIndex), none)
	for range 2 {
		r := verify(t, c, cache.VerifyOptions{})
		wantFindings(t, r,
			fmt.Sprintf("missing %s ", digestOf(idx)),
			fmt.Sprintf("missing sha256:%064d ", 0), // the config
			fmt.Sprintf("unreadable %s ", digestOf(none)))
	}
	if _, err := c.Prune(t.Context(), cache.PrunePolicy{}); err == nil || !strings.Contains(err.Error(), digestOf(none).String()) {
		t.Errorf("got %v", err)
	}
}

// An image that another tool lists during a prune, or a Delete, keeps its
// blobs.
func TestRemovalListedMeanwhile(t *testing.T) {
	for name, remove := range map[string]func(c *cache.Cache, h v1.Hash) error{
		"prune": func(c *cache.Cache, h v1.Hash) error {
			_, err := c.Prune(t.Context(), cache.PrunePolicy{Filters: []string{"digest==" + h.String()}})
			return err
		},
		"delete": (*cache.Cache).Delete,
		"debris": func(c *cache.Cache, h v1.Hash) error {
			must(c.Delete(h))
			path := blobPath(dirOf(c), h)
			must(os.WriteFile(path, makeLayer(1, 1000).blob, 0o644))
			grow(t, dirOf(c))
			_, err := c.Prune(t.Context(), cache.PrunePolicy{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, l := t.TempDir(), makeLayer(1, 1000)
			var locks, listed int
			c := openDir(t, dir, cache.WithHook(func(op, name string) error {
				if op != "lock" || name != ".ocicache/lock" || listed == 0 {
					return nil
				}
				if locks++; locks == listed {
					layIn(t, dir).list(string(types.OCIManifestSchema1), foreignManifest(l.digest()))
				}
				return nil
			}))
			readAll(t, c.Layer(fake(l)).Compressed)
			must(c.Flush())
			// Which lock is the one of the removal: a prune looks what is held before.
			listed = map[string]int{"prune": 2, "delete": 1, "debris": 2}[name]
			must(remove(c, l.digest()))
			if locks < listed {
				t.Errorf("%d locks were taken", locks)
			}
			if !exists(blobPath(dir, l.digest())) {
				t.Error("a blob that another tool's image reaches since before its removal is gone")
			}
		})
	}
}
