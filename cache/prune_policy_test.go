package cache_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocicache/ocicache/cache"
)

// A dry run says what the run does, also of what is remembered, and of
// policies that come after others.
func TestPruneDryRun(t *testing.T) {
	const disk = 1 << 40
	for name, policies := range map[string][]cache.PrunePolicy{
		"one":                     {everything},
		"all":                     {{All: true}},
		"what is remembered, all": {everything, {All: true}},
		"tars, then a limit":      {{Filters: []string{"form==uncompressed"}}, {MaxBytes: 2000}},
		"blobs, then tars":        {{Filters: []string{"form==compressed"}}, {Filters: []string{"remakable"}}, everything},
		"then more free":          {{Filters: []string{"form==uncompressed"}}, {MinFreeBytes: disk - 500}},
	} {
		t.Run(name, func(t *testing.T) {
			var reports []string
			for _, dry := range []bool{true, false} {
				at := newClock()
				var c *cache.Cache
				free := func() int64 { return disk - cache.TotalUsage(usages(t, c)).Bytes }
				c = open(t, cache.WithClock(at.now), cache.WithMaxRemembered(1), cache.WithMinFree(0), cache.WithFree(func() int64 {
					if c == nil {
						return disk
					}
					return free()
				}))
				for i := range uint64(5) {
					at.set(int64(i))
					l := makeLayer(i, 1000)
					checkForms(t, c.Layer(fake(l)), l)
				}
				at.set(100)
				for i := range policies {
					policies[i].DryRun = dry
				}
				r, err := c.PruneAll(t.Context(), policies...)
				if err != nil {
					t.Fatal(err)
				}
				reports = append(reports, fmt.Sprintf("%+v", r))
			}
			if reports[0] != reports[1] {
				t.Errorf("the dry run:\n%s\nthe run:\n%s", reports[0], reports[1])
			}
		})
	}
}

// All with a limit forgets nothing that has no bytes, and leaves what was just
// put aside.
func TestPruneAllWithin(t *testing.T) {
	c := open(t)
	built, rotten := makeLayer(1, 1000), makeLayer(2, 1000)
	mustBuild(t, c, "k", builderOf(built))
	prune(t, c, everything)
	readAll(t, c.Layer(fake(rotten)).Compressed)
	overwrite(t, blobPath(dirOf(c), rotten.digest()), []byte("rot"))
	wantFindings(t, verify(t, c, cache.VerifyOptions{}), fmt.Sprintf("corrupt %s quarantined", rotten.digest()))
	readAll(t, c.Layer(fake(rotten)).Compressed)
	keys := func() int {
		ks, err := c.Keys()
		must(err)
		return len(ks)
	}
	for _, limit := range []int64{1 << 40, 1} {
		r := prune(t, c, cache.PrunePolicy{All: true, MaxBytes: limit})
		for _, x := range r.Removals {
			if x.Forgotten && x.Digest != rotten.digest() || strings.Contains(x.Reason, "quarantine/") {
				t.Errorf("limit %d: got %+v", limit, x)
			}
		}
		if keys() != 1 {
			t.Errorf("limit %d: the build's key is gone", limit)
		}
	}
	if r := prune(t, c, cache.PrunePolicy{All: true}); len(r.Removals) < 2 || keys() != 0 {
		t.Errorf("without a limit: got %+v, %d keys", r, keys())
	}
}

// What builds made is remembered longer than pairs, up to the same number.
func TestPruneRemembersBuilds(t *testing.T) {
	at := newClock()
	c := open(t, cache.WithClock(at.now), cache.WithMaxRemembered(3))
	for i := range uint64(5) {
		at.set(int64(i))
		mustBuild(t, c, fmt.Sprint(i), builderOf(makeLayer(i, 1000)))
	}
	for i := range uint64(5) {
		at.set(int64(10 + i))
		must(c.FillUncompressed(t.Context(), fake(makeLayer(10+i, 1000))))
	}
	prune(t, c, everything)
	var got []string
	for _, u := range usages(t, c) {
		got = append(got, u.Keys...)
	}
	slices.Sort(got)
	if want := []string{"2", "3", "4"}; !slices.Equal(got, want) || len(usages(t, c)) != 3 {
		t.Errorf("got the builds %v of %v, want %v", got, usages(t, c), want)
	}
}

// What would remove everything by mistake is refused, by the name of the field,
// before anything is removed.
func TestPruneRefuses(t *testing.T) {
	c := open(t)
	readAll(t, c.Layer(fake(makeLayer(1, 1000))).Compressed)
	for field, p := range map[string]cache.PrunePolicy{
		"MaxBytes": {MaxBytes: -1}, "KeepDuration": {KeepDuration: -time.Hour}, "ReservedBytes": {ReservedBytes: -1},
		"MinFreeBytes": {All: true, MinFreeBytes: -1}, "Filters": {Filters: []string{"size<0", " "}},
	} {
		if r, err := c.PruneAll(t.Context(), cache.PrunePolicy{All: true}, p); err == nil || !strings.Contains(err.Error(), field) || len(r.Removals) > 0 {
			t.Errorf("PruneAll: got %+v, %v, want an error that names %s", r, err, field)
		}
		if _, err := c.Prune(t.Context(), p); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("Prune: got %v, want an error that names %s", err, field)
		}
		if _, err := cache.Open(t.TempDir(), cache.WithPrune(p)); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("Open: got %v, want an error that names %s", err, field)
		}
	}
}

// What was just made and never read was not used for a week either, but it was
// touched.
func TestFilterTouched(t *testing.T) {
	at := newClock()
	c := open(t, cache.WithClock(at.now))
	const day = 24 * 60 * 60
	old, read, fresh := makeLayer(1, 1000), makeLayer(2, 1000), makeLayer(3, 1000)
	must(c.Fill(t.Context(), fake(old)))
	must(c.Fill(t.Context(), fake(read)))
	at.set(9 * day)
	readAll(t, c.Layer(fake(read)).Compressed)
	must(c.Fill(t.Context(), fake(fresh)))
	at.set(10 * day)
	for filter, want := range map[string][]string{
		"touched<7d": sortedDigests(old), "touched>=7d": sortedDigests(read, fresh), "lastused<7d": sortedDigests(old, fresh),
	} {
		var got []string
		for _, u := range usages(t, c, filter) {
			got = append(got, u.Digest.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", filter, got, want)
		}
	}
}

// Commits during a background prune cause one more, and the limit holds in
// the end.
func TestWithPruneCoalesces(t *testing.T) {
	began, goOn := make(chan bool, 1000), make(chan bool)
	limit := int64(2 * len(makeLayer(0, 1000).blob))
	c := open(t, cache.WithPrune(cache.PrunePolicy{MaxBytes: limit, Progress: func(cache.Removal) {
		began <- true
		<-goOn
	}}))
	for i := range uint64(50) {
		must(c.Fill(t.Context(), fake(makeLayer(i, 1000))))
		if i == 3 { // more than the limit
			<-began
		}
	}
	pruning := 0
	for _, g := range goroutines() {
		if strings.Contains(g, "pruneLater") {
			pruning++
		}
	}
	if pruning == 0 || pruning > 2 {
		t.Errorf("%d goroutines prune, want one, and one that waits", pruning)
	}
	close(goOn)
	var total int64
	for range 1000 {
		if total = cache.TotalUsage(usages(t, c)).Bytes; total <= limit {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d bytes are there, the limit is %d", total, limit)
}
