package cache_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/index"
)

// However many entries there are, what a key stands for is answered from
// memory: no file is opened, and whether another process did something is
// looked at once a second.
func TestBuildHitMany(t *testing.T) {
	dir := t.TempDir()
	want := writeKeys(t, dir, many(100_000))
	var armed atomic.Bool
	var stats int
	at := newClock()
	c := openDir(t, dir, cache.WithClock(at.now), cache.WithHook(func(op, name string) error {
		switch {
		case armed.Load() && op == "stat":
			stats++
		case armed.Load():
			t.Errorf("a hit costs: %s %s", op, name)
		}
		return nil
	}))
	armed.Store(true)
	for key, e := range want {
		l, err := c.Build(t.Context(), key, func(context.Context) (v1.Layer, error) { return nil, errors.New("built again") })
		if err != nil {
			t.Fatal(err)
		}
		digest, err := l.Digest()
		diffID, derr := l.DiffID()
		size, serr := l.Size()
		mediaType, merr := l.MediaType()
		if err := errors.Join(err, derr, serr, merr); err != nil || digest != e.Digest || diffID != e.DiffID || size != e.Size || string(mediaType) != e.MediaType {
			t.Errorf("%s: got %s, %s, %d, %s, %v; want %+v", key, digest, diffID, size, mediaType, err, e)
		}
	}
	armed.Store(false)
	if stats != 2 {
		t.Errorf("%d hits in one second cost %d stats, want 2", len(want), stats)
	}
	if s := c.Stats(); s.BuildHits != int64(len(want)) || s.Hits != 0 {
		t.Errorf("got %d hits, want %d", s.Hits, len(want))
	}
}

// writeKeys makes a cache of n entries, and returns those that keys stand for.
func writeKeys(t *testing.T, dir string, n int) map[string]index.Entry {
	t.Helper()
	c, err := cache.Open(dir)
	must(err)
	must(c.Close())
	hash := func(kind, i int) v1.Hash {
		return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%032x%032x", kind, i)}
	}
	cat, keys := index.New(), map[string]index.Entry{}
	for i := range n {
		e := index.Entry{
			Digest: hash(1, i), DiffID: hash(2, i), Pair: index.Verified, Size: int64(i), Created: 1,
			MediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
		}
		cat.Apply(index.PutRecord(e))
		if i%1000 == 0 {
			key := fmt.Sprint("key ", i)
			cat.Apply(index.KeyRecord(key, index.BuildKey{Digest: e.Digest, Created: 1}))
			keys[key] = e
		}
	}
	f, err := os.Create(filepath.Join(dir, "index.json"))
	must(err)
	must(errors.Join(cat.Encode(f, ""), f.Close()))
	return keys
}
