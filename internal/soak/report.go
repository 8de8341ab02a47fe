package main

import (
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/ocicache/ocicache/cache"
)

// A report is a line of a child's standard output. Counts are since the child
// began, lists since the report before.
type report struct {
	Ops    map[string]int64
	Bytes  int64 // read and compared
	Stats  cache.Stats
	Heap   uint64  // bytes in use after a collection; 0 if there was none
	Kept   []int   // layers that are filled and must not vanish
	Faults []fault // what was wrong
}

// A fault is something that must not be, unless the parent knows better.
type fault struct {
	What     string // a faultKind
	Text     string
	Layer    int       // whose bytes it was about; -1 if none
	From, To time.Time // when the operation began and ended
}

const (
	wrongBytes = "wrong bytes"
	badError   = "unexpected error"
	lost       = "lost"
	stuck      = "stuck"
	leak       = "leak"
)

// A reporter gathers what a child has to tell.
type reporter struct {
	stats func() cache.Stats

	mu  sync.Mutex
	now report // guarded by mu
}

func (r *reporter) change(fn func(*report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn(&r.now)
}

func (r *reporter) count(op string) { r.change(func(now *report) { now.Ops[op]++ }) }

// fault tells at once: the child may be killed.
func (r *reporter) fault(f fault) {
	r.change(func(now *report) { now.Faults = append(now.Faults, f) })
	r.send()
}

func (r *reporter) send() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Stats = r.stats()
	b, err := json.Marshal(r.now)
	if err == nil {
		_, err = os.Stdout.Write(append(b, '\n')) // one write: a line is whole, or the last
	}
	if err != nil {
		os.Exit(1) // nobody listens
	}
	r.now.Kept, r.now.Faults, r.now.Heap = nil, nil, 0
}

// add adds up stats.
func add(a, b cache.Stats) cache.Stats {
	a.Hits += b.Hits
	a.Misses += b.Misses
	a.Fills += b.Fills
	a.Decompressions += b.Decompressions
	a.Compressions += b.Compressions
	a.BytesRead += b.BytesRead
	a.BytesWritten += b.BytesWritten
	a.BytesSaved += b.BytesSaved
	a.Fallbacks += b.Fallbacks
	a.Repairs += b.Repairs
	a.WriteFaults += b.WriteFaults
	return a
}
