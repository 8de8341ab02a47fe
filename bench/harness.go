package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// A config is how much is measured.
type config struct {
	runs   int
	size   int64 // of the big layer's tar, in bytes
	binary int64 // size of the program that Build skips, likewise
	few    int   // entries of a small cache, for Put
	many   int   // entries of a large one
	puts   int   // a turn
	small  int   // layers that are filled in a row
	procs  int   // at work in one directory at the same time
	rounds int   // of each process
	each   int   // layers that a process keeps in a round
}

func defaults() config {
	return config{runs: 5, size: 245 << 20, binary: 60 << 20, few: 100, many: 100_000, puts: 300, small: 3000, procs: 8, rounds: 3, each: 20}
}

// tiny is for tests.
func tiny() config {
	return config{runs: 1, size: 8 << 20, binary: 1 << 20, few: 10, many: 1000, puts: 20, small: 50, procs: 3, rounds: 2, each: 5}
}

// A group is measurements that share what they need. Its trials take turns.
type group struct {
	prepare func() error
	trials  []trial
	most    int // turns, 0 if as many as are wanted: for what takes long
	rows    []row
}

// A trial is one turn of a contestant, or of several that are so quick that
// they take turns within it. It records what it measured.
type trial func(*samples) error

// A row names the samples that are compared in it.
type row struct {
	name             string
	unit             unit
	ours, ggcr, bare string
	aim              aim
}

// An aim is what DESIGN.md, section 9, wants of a row.
type aim struct {
	text string
	met  func(ours, ggcr, bare float64) bool
}

func atMost(text string, limit float64) aim {
	return aim{text, func(ours, _, _ float64) bool { return ours <= limit }}
}

func ofBare(factor float64) aim {
	return aim{"≤ " + strconv.FormatFloat(factor, 'g', -1, 64) + "× ref", func(ours, _, bare float64) bool { return ours <= factor*bare }}
}

func ofGGCR(factor float64) aim {
	return aim{"≤ " + strconv.FormatFloat(factor, 'g', -1, 64) + "× ggcr", func(ours, ggcr, _ float64) bool { return ours <= factor*ggcr }}
}

// samples are what the trials of a group measured, by name.
type samples struct{ m map[string][]float64 }

func newSamples() *samples { return &samples{map[string][]float64{}} }

func (s *samples) add(name string, value float64) {
	s.m[name] = append(s.m[name], value)
}

// time runs fn and records how many seconds it took.
func (s *samples) time(name string, fn func() error) error {
	took, err := timed(fn)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.add(name, took)
	return nil
}

// timed returns how many seconds fn took.
func timed(fn func() error) (float64, error) {
	start := time.Now()
	err := fn()
	return time.Since(start).Seconds(), err
}

// median returns NaN if there is no such sample.
func (s *samples) median(name string) float64 {
	v := slices.Sorted(slices.Values(s.m[name]))
	if len(v) == 0 {
		return math.NaN()
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// groups returns all that can be measured, in the order of the table.
func groups(e *env) []*group {
	return []*group{gets(e), warmReads(e), coldFills(e), puts(e), smallFills(e), opens(e), packs(e), builds(e), processes(e)}
}

// measure runs the groups that have a row whose name matches.
func measure(e *env, match *regexp.Regexp, log io.Writer) ([]result, error) {
	var results []result
	for _, g := range groups(e) {
		rows := slices.DeleteFunc(slices.Clone(g.rows), func(r row) bool { return !match.MatchString(r.name) })
		if len(rows) == 0 {
			continue
		}
		start := time.Now()
		s, err := g.run(e.runs, e.settle)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			results = append(results, newResult(r, s))
		}
		fmt.Fprintf(log, "%4.0f s  %s …\n", time.Since(start).Seconds(), rows[0].name)
	}
	return results, nil
}

// run lets the trials take turns, each after settle.
func (g *group) run(runs int, settle func() error) (*samples, error) {
	s := newSamples()
	if g.prepare != nil {
		if err := g.prepare(); err != nil {
			return nil, err
		}
	}
	if g.most > 0 {
		runs = min(runs, g.most)
	}
	for range runs {
		for _, t := range g.trials {
			if err := settle(); err != nil {
				return nil, err
			}
			if err := t(s); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// env is where measurements live: a temporary directory, and what is made
// once and shared by them.
type env struct {
	config
	tmp    string
	n      int // paths so far
	layers int // small ones so far
	big    lazy[*bigLayer]
	reg    lazy[*registryServer]
	warm   lazy[*warmCache] // at ten entries
	full   lazy[*warmCache] // at many entries
	index  lazy[string]     // an index.json of many entries
	atEnd  []func() error
}

func newEnv(cfg config) (*env, error) {
	tmp, err := os.MkdirTemp("", "ocicache-bench-")
	if err != nil {
		return nil, err
	}
	e := &env{config: cfg, tmp: tmp}
	e.big.make = e.makeBig
	e.reg.make = e.makeRegistry
	e.warm.make = func() (*warmCache, error) { return e.makeWarm(10, false) }
	e.full.make = func() (*warmCache, error) { return e.makeWarm(e.many, true) }
	e.index.make = func() (string, error) { return e.makeIndex(e.many) }
	return e, nil
}

func (e *env) close() {
	slices.Reverse(e.atEnd)
	for _, f := range e.atEnd {
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
	os.RemoveAll(e.tmp)
}

// settle ends what one trial left for the system to do, so that no other pays
// for it: garbage, and what the file system has yet to write or to discard.
func (e *env) settle() error {
	runtime.GC()
	f, err := os.Create(filepath.Join(e.tmp, "settle"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString("1"); err != nil {
		return err
	}
	return f.Sync()
}

// path returns a path that nothing is at.
func (e *env) path() string {
	e.n++
	return filepath.Join(e.tmp, strconv.Itoa(e.n))
}

// inTemp calls fn with the path of a directory to be, and removes it.
func (e *env) inTemp(fn func(dir string) error) error {
	dir := e.path()
	return cmp.Or(fn(dir), os.RemoveAll(dir))
}

// lazy is a value that is made when first asked for.
type lazy[T any] struct {
	make func() (T, error)
	made bool
	v    T
	err  error
}

func (l *lazy[T]) get() (T, error) {
	if !l.made {
		l.v, l.err = l.make()
		l.made = true
	}
	return l.v, l.err
}

// perOp calls fn for a tenth of a second, and returns the time in seconds and
// the number of allocations of a call.
func perOp(fn func() error) (seconds, allocs float64, err error) {
	if err := fn(); err != nil {
		return 0, 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start, n := time.Now(), 0
	for time.Since(start) < 100*time.Millisecond {
		for range 100 {
			if err := fn(); err != nil {
				return 0, 0, err
			}
		}
		n += 100
	}
	took := time.Since(start).Seconds()
	runtime.ReadMemStats(&after)
	return took / float64(n), math.Round(float64(after.Mallocs-before.Mallocs) / float64(n)), nil
}
