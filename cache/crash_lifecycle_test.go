package cache_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/ocicache/ocicache/cache"
)

// used is what usedDir holds: 2 is pinned by name; 4, which has two keys, and
// 6, which has one, were built.
var used = ledger{1: "filled", 2: "filled", 3: "filled", 4: "fetched", 6: "fetched"}

var lifecycleCrashes = []crash{
	{
		name: "prune all", dir: usedDir, had: ledger{2: "filled"},
		run:  func(c *cache.Cache) error { return pruneAloud(c, cache.PrunePolicy{All: true}, 1, 3, 4, 6) },
		then: wantPinnedOnly,
	},
	{
		name: "prune some", dir: usedDir, had: ledger{2: "filled", 3: "filled", 4: "fetched", 6: "fetched"},
		run: func(c *cache.Cache) error {
			filters := []string{"digest==" + small(1).digest().String(), "digest==" + small(1).diffID().String()}
			return pruneAloud(c, cache.PrunePolicy{All: true, Filters: filters}, 1)
		},
		then: func(t *testing.T, dir string, _ []string) {
			wantPins(t, dir, map[string]int{"kept": 2})
			wantBuilt(t, dir, "key 4", 0)
		},
	},
	{
		name: "prune to a limit", dir: usedDir, had: ledger{2: "filled"},
		run:  func(c *cache.Cache) error { return pruneAloud(c, cache.PrunePolicy{MaxBytes: 1}) },
		then: wantRemembered,
	},
	{
		name: "pin by name", dir: usedDir, had: used,
		run: func(c *cache.Cache) error {
			return inTurn(
				announced("pin", func() error { return c.PinAs("new", small(1).digest(), small(1).diffID()) }),
				announced("unpin", func() error { return c.Unpin("new") }),
			)
		},
		then: wantPinnedAsSaid,
	},
	{
		name: "pin", dir: usedDir, had: used,
		run: func(c *cache.Cache) error {
			release, err := c.Pin(small(1).digest())
			if err != nil {
				return err
			}
			if _, err := c.Pin(small(3).diffID()); err != nil { // Close lets go of it
				return err
			}
			release()
			return nil
		},
		then: wantPinnedOnly,
	},
	{
		name: "build", dir: usedDir, had: used,
		run: func(c *cache.Cache) error {
			_, err := c.Build(context.Background(), "key 5", func(context.Context) (v1.Layer, error) { return fake(small(5)), nil })
			say("fetched 5")
			return err
		},
		then: func(t *testing.T, dir string, said []string) {
			most := 1
			if slices.Contains(said, "fetched 5") {
				most = 0
			}
			wantBuilt(t, dir, "key 5", most)
			wantBuilt(t, dir, "key 4", 0)
		},
	},
	{
		name: "build a tar", dir: usedDir, had: used,
		run: func(c *cache.Cache) error {
			_, err := c.Build(context.Background(), "tar 7", buildTar)
			return err
		},
		then: func(t *testing.T, dir string, _ []string) {
			c := openHandle(t, dir)
			for range 2 {
				l, err := c.Build(t.Context(), "tar 7", buildTar)
				if err != nil {
					t.Fatal(err)
				}
				blob := readAll(t, l.Compressed)
				checkBuilt(t, l, content{blob: blob, tar: small(7).tar})
				if got := digestOf(gunzipped(blob)); got != small(7).diffID() {
					t.Errorf("the blob decompresses to %s, want %s", got, small(7).diffID())
				}
			}
		},
	},
	{
		name: "use", dir: usedDir, had: used,
		run: func(c *cache.Cache) error {
			for range 3 {
				l, err := c.Build(context.Background(), "key 4", nil)
				if err != nil {
					return err
				}
				if _, err := tryRead(l.Compressed); err != nil {
					return err
				}
			}
			if err := c.Close(); err != nil { // which journals
				return err
			}
			say("used")
			return nil
		},
		then: func(t *testing.T, dir string, said []string) {
			c := openHandle(t, dir)
			before := 1 // by the test that made it
			switch got := usages(t, c, "digest=="+small(4).digest().String())[0].UseCount; {
			case got != int64(before) && got != int64(before+6), slices.Contains(said, "used") && got == int64(before):
				t.Errorf("the blob was used %d times", got)
			}
			wantBuilt(t, dir, "key 4", 0)
		},
	},
	{
		name: "drop keys", dir: usedDir, had: used,
		run: func(c *cache.Cache) error {
			return inTurn(announced("drop", func() error { return c.DropKeys("key 4", "not there", "key 4 too") }))
		},
		then: func(t *testing.T, dir string, said []string) {
			keys := keysOf(t, openHandle(t, dir))
			if keys["key 6"] != small(6).digest() || slices.Contains(said, "drop ended") && len(keys) > 1 || !slices.Contains(said, "drop begun") && len(keys) < 3 {
				t.Errorf("keys: %v", keys)
			}
		},
	},
}

func usedDir(t *testing.T) string {
	from, to := settledDir(t), t.TempDir()
	c := openHandle(t, from)
	for n, keys := range map[uint64][]string{4: {"key 4", "key 4 too"}, 6: {"key 6"}} {
		for _, key := range keys {
			mustBuild(t, c, key, builderOf(small(n)))
		}
	}
	must(c.PinAs("kept", small(2).digest(), small(2).diffID()))
	must(c.Close())
	copyDir(t, to, from)
	return to
}

// buildTar builds a layer that has no compressed form yet.
func buildTar(context.Context) (v1.Layer, error) {
	return partial.UncompressedToLayer(&tarLayer{tar: small(7).tar})
}

// announced says when f begins and that it ended.
func announced(what string, f func() error) func() error {
	return func() error {
		say("%s begun", what)
		if err := f(); err != nil {
			return err
		}
		say("%s ended", what)
		return nil
	}
}

func inTurn(fs ...func() error) error {
	for _, f := range fs {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// pruneAloud says which layers a prune is to remove, and that it did.
func pruneAloud(c *cache.Cache, p cache.PrunePolicy, gone ...uint64) error {
	for _, n := range gone {
		say("pruning %d", n)
	}
	if _, err := c.Prune(context.Background(), p); err != nil {
		return err
	}
	for _, n := range gone {
		say("deleted %d", n)
	}
	return nil
}

// wantPinnedOnly prunes all: what usedDir has pinned by name is left, and
// nothing else.
func wantPinnedOnly(t *testing.T, dir string, _ []string) {
	t.Helper()
	wantPins(t, dir, map[string]int{"kept": 2})
	c := openHandle(t, dir)
	prune(t, c, cache.PrunePolicy{All: true})
	wantListed(t, c, small(2).digest(), small(2).diffID())
	if got := keysOf(t, c); len(got) > 0 {
		t.Errorf("keys: %v", got)
	}
	checkForms(t, mustGet(t, c, small(2).digest()), small(2))
}

// wantRemembered asserts that what usedDir held is there or remembered, with
// its keys, and can be had again.
func wantRemembered(t *testing.T, dir string, _ []string) {
	t.Helper()
	wantPins(t, dir, map[string]int{"kept": 2})
	c := openHandle(t, dir)
	diffIDs := map[v1.Hash]v1.Hash{}
	for _, u := range usages(t, c) {
		diffIDs[u.Digest] = u.DiffID
	}
	for n := range uint64(3) {
		if got, want := diffIDs[small(n+1).digest()], small(n+1).diffID(); got != want {
			t.Errorf("layer %d is remembered with the diffID %q, want %s", n+1, got, want)
		}
	}
	if got := len(keysOf(t, c)); got != 3 {
		t.Errorf("%d keys are left, want 3", got)
	}
	wantBuilt(t, dir, "key 4", 1)
}

// wantPins asserts how many blobs the pins hold.
func wantPins(t *testing.T, dir string, want map[string]int) {
	t.Helper()
	pins, err := openHandle(t, dir).Pins()
	got := map[string]int{}
	for name, hs := range pins {
		got[name] = len(hs)
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("pins: got %v, %v; want %v", got, err, want)
	}
}

// wantPinnedAsSaid asserts that a pin by name holds all or nothing.
func wantPinnedAsSaid(t *testing.T, dir string, said []string) {
	t.Helper()
	c := openHandle(t, dir)
	pins, err := c.Pins()
	if err != nil {
		t.Fatal(err)
	}
	hs, pinned := pins["new"]
	may := slices.Contains(said, "pin begun") && !slices.Contains(said, "unpin ended")
	has := slices.Contains(said, "pin ended") && !slices.Contains(said, "unpin begun")
	if pinned && (!may || len(hs) != 2) || has && !pinned {
		t.Errorf("the pin holds %v", hs)
	}
	prune(t, c, cache.PrunePolicy{All: true})
	want := []v1.Hash{small(2).digest(), small(2).diffID()}
	if pinned {
		want = append(want, small(1).digest(), small(1).diffID())
	}
	wantListed(t, c, want...)
}

// wantBuilt asserts that a build of a key, which the last figure of its name
// tells the layer of, gives that, and runs so often at most: nobody holds the
// key.
func wantBuilt(t *testing.T, dir, key string, most int) {
	t.Helper()
	want := small(uint64(key[len(key)-1] - '0'))
	c := openHandle(t, dir)
	b := builderOf(want)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := c.Build(ctx, key, b.build)
	if err != nil {
		t.Fatal(err)
	}
	checkBuilt(t, l, want)
	if got := b.n.Load(); got > int64(most) {
		t.Errorf("%s was built %d times, want %d at most", key, got, most)
	}
	if got := keysOf(t, c)[key]; got != want.digest() {
		t.Errorf("%s stands for %q, want %s", key, got, want.digest())
	}
}

func keysOf(t *testing.T, c *cache.Cache) map[string]v1.Hash {
	t.Helper()
	keys, err := c.Keys()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]v1.Hash{}
	for _, k := range keys {
		m[k.Key] = k.Digest
	}
	return m
}
