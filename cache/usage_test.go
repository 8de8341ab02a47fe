package cache_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/cache"
)

// What is known of a pair: both blobs, how they were used, and where they came
// from, after reopening too, and in another process.
func TestDiskUsage(t *testing.T) {
	at := newClock()
	r := newRegistry(t)
	want := makeLayer(1, 100_000)
	img := r.push(imageOf(t, fake(want)), "library/test")
	dir := t.TempDir()
	c := openDir(t, dir, cache.WithClock(at.now))
	other := openDir(t, dir, cache.WithClock(at.now))
	checkForms(t, layersOf(t, c.Image(img))[0], want)
	created := at.now()
	at.set(500)
	for range 2 {
		readAll(t, mustGet(t, c, want.digest()).Compressed)
	}
	used := at.now()
	must(c.PinAs("test", want.digest()))
	rc, err := mustGet(t, c, want.diffID()).Uncompressed()
	must(err)

	check := func(what string, c *cache.Cache, inUse bool) {
		t.Helper()
		us := usages(t, c)
		if len(us) != 2 {
			t.Fatalf("%s: got %v", what, us)
		}
		slices.SortFunc(us, func(a, b cache.Usage) int { return strings.Compare(string(a.Form), string(b.Form)) })
		blob, tar := us[0], us[1]
		if blob.Digest != want.digest() || blob.DiffID != want.diffID() || blob.Pair != ocicache.PairVerified || blob.Size != int64(len(want.blob)) ||
			!blob.Present || !blob.Pinned || !slices.Equal(blob.Pins, []string{"test"}) || blob.Remakable || blob.Form != cache.FormCompressed || blob.MediaType != want.mediaType {
			t.Errorf("%s: blob: got %+v", what, blob)
		}
		if blob.Origin != r.host+"/library/test" || !blob.Created.Equal(created) {
			t.Errorf("%s: origin %q, created %v", what, blob.Origin, blob.Created)
		}
		if tar.Digest != want.diffID() || tar.Size != int64(len(want.tar)) || !tar.Remakable || tar.Pinned || tar.Form != cache.FormUncompressed || tar.InUse != inUse {
			t.Errorf("%s: tar: got %+v", what, tar)
		}
		if blob.UseCount < 2 || !blob.LastUsed.Equal(used) {
			t.Errorf("%s: used %d times, last %v; want %v", what, blob.UseCount, blob.LastUsed, used)
		}
		total := cache.TotalUsage(us)
		if want := (cache.UsageTotal{Present: 2, Bytes: blob.Size + tar.Size, Remakable: tar.Size, Pinned: blob.Size}); total != want {
			t.Errorf("%s: total: got %+v, want %+v", what, total, want)
		}
	}
	check("at once", c, true)
	rc.Close()
	check("closed", c, false)
	must(c.Close())
	check("another process", other, false)
	check("reopened", openDir(t, dir), false)
}

// A blob is in use until each of its readers was closed, however often, or
// dropped.
func TestInUse(t *testing.T) {
	c := open(t)
	l := makeLayer(1, 10_000)
	readAll(t, c.Layer(fake(l)).Compressed)
	inUse := func() bool { return len(usages(t, c, "inuse")) == 1 }
	var readers []io.ReadCloser
	for range 2 {
		rc, err := mustGet(t, c, l.digest()).Compressed()
		must(err)
		readers = append(readers, rc)
	}
	for range 3 {
		must(readers[0].Close())
	}
	if !inUse() {
		t.Error("one of two readers was closed three times: not in use any more")
	}
	for range 2 {
		cache.JournalUses(c)
		if us := usages(t, c, "inuse"); len(us) != 1 || us[0].UseCount != 2 {
			t.Errorf("journaled: got %+v, want one in use, used twice", us)
		}
	}
	must(readers[1].Close())
	if inUse() {
		t.Error("all readers were closed: still in use")
	}
	clear(readers)
	drop(t, mustGet(t, c, l.digest()), v1.Layer.Compressed)
	for i := 0; inUse(); i++ {
		if i == 400 {
			t.Fatal("the reader was dropped: still in use")
		}
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	rc, err := mustGet(t, c, l.digest()).Compressed()
	must(err)
	defer rc.Close()
	if !inUse() { // those that are gone count once
		t.Error("a new reader: not in use")
	}
}

// Uses of several processes add up.
func TestUsesMerge(t *testing.T) {
	dir := t.TempDir()
	l := makeLayer(1, 10_000)
	var caches []*cache.Cache
	for range 3 {
		c := openDir(t, dir)
		readAll(t, c.Layer(fake(l)).Compressed)
		caches = append(caches, c)
	}
	for _, c := range caches {
		readAll(t, c.Layer(fake(l)).Compressed)
		must(c.Close())
	}
	us := usages(t, openDir(t, dir))
	if len(us) != 1 || us[0].UseCount != 5 { // all reads but the one that filled it
		t.Errorf("got %+v, want 5 uses", us)
	}
}

// Reading alone does not rewrite index.json, and is not forgotten.
func TestUsesAlone(t *testing.T) {
	at := newClock()
	dir := t.TempDir()
	c := openDir(t, dir, cache.WithClock(at.now))
	l := makeLayer(1, 10_000)
	checkForms(t, c.Layer(fake(l)), l)
	must(c.Close())
	before := readFile(t, dir+"/index.json")
	for i := range int64(3) {
		at.set(1000 + i)
		c := openDir(t, dir, cache.WithClock(at.now))
		readAll(t, mustGet(t, c, l.digest()).Compressed)
		must(c.Close())
	}
	if after := readFile(t, dir+"/index.json"); string(after) != string(before) {
		t.Error("index.json was written for uses alone")
	}
	us := usages(t, openDir(t, dir), "digest=="+l.digest().String())
	if len(us) != 1 || !us[0].LastUsed.Equal(at.now()) {
		t.Errorf("got %+v", us)
	}
}

func TestDiskUsageFilters(t *testing.T) {
	at := newClock()
	c := open(t, cache.WithClock(at.now))
	a, b := makeLayer(1, 10_000), makeLayer(2, 100_000)
	checkForms(t, c.Layer(fake(a)), a)
	at.set(86400)
	readAll(t, c.Layer(fake(b)).Compressed)
	at.set(2 * 86400)
	for filter, want := range map[string][]v1.Hash{
		"":                               {a.digest(), a.diffID(), b.digest()},
		"form==uncompressed":             {a.diffID()},
		"remakable":                      {a.diffID()},
		"created<36h":                    {a.digest(), a.diffID()},
		"created>=2023-11-15":            {b.digest()},
		"size>20kB,form!=uncompressed":   {b.digest()},
		"digest~=" + a.digest().Hex[:12]: {a.digest()},
		"mediatype~=docker,present":      {a.digest(), a.diffID(), b.digest()},
		"pins==nothing":                  {},
		"diffid==" + a.diffID().String(): {a.digest(), a.diffID()},
	} {
		var got []string
		for _, u := range usages(t, c, filter) {
			got = append(got, u.Digest.String())
		}
		var wanted []string
		for _, h := range want {
			wanted = append(wanted, h.String())
		}
		slices.Sort(wanted)
		if !slices.Equal(got, wanted) {
			t.Errorf("%s: got %v, want %v", filter, got, wanted)
		}
	}
	if _, err := c.DiskUsage(t.Context(), "colour==red"); err == nil || !strings.Contains(err.Error(), "colour") {
		t.Errorf("unknown field: got %v", err)
	}
	must(c.Close())
	if _, err := c.DiskUsage(t.Context()); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
}

// Uses that cannot be journaled are not lost: another time they can.
func TestUsesFault(t *testing.T) {
	dir := t.TempDir()
	var failing atomic.Pointer[string]
	c := openDir(t, dir, cache.WithHook(func(op, name string) error {
		if what := failing.Load(); what != nil && *what == op+" "+name {
			return errors.New("injected")
		}
		return nil
	}))
	l := makeLayer(1, 10_000)
	for range 3 {
		readAll(t, c.Layer(fake(l)).Compressed)
	}
	want := func(c *cache.Cache, n int64) {
		t.Helper()
		if us := usages(t, c, "usecount=="+fmt.Sprint(n)); len(us) != 1 {
			t.Errorf("got %+v, want one used %d times", usages(t, c), n)
		}
	}
	want(c, 2)
	for i, what := range []string{"write .ocicache/journal", "stat .ocicache/journal"} {
		failing.Store(&what)
		cache.JournalUses(c)
		failing.Store(nil)
		want(c, 2)
		if got := c.Stats().WriteFaults; got != int64(i)+1 {
			t.Errorf("%s: %d write faults", what, got)
		}
	}
	cache.JournalUses(c)
	want(c, 2)
	want(openDir(t, dir), 2)
}
