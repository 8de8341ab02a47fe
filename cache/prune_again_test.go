package cache_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// rewrite has another tool write index.json anew, as it is.
func rewrite(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "index.json")
	must(os.WriteFile(path+".new", append([]byte("\n\n"), readFile(t, path)...), 0o644))
	must(os.Rename(path+".new", path))
}

// everything matches all blobs, and remembers what their builds were.
var everything = cache.PrunePolicy{Filters: []string{"size>=0"}}

// filled fills a cache with some layers, and returns them by digest.
func filled(t *testing.T, c *cache.Cache, n int) map[v1.Hash]content {
	t.Helper()
	ls := map[v1.Hash]content{}
	for i := range n {
		l := small(uint64(i))
		ls[l.digest()] = l
		mustBuild(t, c, fmt.Sprint(i), builderOf(l))
	}
	must(c.Flush())
	return ls
}

// The numbers of puts coincide after index.json was read anew: a blob that
// another process committed again was removed.
func TestPruneCommittedAgain(t *testing.T) {
	dir := t.TempDir()
	other := openDir(t, dir)
	ls := filled(t, other, 64)
	grow(t, dir) // so that the time of a file shows that it is another one
	c := openDir(t, dir)
	p := everything
	p.DryRun = true
	plan := prune(t, c, p).Removals
	last := plan[len(plan)-1].Digest
	p, told := everything, 0
	p.Progress = func(cache.Removal) {
		if told++; told != 1 {
			return
		}
		prune(t, other, cache.PrunePolicy{Filters: []string{"digest==" + last.String()}})
		must(other.Fill(t.Context(), fake(ls[last])))
		must(other.Flush())
		rewrite(t, dir)
	}
	if r := prune(t, c, p); len(r.Removals) != 63 {
		t.Errorf("%d are gone, want all others", len(r.Removals))
	}
	wantPresent(t, c, last)
}

func wantPresent(t *testing.T, c *cache.Cache, want ...v1.Hash) {
	t.Helper()
	got := usages(t, c, "present")
	if len(got) != len(want) {
		t.Errorf("%d are there, want %d", len(got), len(want))
	}
	for _, h := range want {
		if !exists(blobPath(dirOf(c), h)) {
			t.Errorf("%s is gone", h)
		}
	}
}

// Another tool writes index.json between any two batches: the prune does all
// the same what the policy says.
func TestPruneReread(t *testing.T) {
	for name, p := range map[string]cache.PrunePolicy{
		"all": {All: true}, "filter": everything, "limit": {MaxBytes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			filled(t, c, 100)
			told := 0
			p.Progress = func(cache.Removal) {
				if told++; told%16 == 1 {
					must(c.Flush())
					rewrite(t, dirOf(c))
				}
			}
			if r := prune(t, c, p); r.Kept != 0 || r.Removals[99].Bytes == 0 {
				t.Errorf("%d are gone, %d bytes are kept", len(r.Removals), r.Kept)
			}
			wantPresent(t, c)
		})
	}
}

// Another tool writes index.json whenever somebody looks: the prune ends, and
// says that it could not do it.
func TestPruneRereadForEver(t *testing.T) {
	dir, meddle := t.TempDir(), false
	c := openDir(t, dir, cache.WithHook(func(op, name string) error {
		if meddle && op == "lock" && name == ".ocicache/lock" {
			rewrite(t, dir)
		}
		return nil
	}))
	ls := filled(t, c, 1)
	meddle = true
	r, err := c.Prune(t.Context(), cache.PrunePolicy{All: true})
	if err == nil || len(r.Removals) > 0 {
		t.Errorf("Prune: got %+v, %v", r, err)
	}
	for h := range ls {
		if err := c.Delete(h); err == nil {
			t.Error("Delete: got no error")
		}
	}
	meddle = false
	wantPresent(t, c, slices.Collect(maps.Keys(ls))...)
}
