package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/ocicache/ocicache/cache"
)

// forms are those of a layer that are there.
type forms int

const (
	none  forms = iota
	blob        // the blob
	whole       // the blob and the tar; of a layer that is only a tar, that
)

// A ledger is what a worker said, and what must hold of it after a cut.
type ledger struct {
	mode mode
	row  *row // of the options under which the last cut came; nil before the first

	mu       sync.Mutex
	filled   map[int]forms         // guarded by mu, as is all below
	promised map[int]forms         // what must survive
	flushing map[int]map[int]forms // by flush: what was filled when it began
	off      time.Time             // when the power was cut
	errs     []saying
}

func newLedger(m mode) *ledger {
	return &ledger{mode: m, filled: map[int]forms{}, promised: map[int]forms{}}
}

// start begins anew with what was found, and flushed.
func (l *ledger) start(found map[int]forms) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.filled, l.promised = map[int]forms{}, map[int]forms{}
	for n, f := range found {
		if f > none {
			l.filled[n] = f
			l.promise(n, f)
		}
	}
}

// begin is for a worker that starts.
func (l *ledger) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushing, l.off, l.errs = map[int]map[int]forms{}, time.Time{}, nil
}

// note takes what a worker said. The last line may be torn.
func (l *ledger) note(line []byte) {
	var s saying
	if json.Unmarshal(line, &s) != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch s.What {
	case "fetched":
		l.fill(s.N, blob)
	case "filled":
		l.fill(s.N, whole)
	case "deleting": // what of it survives is anybody's guess
		delete(l.filled, s.N)
		delete(l.promised, s.N)
		for _, filled := range l.flushing {
			delete(filled, s.N)
		}
	case "flushing":
		l.flushing[s.N] = maps.Clone(l.filled)
	case "flushed":
		for n, f := range l.flushing[s.N] {
			l.promise(n, f)
		}
		delete(l.flushing, s.N)
	case "error":
		l.errs = append(l.errs, s)
	}
}

func (l *ledger) fill(n int, f forms) {
	l.filled[n] = max(l.filled[n], f)
	if l.mode.level == cache.SyncCommit {
		l.promise(n, f)
	}
}

func (l *ledger) promise(n int, f forms) {
	if l.mode.level != cache.SyncNever {
		l.promised[n] = max(l.promised[n], f)
	}
}

// cut notes when the power went. Errors are to be expected from then on.
func (l *ledger) cut(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = at
}

// failure returns what failed while the power was on.
func (l *ledger) failure() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.errs {
		if s.Time.Before(l.off) {
			err = errors.Join(err, fmt.Errorf("layer %d: before the power was cut: %s", s.N, s.Text))
		}
	}
	return err
}
