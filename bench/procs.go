package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// kinds are what several processes are tried on.
var kinds = []string{"ours", "layout", "oras"}

// processes is several processes that share one directory at a time. What
// counts is what failed, and what is there in the end.
func processes(e *env) *group {
	name := fmt.Sprintf("%d procs × %d × %d ", e.procs, e.rounds, e.each)
	all := e.procs * e.rounds * e.each
	rowOf := func(what, count string, a aim) row {
		return row{name: name + what, ours: "ours" + count, ggcr: "layout" + count, bare: "oras" + count, aim: a}
	}
	g := &group{rows: []row{
		rowOf("kept (layout; oras)", "", aim{fmt.Sprintf("all, %d", all), func(ours, _, _ float64) bool { return ours == float64(all) }}),
		rowOf("deleted, yet there", " undead", atMost("0", 0)),
		rowOf("failed", " failed", atMost("0", 0)),
	}}
	for _, kind := range kinds {
		g.trials = append(g.trials, func(s *samples) error {
			return e.inTemp(func(dir string) error { return e.race(s, kind, dir) })
		})
	}
	return g
}

// extra is how many layers a process puts in each round to delete them.
const extra = 2

// A workload is what the processes do. In each round each of them puts layers
// of its own; after each it reads one of its own and one of another process.
// It then deletes the extra ones, and flushes.
type workload struct {
	Kind, Dir           string
	Procs, Rounds, Each int
	First               int // of the layers' numbers
	Who                 int // is this process, from 0
}

// layer returns the nth layer of a process's round. The first ones are those
// that are deleted.
func (w workload) layer(proc, round, n int) (v1.Layer, error) {
	return smallLayer(w.First + (proc*w.Rounds+round)*(w.Each+extra) + n)
}

// race starts the processes, lets them go, and counts.
func (e *env) race(s *samples, kind, dir string) error {
	w := workload{Kind: kind, Dir: dir, Procs: e.procs, Rounds: e.rounds, Each: e.each, First: e.layers + 1}
	e.layers += w.Procs * w.Rounds * (w.Each + extra)
	empty, err := openStore(kind, dir)
	if err != nil {
		return err
	}
	if err := empty.close(); err != nil {
		return err
	}
	failed, err := runChildren(w)
	if err != nil {
		return err
	}
	kept, undead, err := w.count()
	s.add(kind, float64(kept))
	s.add(kind+" undead", float64(undead))
	s.add(kind+" failed", float64(failed))
	return err
}

// count returns how many layers were kept: index.json lists them, and a newly
// opened store returns their bytes. Of those that were to be deleted, it
// returns how many are there in either way.
func (w workload) count() (kept, undead int, err error) {
	s, err := openStore(w.Kind, w.Dir)
	if err != nil && w.Kind != "ours" {
		return 0, 0, nil // they broke the index for good
	} else if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.flush(); err != nil {
		return 0, 0, err
	}
	digests := listed(w.Dir)
	for i := range w.Procs * w.Rounds * (w.Each + extra) {
		l, err := w.layer(0, 0, i)
		if err != nil {
			return 0, 0, err
		}
		name, err := s.name(l)
		if err != nil {
			return 0, 0, err
		}
		isListed, isRead := digests[name], readBack(s, l) == nil
		switch {
		case i%(w.Each+extra) < extra:
			if isListed || isRead {
				undead++
			}
		case isListed && isRead:
			kept++
		}
	}
	return kept, undead, nil
}

// A worker is one of the processes.
type worker struct {
	workload
	store  store
	rnd    *rand.Rand
	mine   []v1.Layer // that were put to stay
	failed int
}

func newWorker(w workload) (*worker, error) {
	s, err := openStore(w.Kind, w.Dir)
	return &worker{workload: w, store: s, rnd: rand.New(rand.NewPCG(4, uint64(w.Who)))}, err
}

// run does all rounds, each with a store that it opens. Its errors are those of the measurement; what fails of
// what is measured is counted.
func (w *worker) run() error {
	for round := range w.Rounds {
		if err := w.round(round); err != nil {
			return err
		}
		w.did("close", w.store.close())
		if round == w.Rounds-1 {
			break
		}
		var err error
		if w.store, err = openStore(w.Kind, w.Dir); !w.did("open", err) {
			break // the index is broken
		}
	}
	return nil
}

func (w *worker) round(round int) error {
	var doomed []v1.Layer
	for n := range w.Each + extra {
		l, err := w.layer(w.Who, round, n)
		if err != nil {
			return err
		}
		switch {
		case !w.did("put", w.store.put(l)):
		case n < extra:
			doomed = append(doomed, l)
		default:
			w.mine = append(w.mine, l)
		}
		if err := w.read(round); err != nil {
			return err
		}
	}
	for _, l := range doomed {
		w.did("delete", w.store.remove(l))
	}
	w.did("flush", w.store.flush())
	return nil
}

// read reads a layer of its own, which has to be there, and one of another
// process, which may not be there yet, or no more.
func (w *worker) read(round int) error {
	if len(w.mine) > 0 {
		w.did("read its own", readBack(w.store, w.mine[w.rnd.IntN(len(w.mine))]))
	}
	other := (w.Who + 1 + w.rnd.IntN(w.Procs-1)) % w.Procs
	l, err := w.layer(other, w.rnd.IntN(round+1), w.rnd.IntN(w.Each+extra))
	if err != nil {
		return err
	}
	if err := readBack(w.store, l); !isAbsent(err) {
		w.did("read another's", err)
	}
	return nil
}

// did counts what failed, and says what, if it is ours, of which nothing is
// to fail.
func (w *worker) did(what string, err error) bool {
	if err == nil {
		return true
	}
	w.failed++
	if w.Kind == "ours" {
		fmt.Fprintf(os.Stderr, "bench: process %d: %s: %v\n", w.Who, what, err)
	}
	return false
}

// readBack reads a layer from a store, and checks its bytes.
func readBack(s store, l v1.Layer) error {
	h, err := l.Digest()
	if err != nil {
		return err
	}
	return verify(func() (io.ReadCloser, error) { return s.open(l) }, h)
}
