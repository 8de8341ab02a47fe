package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/ocicache/ocicache/cache"
)

// A clock tells the time that a test says.
type clock struct{ seconds atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.set(0)
	return c
}

// set sets the time in seconds since a fixed day.
func (c *clock) set(seconds int64) { c.seconds.Store(1_700_000_000 + seconds) }

func (c *clock) now() time.Time { return time.Unix(c.seconds.Load(), 0) }

func prune(t *testing.T, c *cache.Cache, p cache.PrunePolicy) cache.PruneReport {
	t.Helper()
	r, err := c.Prune(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func usages(t *testing.T, c *cache.Cache, filters ...string) []cache.Usage {
	t.Helper()
	us, err := c.DiskUsage(t.Context(), filters...)
	if err != nil {
		t.Fatal(err)
	}
	return us
}

// named returns the names that a test has for what was removed, in order.
func named(r cache.PruneReport, names map[v1.Hash]string) []string {
	var got []string
	for _, x := range r.Removals {
		got = append(got, names[x.Digest])
	}
	return got
}

// The order in which blobs go: what can be made again, then by last use and
// use count, and of equals by digest; each policy takes just what it must.
func TestPruneOrder(t *testing.T) {
	at := newClock()
	build := func(t *testing.T) (*cache.Cache, map[v1.Hash]string, []content) {
		c := open(t, cache.WithClock(at.now))
		names := map[v1.Hash]string{}
		var layers []content
		for i := range uint64(4) {
			l := makeLayer(i, 10_000)
			layers = append(layers, l)
			names[l.digest()], names[l.diffID()] = fmt.Sprintf("blob%d", i), fmt.Sprintf("tar%d", i)
			at.set(int64(i))
			readAll(t, c.Layer(fake(l)).Compressed)
		}
		// blob2's tar is there; blob0 was used last, and most.
		at.set(10)
		readAll(t, c.Layer(fake(layers[2])).Uncompressed)
		at.set(100)
		for range 3 {
			readAll(t, c.Layer(fake(layers[0])).Compressed)
		}
		at.set(1000)
		return c, names, layers
	}
	c, names, layers := build(t)
	total := cache.TotalUsage(usages(t, c))
	if total.Present != 5 || total.Remakable != int64(len(layers[2].tar)) {
		t.Fatalf("got %+v", total)
	}
	all := []string{"tar2", "blob1", "blob3", "blob2", "blob0"}
	size := func(name string) int64 {
		for h, n := range names {
			if n == name {
				return int64(len(readFile(t, blobPath(dirOf(c), h))))
			}
		}
		return 0
	}
	for _, test := range []struct {
		name string
		p    cache.PrunePolicy
		want []string
	}{
		{"nothing", cache.PrunePolicy{}, nil},
		{"all", cache.PrunePolicy{All: true}, all},
		{"a byte over", cache.PrunePolicy{MaxBytes: total.Bytes - 1}, all[:1]},
		{"a byte more than the tar", cache.PrunePolicy{MaxBytes: total.Bytes - size("tar2") - 1}, all[:2]},
		{"down to what is reserved", cache.PrunePolicy{MaxBytes: 1, ReservedBytes: total.Bytes - size("tar2")}, all[:1]},
		{"reserved alone", cache.PrunePolicy{ReservedBytes: total.Bytes}, nil},
		{"within the limit", cache.PrunePolicy{MaxBytes: total.Bytes}, nil},
		{"all, within the limit", cache.PrunePolicy{All: true, MaxBytes: total.Bytes}, nil},
		{"a limit of nearly nothing", cache.PrunePolicy{MaxBytes: 1}, all},
		{"more free than there is disk", cache.PrunePolicy{MinFreeBytes: 1 << 62}, all},
		{"more free, but reserved", cache.PrunePolicy{MinFreeBytes: 1 << 62, ReservedBytes: 1 << 40}, nil},
		{"a byte free", cache.PrunePolicy{MinFreeBytes: 1}, nil},
		{"used long ago", cache.PrunePolicy{KeepDuration: 950 * time.Second}, []string{"tar2", "blob1", "blob3", "blob2"}},
		{"used just now", cache.PrunePolicy{KeepDuration: time.Hour}, nil},
		{"by form", cache.PrunePolicy{Filters: []string{"form==uncompressed"}}, all[:1]},
		{"by use", cache.PrunePolicy{Filters: []string{"usecount>=3"}}, []string{"blob0"}},
		{"by use or form", cache.PrunePolicy{Filters: []string{"usecount>=3", "form==uncompressed"}}, []string{"tar2", "blob0"}},
		{"by time, limited", cache.PrunePolicy{Filters: []string{"lastused<950s"}, MaxBytes: 1}, []string{"tar2", "blob1", "blob3", "blob2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dry := test.p
			dry.DryRun = true
			if got := named(prune(t, c, dry), names); !slices.Equal(got, test.want) {
				t.Errorf("dry: got %v, want %v", got, test.want)
			}
			if got := cache.TotalUsage(usages(t, c)); got != total {
				t.Errorf("dry: got %+v, want %+v", got, total)
			}
			c, names, layers := build(t)
			var told []cache.Removal
			test.p.Progress = func(r cache.Removal) { told = append(told, r) }
			r := prune(t, c, test.p)
			if got := named(r, names); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if !slices.Equal(told, r.Removals) {
				t.Errorf("told of %v", told)
			}
			after := cache.TotalUsage(usages(t, c))
			if r.Kept != after.Bytes || r.Kept+r.Bytes != total.Bytes {
				t.Errorf("report: %d freed, %d kept; there are %d of %d", r.Bytes, r.Kept, after.Bytes, total.Bytes)
			}
			for _, x := range r.Removals {
				if x.Reason == "" || x.Bytes == 0 {
					t.Errorf("removal says too little: %+v", x)
				}
			}
			for _, l := range layers { // whatever went, reads go on
				checkForms(t, c.Layer(fake(l)), l)
			}
		})
	}
}

// After its bytes were pruned, the pair is remembered, up to a number.
func TestPruneRemembers(t *testing.T) {
	at := newClock()
	c := open(t, cache.WithClock(at.now), cache.WithMaxRemembered(2))
	var layers []content
	for i := range uint64(3) {
		at.set(int64(i))
		l := makeLayer(i, 10_000)
		layers = append(layers, l)
		checkForms(t, c.Layer(fake(l)), l)
	}
	at.set(100)
	prune(t, c, cache.PrunePolicy{Filters: []string{"form==uncompressed"}})
	if got := cache.TotalUsage(usages(t, c)); got.Present != 3 || got.Remembered != 0 {
		t.Errorf("got %+v, want 3 blobs: their tars are no entries without bytes", got)
	}
	for _, l := range layers {
		checkForms(t, mustGet(t, c, l.diffID()), l)
	}
	prune(t, c, cache.PrunePolicy{Filters: []string{"form==compressed"}})
	if got := cache.TotalUsage(usages(t, c)); got.Present != 3 || got.Remembered != 2 {
		t.Errorf("got %+v, want 3 tars and two remembered blobs", got)
	}
	for i, l := range layers {
		if got := readAll(t, mustGet(t, c, l.diffID()).Uncompressed); !bytes.Equal(got, l.tar) {
			t.Errorf("tar %d: got %d bytes", i, len(got))
		}
		digest, err := mustGet(t, c, l.diffID()).Digest()
		if err != nil || i > 0 && digest != l.digest() {
			t.Errorf("blob %d: got %s, %v", i, digest, err)
		}
	}
	prune(t, c, cache.PrunePolicy{All: true})
	if got := usages(t, c); len(got) != 0 {
		t.Errorf("all: %v are left", got)
	}
}

// Nothing that is held goes: pinned here or elsewhere, open here, reached by
// another tool's image.
func TestPruneProtects(t *testing.T) {
	dir := t.TempDir()
	c, other := openDir(t, dir), openDir(t, dir)
	var ls []content
	for i := range uint64(6) {
		l := makeLayer(i, 10_000)
		ls = append(ls, l)
		readAll(t, c.Layer(fake(l)).Compressed)
	}
	release, err := c.Pin(ls[0].digest())
	if err != nil {
		t.Fatal(err)
	}
	releaseOther, err := other.Pin(ls[1].digest())
	if err != nil {
		t.Fatal(err)
	}
	must(other.PinAs("kept, for ever", ls[2].digest()))
	rc, err := c.Layer(fake(ls[3])).Compressed()
	if err != nil {
		t.Fatal(err)
	}
	p, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	must(c.Flush())
	must(p.AppendImage(imageOf(t, fake(ls[4]))))

	there := func(want ...int) {
		t.Helper()
		var got []int
		for i, l := range ls {
			if _, err := os.Stat(blobPath(dir, l.digest())); err == nil {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("there are %v, want %v", got, want)
		}
	}
	prune(t, c, cache.PrunePolicy{All: true})
	there(0, 1, 2, 3, 4)
	if got := usages(t, c, "pinned"); len(got) != 3 {
		t.Errorf("pinned: got %v", got)
	}
	release()
	release()
	releaseOther()
	rc.Close()
	must(c.Unpin("kept, for ever"))
	prune(t, c, cache.PrunePolicy{All: true})
	there(4)
	if names := listDir(t, filepath.Join(dir, ".ocicache", "leases")); len(names) != 0 {
		t.Errorf("leases: %v", names)
	}
}

// For any cache and any policy, the sizes end within the limits whenever the
// policy allows it, and nothing protected is gone.
func TestPruneProperty(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		at := newClock()
		c := open(t, cache.WithClock(at.now))
		var pinned []v1.Hash
		for i := range uint64(3 + rnd.IntN(6)) {
			at.set(int64(rnd.IntN(1000)))
			l := makeLayer(i, 1000+rnd.IntN(30_000))
			if rnd.IntN(2) == 0 {
				checkForms(t, c.Layer(fake(l)), l)
			} else {
				readAll(t, c.Layer(fake(l)).Compressed)
			}
			for range rnd.IntN(3) {
				readAll(t, c.Layer(fake(l)).Compressed)
			}
			if rnd.IntN(4) == 0 {
				must(c.PinAs(fmt.Sprint(i), l.digest()))
				pinned = append(pinned, l.digest())
			}
		}
		at.set(1000)
		before := cache.TotalUsage(usages(t, c))
		p := cache.PrunePolicy{MaxBytes: 1 + rnd.Int64N(before.Bytes)}
		if rnd.IntN(2) == 0 {
			p.ReservedBytes = rnd.Int64N(before.Bytes)
		}
		prune(t, c, p)
		us := usages(t, c)
		after := cache.TotalUsage(us)
		limit := max(p.MaxBytes, p.ReservedBytes)
		for _, u := range us {
			if after.Bytes > limit && u.Present && !u.Pinned && after.Bytes-u.Size >= p.ReservedBytes {
				t.Errorf("seed %d: %d bytes are left, the limit is %d, and %s could go", seed, after.Bytes, limit, u.Digest)
			}
		}
		if after.Bytes < min(before.Bytes, p.ReservedBytes) {
			t.Errorf("seed %d: %d of %d bytes are left, %d are reserved", seed, after.Bytes, before.Bytes, p.ReservedBytes)
		}
		for _, h := range pinned {
			if !bytes.Contains([]byte(fmt.Sprint(us)), []byte(h.Hex)) || !exists(blobPath(dirOf(c), h)) {
				t.Errorf("seed %d: %s was pinned", seed, h)
			}
		}
		var again []string
		for _, x := range prune(t, c, p).Removals {
			again = append(again, x.Digest.String())
		}
		if len(again) != 0 {
			t.Errorf("seed %d: pruning again removed %s", seed, strings.Join(again, " "))
		}
	}
}

// wantListed asserts that a cache has some blobs, and neither has nor
// remembers others.
func wantListed(t *testing.T, c *cache.Cache, want ...v1.Hash) {
	t.Helper()
	var got []v1.Hash
	for _, u := range usages(t, c, "present") {
		got = append(got, u.Digest)
	}
	slices.SortFunc(want, func(a, b v1.Hash) int { return strings.Compare(a.String(), b.String()) })
	if !slices.Equal(got, want) || len(usages(t, c)) != len(want) {
		t.Errorf("got %v, want %v", usages(t, c), want)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Debris goes once it is old, whatever the policy; what another tool may be
// about to list does not.
func TestPruneDebris(t *testing.T) {
	c := open(t)
	dir := dirOf(c)
	old, fresh := []byte("old"), []byte("fresh")
	for _, b := range [][]byte{old, fresh} {
		must(os.WriteFile(blobPath(dir, digestOf(b)), b, 0o644))
	}
	must(os.Chtimes(blobPath(dir, digestOf(old)), time.Time{}, time.Now().Add(-2*time.Hour)))
	must(os.WriteFile(filepath.Join(dir, ".ocicache", "ingest", "dead"), old, 0o644))
	must(os.WriteFile(filepath.Join(dir, ".ocicache", "trash", "dead"), old, 0o644))
	r := prune(t, c, cache.PrunePolicy{})
	if len(r.Removals) != 1 || r.Removals[0].Digest != digestOf(old) || r.Bytes != 3 {
		t.Errorf("got %+v, want the old one", r)
	}
	if s := c.Stats(); s.Pruned != 1 || s.PrunedBytes != 3 {
		t.Errorf("got %+v", s)
	}
	if exists(blobPath(dir, digestOf(old))) || !exists(blobPath(dir, digestOf(fresh))) {
		t.Error("the wrong one went")
	}
	for _, name := range []string{"ingest/dead", "trash/dead"} {
		if exists(filepath.Join(dir, ".ocicache", name)) {
			t.Errorf("%s is there", name)
		}
	}
}

// A filter that cannot be read is found before another policy has removed
// something, and at Open.
func TestPruneFilters(t *testing.T) {
	c := open(t)
	l := makeLayer(1, 1000)
	readAll(t, c.Layer(fake(l)).Compressed)
	bad := cache.PrunePolicy{Filters: []string{"sise>1"}}
	if r, err := c.PruneAll(t.Context(), cache.PrunePolicy{All: true}, bad); err == nil || len(r.Removals) > 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	mustGet(t, c, l.digest())
	if _, err := cache.Open(t.TempDir(), cache.WithPrune(bad)); err == nil || !strings.Contains(err.Error(), "sise") {
		t.Errorf("Open: got %v", err)
	}
}

// What was put aside is there for a week to look at, also if the file is older,
// unless all is to go.
func TestPruneQuarantine(t *testing.T) {
	for _, tt := range []struct {
		name string
		days int
		p    cache.PrunePolicy
		want []string // what is left
	}{
		{"fresh", 6, cache.PrunePolicy{}, []string{"index.json-x", "one", "two"}},
		{"old", 8, cache.PrunePolicy{}, []string{"one"}},
		{"dry", 8, cache.PrunePolicy{DryRun: true}, []string{"index.json-x", "one", "two"}},
		{"all", 0, cache.PrunePolicy{All: true}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, days := t.TempDir(), time.Duration(0)
			c := openDir(t, dir, cache.WithClock(func() time.Time { return time.Now().Add(days * 24 * time.Hour) }))
			aside := filepath.Join(dir, ".ocicache", "quarantine")
			names := map[string]string{}
			put := func(name string, seed uint64) {
				t.Helper()
				l := makeLayer(seed, 1000)
				readAll(t, c.Layer(fake(l)).Compressed)
				overwrite(t, blobPath(dir, l.digest()), []byte("rot"))
				must(os.Chtimes(blobPath(dir, l.digest()), time.Time{}, time.Now().Add(-365*24*time.Hour)))
				names["sha256-"+l.digest().Hex] = name
				if r, err := c.Verify(t.Context(), cache.VerifyOptions{}); err != nil || len(r.Findings) != 1 {
					t.Fatalf("got %+v, %v", r, err)
				}
			}
			put("two", 2)
			must(os.MkdirAll(filepath.Join(aside, "index.json-x", "below"), 0o755))
			days = time.Duration(tt.days)
			put("one", 1)
			one := filepath.Join(aside, "sha256-"+makeLayer(1, 1000).digest().Hex)
			must(os.Chtimes(one, time.Time{}, time.Now().Add(days*24*time.Hour))) // as the clock has it
			r := prune(t, c, tt.p)
			var left []string
			for _, name := range listDir(t, aside) {
				if names[name] != "" {
					name = names[name]
				}
				left = append(left, name)
			}
			slices.Sort(left)
			removed := 0
			for _, x := range r.Removals {
				if strings.Contains(x.Reason, "quarantine/") {
					removed++
				}
			}
			if wantRemoved := map[string]int{"fresh": 0, "old": 2, "dry": 2, "all": 3}[tt.name]; !slices.Equal(left, tt.want) || removed != wantRemoved {
				t.Errorf("removed %d, left %v; want %d, %v", removed, left, wantRemoved, tt.want)
			}
		})
	}
}

// A prune in another process has chosen a blob when this one deletes it and
// fills it again, or reads it: it stays. And what is filled again after it was
// taken out, and before it is unlinked, stays too.
func TestPruneInterleaved(t *testing.T) {
	for name, between := range map[string]func(t *testing.T, c *cache.Cache, l content){
		"filled again": func(t *testing.T, c *cache.Cache, l content) {
			must(c.Delete(l.digest()))
			readAll(t, c.Layer(fake(l)).Compressed)
		},
		"pinned": func(t *testing.T, c *cache.Cache, l content) {
			_, err := c.Pin(l.digest())
			must(err)
		},
		"pinned by name": func(t *testing.T, c *cache.Cache, l content) { must(c.PinAs("x", l.digest())) },
		"used": func(t *testing.T, c *cache.Cache, l content) {
			other := openDir(t, dirOf(c))
			readAll(t, other.Layer(fake(l)).Compressed)
			must(other.Close()) // which journals the use
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := openDir(t, dir)
			l := small(1)
			readAll(t, c.Layer(fake(l)).Compressed)
			p := start(t, "serve", dir, "")
			p.do("stop before lock .ocicache/lock", "done")
			p.tell("prune") // looks what is held, then chooses, then removes
			p.want("stopped")
			p.tell("again")
			p.want("stopped")
			between(t, c, l)
			p.do("go on", "removed 0")
			if !exists(blobPath(dir, l.digest())) {
				t.Error("it was removed")
			}
			checkForms(t, mustGet(t, c, l.digest()), l)
			p.end()
		})
	}
	dir := t.TempDir()
	c := openDir(t, dir)
	l := small(1)
	readAll(t, c.Layer(fake(l)).Compressed)
	p := start(t, "serve", dir, "")
	p.do("stop before remove .ocicache/trash", "done")
	p.tell("prune")
	p.want("stopped")
	readAll(t, c.Layer(fake(l)).Compressed)
	p.do("go on", "removed 1")
	checkForms(t, mustGet(t, c, l.digest()), l)
	p.end()
}

// What was to go is used by then: something else goes, so that the limit holds.
func TestPruneLooksAgain(t *testing.T) {
	dir, at := t.TempDir(), newClock()
	var c *cache.Cache
	var first, second content
	looks := 0
	prunes := openDir(t, dir, cache.WithClock(at.now), cache.WithHook(func(op, name string) error {
		if op != "lock" || name != ".ocicache/lock" || c == nil {
			return nil
		}
		if looks++; looks == 2 { // it looked what is held, and has chosen
			readAll(t, c.Layer(fake(first)).Compressed)
			cache.JournalUses(c)
		}
		return nil
	}))
	other := openDir(t, dir, cache.WithClock(at.now))
	first, second = makeLayer(1, 10_000), makeLayer(2, 10_000)
	readAll(t, other.Layer(fake(first)).Compressed)
	at.set(1)
	readAll(t, other.Layer(fake(second)).Compressed)
	at.set(2)
	c = other
	r := prune(t, prunes, cache.PrunePolicy{MaxBytes: int64(len(first.blob) + len(second.blob) - 1)})
	if len(r.Removals) != 1 || r.Removals[0].Digest != second.digest() {
		t.Errorf("got %+v, want %s removed", r, second.digest())
	}
}

// A prune ends with its context, between two batches; a dry one works where
// nothing can be written.
func TestPruneCanceled(t *testing.T) {
	dir := t.TempDir()
	c := openDir(t, dir)
	for i := range uint64(100) {
		must(c.Fill(t.Context(), fake(makeLayer(i, 100))))
	}
	must(c.Flush())
	dry := prune(t, openDir(t, dir, cache.WithReadOnly()), cache.PrunePolicy{All: true, DryRun: true})
	if len(dry.Removals) != 100 {
		t.Errorf("read-only: got %d removals, want 100", len(dry.Removals))
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := c.Prune(ctx, cache.PrunePolicy{All: true, Progress: func(cache.Removal) { cancel() }})
	if !errors.Is(err, context.Canceled) || len(r.Removals) == 0 || len(r.Removals) > 16 {
		t.Errorf("got %d removals, %v", len(r.Removals), err)
	}
	if left := len(blobs(t, dir)); left != 100-len(r.Removals) {
		t.Errorf("%d are left", left)
	}
}
