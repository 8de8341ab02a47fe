package cache_test

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/flock"

	"github.com/ocicache/ocicache/cache"
)

// The sweep of another process took the lock file of an ingest between its
// creation and its locking, and holds it for a while: its process has to wait
// for a processor. The fill goes on, and is kept.
func TestSweepHoldsNewIngest(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var sweeper *flock.Flock
	calls := 0
	hook := func(op, name string) error {
		if op != "lock" || !strings.HasPrefix(name, ".ocicache/ingest/") {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls == 1 {
			sweeper = flock.New(filepath.Join(dir, name))
			if ok, err := sweeper.TryLock(); !ok || err != nil {
				t.Error(ok, err)
			}
		} else if calls == 20 {
			sweeper.Close()
		}
		return nil
	}
	c := openDir(t, dir, cache.WithHook(hook))
	want := makeLayer(1, 1000)
	checkForms(t, c.Layer(fake(want)), want)
	checkForms(t, mustGet(t, c, want.digest()), want)
	mu.Lock()
	sweeper.Close()
	mu.Unlock()
	if s := c.Stats(); s.WriteFaults > 0 || s.Fallbacks > 0 {
		t.Errorf("got %+v, want no faults", s)
	}
}
