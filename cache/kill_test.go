package cache_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// A ledger is what must be so of layers, by number, after what a process said
// of them before it was killed: "filled", in both forms; "fetched", the blob
// is there; "deleted", neither is. Anything else says nothing.
type ledger map[uint64]string

func (l ledger) note(lines ...string) {
	for _, line := range lines {
		var what string
		var n uint64
		if k, _ := fmt.Sscan(line, &what, &n); k < 2 {
			continue
		}
		switch was := l[n]; {
		case what == "fetched" && was == "filled":
		case what == "filling" && was != "deleted": // takes nothing away
		default:
			l[n] = what
		}
	}
}

// check asserts that what must be there is, what must not is not, and that
// whatever is found is right.
func (l ledger) check(t *testing.T, c *cache.Cache) {
	t.Helper()
	for n, what := range l { // first: reading the other form may make one
		if what == "deleted" {
			wantNotFound(t, c, small(n).digest())
			wantNotFound(t, c, small(n).diffID())
		}
	}
	for n, what := range l {
		want := small(n)
		must := map[v1.Hash]bool{want.digest(): what == "fetched" || what == "filled", want.diffID(): what == "filled"}
		for _, h := range []v1.Hash{want.diffID(), want.digest()} {
			if answer, err := lookUp(c, h, want); err != nil || must[h] && answer != "found" {
				t.Errorf("layer %d was %s: %s is %s, %v", n, what, h, answer, err)
			}
		}
	}
}

// fillAloud and deleteAloud say what they are about to do and what they did.
func fillAloud(c *cache.Cache, n uint64, forms ...string) error {
	say("filling %d", n)
	for _, form := range forms {
		if _, err := read(c, small(n), form); err != nil {
			return err
		}
		if form == "compressed" {
			say("fetched %d", n)
		}
	}
	say("filled %d", n)
	return nil
}

func deleteAloud(c *cache.Cache, n uint64) error {
	say("deleting %d", n)
	for _, h := range []v1.Hash{small(n).digest(), small(n).diffID()} {
		if err := c.Delete(h); err != nil && !errors.Is(err, cache.ErrNotFound) {
			return err
		}
	}
	say("deleted %d", n)
	return nil
}

// stormRole fills, decompresses, deletes and flushes until it is killed.
func stormRole(t *testing.T, dir, arg string) {
	var who, seed uint64
	must(fmt.Sscan(arg, &who, &seed))
	rnd := rand.New(rand.NewPCG(seed, who))
	c, err := cache.Open(dir, cache.WithLockTimeout(time.Minute), toStderr)
	say("ready")
	for err == nil {
		own, shared := 100*who+rnd.Uint64N(12), 1000+rnd.Uint64N(6)
		switch rnd.IntN(8) {
		case 0:
			err = c.Flush()
		case 1, 2:
			err = deleteAloud(c, own)
		case 3:
			err = fillAloud(c, shared, "uncompressed")
		case 4:
			err = fillAloud(c, own, "uncompressed")
		default:
			err = fillAloud(c, own, "compressed", "uncompressed")
		}
		if st := c.Stats(); err == nil && st.WriteFaults+st.Fallbacks+st.Repairs > 0 {
			err = fmt.Errorf("something failed: %+v", st)
		}
		say("stepped")
	}
	say("failed %v", err)
}

// Two writers are killed at any moment, again and again.
func TestKilledUnderLoad(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir, ledger := t.TempDir(), ledger{}
	openHandle(t, dir).Close()
	ingests := filepath.Join(dir, ".ocicache", "ingest")
	steps, debris := 0, 0
	for round := range 40 {
		var ps []*process
		for who := range 2 {
			ps = append(ps, start(t, "storm", dir, fmt.Sprint(who, " ", rnd.Uint64())))
		}
		for _, p := range ps {
			var said []string
			for n := rnd.IntN(30); n > 0 && p.lines.Scan(); {
				if said = append(said, p.lines.Text()); p.lines.Text() == "stepped" {
					n--
				}
			}
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond) // to somewhere in the middle of a step
			for _, line := range append(said, p.kill()...) {
				ledger.note(line)
				if line == "stepped" {
					steps++
				} else if strings.HasPrefix(line, "failed") {
					t.Error(line)
				}
			}
		}
		debris += len(listDir(t, ingests))
		c := openHandle(t, dir, cache.WithReadOnly())
		ledger.check(t, c)
		must(c.Close())
		if t.Failed() {
			t.Fatalf("in round %d with seed %d", round, seed)
		}
	}
	t.Logf("killed after %d steps in all, with %d files left in ingest", steps, debris)
	c := openHandle(t, dir)
	if got := listDir(t, ingests); len(got) > 0 {
		t.Errorf("ingest holds %v", got)
	}
	ledger.check(t, c)
	must(c.Close())
	checkDir(t, dir)
}
