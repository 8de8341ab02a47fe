package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"

	"github.com/ocicache/ocicache/cache"
)

// TestMain lets the test binary be the child processes too.
func TestMain(m *testing.M) {
	if isChild() {
		exit(runChild())
	}
	os.Exit(m.Run())
}

// TestEveryMeasurement takes every measurement once, at tiny sizes.
func TestEveryMeasurement(t *testing.T) {
	e := testEnv(t, tiny())
	var log bytes.Buffer
	results, err := measure(e, regexp.MustCompile(""), &log)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, g := range groups(e) {
		rows += len(g.rows)
	}
	if len(results) != rows {
		t.Errorf("got %d results of %d rows", len(results), rows)
	}
	for _, r := range results {
		checkResult(t, r)
	}
}

// checkResult looks that a row has all that it names, and that what does not
// depend on the machine is as it should be.
func checkResult(t *testing.T, r result) {
	t.Helper()
	for who, name := range map[string]string{"ours": r.ours, "ggcr": r.ggcr} {
		if name != "" && len(r.samples[who]) == 0 {
			t.Errorf("%s: nothing was measured of %s (%s)", r.name, who, name)
		}
	}
	if machine := regexp.MustCompile(`GETs|kept \(|yet there|failed`); machine.MatchString(r.name) && r.verdict() == "not yet" {
		t.Errorf("%s: %v, want %s", r.name, r.medians.ours, r.aim.text)
	}
}

// TestWorkloadInTurn looks that everything is kept, by the others too, if the
// processes come one after the other: then what is lost is not our doing.
func TestWorkloadInTurn(t *testing.T) {
	for _, kind := range kinds {
		w := workload{Kind: kind, Dir: t.TempDir() + "/layout", Procs: 2, Rounds: 2, Each: 3, First: 1}
		for w.Who = range w.Procs {
			worker, err := newWorker(w)
			if err != nil {
				t.Fatal(err)
			}
			if err := worker.run(); err != nil || worker.failed > 0 {
				t.Errorf("%s: %d operations of process %d failed, error %v", kind, worker.failed, w.Who, err)
			}
		}
		kept, undead, err := w.count()
		if kept != 12 || undead != 0 || err != nil {
			t.Errorf("%s: got %d kept, %d undead, error %v, want 12, 0, none", kind, kept, undead, err)
		}
	}
}

// TestTable looks that the table fits 100 columns at the sizes that are the
// default.
func TestTable(t *testing.T) {
	var results []result
	for _, g := range groups(&env{config: defaults()}) {
		for _, r := range g.rows {
			s := newSamples()
			for _, name := range []string{r.ours, r.ggcr, r.bare} {
				s.add(name, map[unit]float64{seconds: 123.456, bytesOf: 1234.5e6, number: 100_000}[r.unit])
			}
			results = append(results, newResult(r, s))
		}
	}
	var table, objects bytes.Buffer
	if err := writeTable(&table, results); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(table.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if err := writeJSON(&objects, results); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(objects.Bytes(), &got); err != nil || len(got) != len(results) {
		t.Errorf("got %d objects for %d rows, error %v", len(got), len(results), err)
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		samples []float64
		want    string
	}{
		{nil, "NaN"},
		{[]float64{3}, "3"},
		{[]float64{9, 1, 2}, "2"},
		{[]float64{4, 1, 2, 9}, "3"},
	} {
		s := newSamples()
		s.m["x"] = tt.samples
		if got := fmt.Sprint(s.median("x")); got != tt.want {
			t.Errorf("median of %v: got %s, want %s", tt.samples, got, tt.want)
		}
	}
}

func testEnv(tb testing.TB, cfg config) *env {
	tb.Helper()
	e, err := newEnv(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(e.close)
	return e
}

// benchEnv has the sizes that are the default, or tiny ones with -short.
func benchEnv(b *testing.B) *env {
	cfg := defaults()
	if testing.Short() {
		cfg = tiny()
	}
	return testEnv(b, cfg)
}

// must is for what is made before the clock starts.
func must[T any](b *testing.B, make func() (T, error)) T {
	b.Helper()
	v, err := make()
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// loop calls fn b.N times.
func loop(b *testing.B, fn func() error) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if err := fn(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	e := benchEnv(b)
	big := must(b, e.big.get)
	warm, full := must(b, e.warm.get), must(b, e.full.get)
	for _, bb := range []struct {
		name string
		c    ggcrcache.Cache
	}{
		{"ours/10", warm.ours},
		{"ours/" + fmt.Sprint(e.many), full.ours},
		{"ggcr/10", warm.ggcr},
	} {
		b.Run(bb.name+"/digest", func(b *testing.B) { loop(b, func() error { return getOne(bb.c, big.digest) }) })
		b.Run(bb.name+"/diffID", func(b *testing.B) { loop(b, func() error { return getOne(bb.c, big.diffID) }) })
	}
}

func BenchmarkWarmRead(b *testing.B) {
	e := benchEnv(b)
	big, warm := must(b, e.big.get), must(b, e.warm.get)
	for _, f := range []form{compressed, uncompressed} {
		_, hash, size := f.file(big)
		for name, open := range map[string]opener{
			"ours": func() (io.ReadCloser, error) { return openFrom(warm.ours, f, hash) },
			"ggcr": func() (io.ReadCloser, error) { return openFrom(warm.ggcr, f, hash) },
			"bare": func() (io.ReadCloser, error) { return os.Open(warm.blob(hash)) },
		} {
			b.Run(f.name+"/"+name, func(b *testing.B) {
				b.SetBytes(size)
				loop(b, func() error { return readLoop(open, size) })
			})
		}
	}
}

func BenchmarkCold(b *testing.B) {
	e := benchEnv(b)
	c := &cold{e: e, big: must(b, e.big.get), reg: must(b, e.reg.get)}
	for _, f := range []form{compressed, uncompressed} {
		for _, k := range contestants {
			b.Run(f.name+"/"+k.name, func(b *testing.B) {
				_, _, size := f.file(c.big)
				b.SetBytes(size)
				loop(b, func() error { return e.inTemp(func(dir string) error { return c.once(k, dir, f) }) })
			})
		}
	}
}

// once reads one form through an empty cache.
func (c *cold) once(k contestant, dir string, f form) error {
	o, l, err := c.open(k, dir)
	if err != nil {
		return err
	}
	_, _, size := f.file(c.big)
	if err := readLoop(f.open(l), size); err != nil {
		return err
	}
	return o.close()
}

func BenchmarkPut(b *testing.B) {
	e := benchEnv(b)
	for _, n := range []int{e.few, e.many} {
		p := &putting{e: e, entries: n}
		if err := p.prepare(); err != nil {
			b.Fatal(err)
		}
		for name, put := range map[string]putter{"ours": through(p.cache), "ggcr": through(p.theirs), "bare": bareFile(p.dir)} {
			b.Run(fmt.Sprint(n, "/", name), func(b *testing.B) {
				loop(b, func() error {
					e.layers++
					l, err := smallLayer(e.layers)
					if err != nil {
						return err
					}
					return put(l)
				})
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	e := benchEnv(b)
	dir := must(b, e.index.get)
	loop(b, func() error {
		c, err := cache.Open(dir)
		if err != nil {
			return err
		}
		return c.Close()
	})
}
