package share

import (
	"sync"
	"time"
)

// A meter counts, and tells the callback at most ten times a second.
type meter struct {
	report func(Progress) // nil: nobody is told
	turn   sync.Mutex     // held by who tells, and at last by end, for ever

	mu   sync.Mutex // guards what follows
	now  Progress
	told time.Time
}

func newMeter(report func(Progress), total Progress) *meter {
	return &meter{report: report, now: total}
}

// add counts what was done.
func (m *meter) add(done int, bytes int64) {
	m.mu.Lock()
	m.now.Done += done
	m.now.Bytes += bytes
	due := time.Since(m.told) >= 100*time.Millisecond
	m.mu.Unlock()
	if due && m.report != nil && m.turn.TryLock() {
		defer m.turn.Unlock()
		m.tell()
	}
}

func (m *meter) tell() {
	m.mu.Lock()
	now := m.now
	m.told = time.Now()
	m.mu.Unlock()
	m.report(now)
}

// end tells where it ended. What is counted later is not told.
func (m *meter) end() {
	if m.report != nil {
		m.turn.Lock()
		m.tell()
	}
}
