package cache_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/index"
)

// What one process puts, deletes and checkpoints, another that had opened the
// directory before knows.
func TestProcessesShare(t *testing.T) {
	dir := t.TempDir()
	a, b := start(t, "serve", dir, ""), start(t, "serve", dir, "")
	for n := range 4 {
		for _, step := range []struct {
			p               *process
			command, answer string
		}{
			{a, "get", "missing missing"},
			{a, "compressed", "fetched"},
			{b, "get", "found found"}, // and decompressed
			{b, "read", "cached"},
			{a, "read", "cached"},
			{b, "delete", "done"},
			{a, "get", "missing missing"},
			{a, "uncompressed", "fetched"},
			{b, "flush", "done"},
			{b, "read", "cached"},
			{a, "get", "found found"},
			{a, "flush", "done"},
			{a, "delete", "done"},
			{b, "read", "fetched"},
			{a, "read", "cached"},
			{b, "flush", "done"},
			{a, "read", "cached"},
		} {
			step.p.do(fmt.Sprint(step.command, " ", n), step.answer)
		}
		a, b = b, a // the other direction
	}
	a.end()
	b.end()
	wantExactly(t, dir, small(0), small(1), small(2), small(3))
}

// wantExactly asserts that a directory that nobody writes to holds some
// layers in both forms, and nothing else.
func wantExactly(t *testing.T, dir string, want ...content) {
	t.Helper()
	c, err := cache.Open(dir, cache.WithReadOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, w := range want {
		checkForms(t, mustGet(t, c, w.digest()), w)
		checkForms(t, mustGet(t, c, w.diffID()), w)
	}
	if got := len(blobs(t, dir)); got != 2*len(want) {
		t.Errorf("there are %d blobs, want two of each of %d layers", got, len(want))
	}
	cat := index.New()
	if _, err := cat.Decode(readFile(t, filepath.Join(dir, "index.json"))); err != nil || cat.Len() != 2*len(want) {
		t.Errorf("the index lists %d entries, %v; want two of each of %d layers", cat.Len(), err, len(want))
	}
	checkDir(t, dir)
}

// Two processes read one layer at the same instant: both have missed when
// either starts to write, or both have written when either commits.
func TestProcessesSameLayer(t *testing.T) {
	dir := t.TempDir()
	a, b := start(t, "serve", dir, ""), start(t, "serve", dir, "")
	var want []content
	for _, before := range []string{"create .ocicache/ingest/", "lock .ocicache/lock"} {
		for _, forms := range [][2]string{
			{"compressed", "compressed"},
			{"uncompressed", "uncompressed"},
			{"compressed", "uncompressed"},
			{"lazy", "lazy"},
		} {
			n := len(want)
			want = append(want, small(uint64(n)))
			answers := []string{"fetched", "cached"} // to decompress, one may find the other's blob
			if forms[0] == "lazy" {
				a.do(fmt.Sprint("compressed ", n), "fetched")
				forms, answers = [2]string{"uncompressed", "uncompressed"}, []string{"cached"}
			}
			for i, p := range []*process{a, b} {
				p.do("stop before "+before, "done")
				p.tell("%s %d", forms[i], n)
			}
			a.want("stopped")
			b.want("stopped")
			a.tell("go on")
			b.tell("go on")
			a.want(answers...)
			b.want(answers...)
			for _, p := range []*process{a, b} {
				p.do(fmt.Sprint("read ", n), "cached")
			}
		}
	}
	a.end()
	b.end()
	wantExactly(t, dir, want...)
}

const (
	workers   = 8
	perWorker = 20 // layers a round
	workOver  = 3  // rounds
	extra     = 1_000_000
)

func workOf(worker, round, i uint64) uint64 {
	return (worker%workers*workOver+round)*perWorker + i
}

// work is a round of one of the workers: it fills layers of its own, and some
// more that it deletes again, reads those of the next worker, whether they are
// there or not, and flushes.
func work(c *cache.Cache, worker, round uint64) error {
	var errs []error
	check := func(_ string, err error) { errs = append(errs, err) }
	for i := range uint64(perWorker) {
		n := workOf(worker, round, i)
		own, other := small(n), small(workOf(worker+1, round, perWorker-1-i))
		if i%2 == 0 {
			check(read(c, own, "compressed", "uncompressed"))
		} else {
			check(read(c, own, "uncompressed"))
		}
		check(lookUp(c, other.digest(), other))
		check(lookUp(c, other.diffID(), other))
		switch i % 5 {
		case 0:
			check(read(c, other, "uncompressed"))
		case 1:
			gone := small(n + extra)
			check(read(c, gone, "uncompressed"))
			errs = append(errs, c.Delete(gone.digest()), c.Delete(gone.diffID()))
		case 2:
			errs = append(errs, c.Flush())
		}
	}
	return errors.Join(errs...)
}

// Eight processes at once: no operation fails, nothing is lost, and what was
// deleted does not come back.
func TestProcessesWork(t *testing.T) {
	dir := t.TempDir()
	var ps []*process
	for range workers {
		ps = append(ps, start(t, "serve", dir, ""))
	}
	var want []content
	for round := range uint64(workOver) {
		for worker, p := range ps {
			p.tell("work %d %d", worker, round)
		}
		for worker, p := range ps {
			p.want("done")
			for i := range uint64(perWorker) {
				want = append(want, small(workOf(uint64(worker), round, i)))
			}
		}
	}
	for _, p := range ps {
		p.end()
	}
	wantExactly(t, dir, want...)
	c := openDir(t, dir)
	for n := range uint64(len(want)) {
		wantNotFound(t, c, small(n+extra).digest())
		wantNotFound(t, c, small(n+extra).diffID())
	}
}

// toStderr tells whoever looks into a failure what went wrong.
var toStderr = cache.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil)))
