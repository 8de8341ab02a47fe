package cache_test

import (
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// A recorder keeps the order of what is done.
type recorder struct {
	mu  sync.Mutex
	ops []string // guarded by mu
}

func (r *recorder) hook(op, name string) error {
	r.mark(op + " " + name)
	return nil
}

func (r *recorder) mark(op string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
}

// since returns what was done after a mark.
func (r *recorder) since(mark string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops[slices.Index(r.ops, mark):])
}

// wantOrder asserts that all operations of each pattern come before all of
// the next. Windows syncs no directories.
func wantOrder(t *testing.T, ops []string, patterns ...string) {
	t.Helper()
	last := -1
	for _, pattern := range patterns {
		if runtime.GOOS == "windows" && (pattern == "sync ." || pattern == "sync blobs/sha256") {
			continue
		}
		if first := slices.IndexFunc(ops, matching(pattern)); first <= last {
			t.Errorf("%s comes at %d, want it after %d, of\n%s", pattern, first, last, strings.Join(ops, "\n"))
		}
		for i, op := range ops {
			if matching(pattern)(op) {
				last = i
			}
		}
	}
}

func matching(pattern string) func(op string) bool {
	return func(op string) bool { ok, err := path.Match(pattern, op); must(err); return ok }
}

// SyncCommit: the bytes, their name and the record of them are on stable
// storage when a reader gets EOF.
func TestSyncCommitOrder(t *testing.T) {
	var r recorder
	c := open(t, cache.WithSync(cache.SyncCommit), cache.WithHook(r.hook))
	for _, form := range []string{"compressed", "uncompressed"} {
		r.mark(form)
		if _, err := read(c, small(1), form); err != nil {
			t.Fatal(err)
		}
		r.mark("EOF")
		ops := r.since(form)
		wantOrder(t, ops, "write .ocicache/ingest/*", "sync .ocicache/ingest/*", "rename .ocicache/ingest/*", "sync blobs/sha256", "EOF")
		wantOrder(t, ops, "rename .ocicache/ingest/*", "write .ocicache/journal", "sync .ocicache/journal", "EOF")
	}
}

// SyncCheckpoint: an index is there only after all that it lists, and the
// journal goes only after the index has its name.
func TestSyncCheckpointOrder(t *testing.T) {
	var r recorder
	c := open(t, cache.WithHook(r.hook))
	const replace = "rename .ocicache/new-index.json-*"
	for n := range uint64(3) {
		for _, n := range []uint64{2 * n, 2*n + 1} {
			checkForms(t, c.Layer(fake(small(n))), small(n))
		}
		mark := fmt.Sprint("flush ", n)
		r.mark(mark)
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		ops := r.since(mark)
		wantOrder(t, ops, "write .ocicache/new-index.json-*", "sync .ocicache/new-index.json-*", replace, "sync .", "remove .ocicache/journal.old")
		wantOrder(t, ops, "sync blobs/sha256", replace)
		before := ops[:max(0, slices.IndexFunc(ops, matching(replace)))]
		for _, h := range []v1.Hash{small(2 * n).digest(), small(2 * n).diffID(), small(2*n + 1).digest(), small(2*n + 1).diffID()} {
			if !slices.Contains(before, "sync blobs/sha256/"+h.Hex) {
				t.Errorf("%s is not synced before the index lists it:\n%s", h, strings.Join(ops, "\n"))
			}
		}
	}
}
