package cache_test

import (
	"testing"

	"github.com/gofrs/flock"
)

// flockFile locks a file as another process would.
func flockFile(t *testing.T, path string) (unlock func()) {
	t.Helper()
	l := flock.New(path)
	if ok, err := l.TryLock(); err != nil || !ok {
		t.Fatalf("lock %s: %v, %v", path, ok, err)
	}
	t.Cleanup(func() { l.Close() })
	return func() { l.Close() }
}
