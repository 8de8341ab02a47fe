package cache_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

func TestPinErrors(t *testing.T) {
	c := open(t)
	absent := makeLayer(1, 1000).digest()
	if _, err := c.Pin(absent); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Pin: got %v, want ErrNotFound", err)
	}
	if err := c.PinAs("x", absent); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("PinAs: got %v, want ErrNotFound", err)
	}
	if err := c.Unpin("x"); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Unpin: got %v, want ErrNotFound", err)
	}
	if err := c.PinAs(""); err == nil {
		t.Error("PinAs: an empty name: no error")
	}
	l := makeLayer(2, 1000)
	checkForms(t, c.Layer(fake(l)), l)
	only := openDir(t, dirOf(c), cache.WithReadOnly())
	if _, err := only.Pin(l.digest()); !errors.Is(err, cache.ErrReadOnly) {
		t.Errorf("read-only: got %v, want ErrReadOnly", err)
	}
	must(c.Close())
	if _, err := c.Pin(l.digest()); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("closed: got %v, want ErrClosed", err)
	}
}

// A named pin outlives its process, and is replaced by the next of its name.
// A diffID without its tar stands for its compressed form.
func TestPinAs(t *testing.T) {
	dir := t.TempDir()
	c := openDir(t, dir)
	one, two := makeLayer(1, 1000), makeLayer(2, 1000)
	readAll(t, c.Layer(fake(one)).Compressed)
	checkForms(t, c.Layer(fake(two)), two)
	must(c.PinAs("image", one.digest(), two.diffID()))
	must(c.Close())

	c = openDir(t, dir)
	pins, err := c.Pins()
	if err != nil || len(pins["image"]) != 2 || !slices.Contains(pins["image"], two.diffID()) {
		t.Errorf("got %v, %v", pins, err)
	}
	prune(t, c, cache.PrunePolicy{All: true})
	for h, want := range map[v1.Hash]bool{one.digest(): true, two.diffID(): true, two.digest(): false} {
		if got := exists(blobPath(dir, h)); got != want {
			t.Errorf("%s is there: %v, want %v", h, got, want)
		}
	}
	must(c.PinAs("image", two.diffID()))
	prune(t, c, cache.PrunePolicy{All: true})
	if exists(blobPath(dir, one.digest())) {
		t.Error("the first pin still holds")
	}
}

// A pin holds as many hashes as there are, and each once. Its name is any
// bytes.
func TestPinAsMany(t *testing.T) {
	const n = 16_000 // of which one record would be too long
	dir := t.TempDir()
	writeKeys(t, dir, n)
	var hs []v1.Hash
	for i := range n {
		h := v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%032x%032x", 1, i)}
		must(os.WriteFile(blobPath(dir, h), nil, 0o600))
		tamperedPaths.Store(blobPath(dir, h), true)
		hs = append(hs, h, h)
	}
	c := openDir(t, dir)
	must(c.PinAs("\xff", hs...))
	must(c.PinAs("\xfe", hs[:2]...))
	for what, c := range map[string]*cache.Cache{"at once": c, "another process": openDir(t, dir)} {
		pins, err := c.Pins()
		if err != nil || len(pins) != 2 || len(pins["\xff"]) != n || len(pins["\xfe"]) != 1 {
			t.Errorf("%s: got %d pins, of %d and %d hashes, %v", what, len(pins), len(pins["\xff"]), len(pins["\xfe"]), err)
		}
	}
	must(c.PinAs("\xff", hs[0]))
	must(c.Unpin("\xfe"))
	if pins, err := c.Pins(); err != nil || len(pins) != 1 || len(pins["\xff"]) != 1 {
		t.Errorf("got %d pins, of %d hashes, %v", len(pins), len(pins["\xff"]), err)
	}
}

// A process that pinned and was killed pins no more.
func TestPinKilled(t *testing.T) {
	dir := t.TempDir()
	c := openDir(t, dir)
	l := small(1)
	checkForms(t, c.Layer(fake(l)), l)
	p := start(t, "serve", dir, "")
	p.do("pin 1", "pinned")
	prune(t, c, cache.PrunePolicy{All: true})
	if !exists(blobPath(dir, l.digest())) {
		t.Fatal("what another process pinned was removed")
	}
	p.kill()
	prune(t, c, cache.PrunePolicy{All: true})
	if exists(blobPath(dir, l.digest())) {
		t.Error("a dead process's pin still holds")
	}
	if names := listDir(t, filepath.Join(dir, ".ocicache", "leases")); len(names) != 0 {
		t.Errorf("leases: %v", names)
	}
}

// A cache that is opened with a limit keeps to it, without a reader waiting.
func TestWithPrune(t *testing.T) {
	dir := t.TempDir()
	const limit = 200_000
	c := openDir(t, dir, cache.WithPrune(cache.PrunePolicy{MaxBytes: limit}))
	for i := range uint64(12) {
		l := makeLayer(i, 60_000)
		checkForms(t, c.Layer(fake(l)), l)
	}
	total := func() (n int64) {
		for _, path := range blobs(t, dir) {
			if fi, err := os.Stat(path); err == nil {
				n += fi.Size()
			}
		}
		return n
	}
	for range 1000 {
		if total() <= limit {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d bytes are there, the limit is %d", total(), limit)
}
