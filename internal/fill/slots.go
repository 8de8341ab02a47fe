package fill

import (
	"context"
	"time"
)

// Slots bounds how many fills read their origins at a time. A nil Slots does
// not.
//
// An origin may itself read through the cache, and so wait for a fill that
// waits for a slot. So nobody waits longer than patience: then one more reads.
type Slots struct{ c chan struct{} }

const patience = 10 * time.Second

// NewSlots returns n free slots.
func NewSlots(n int) *Slots { return &Slots{make(chan struct{}, n)} }

// acquire waits for a slot, and returns what gives it back.
func (s *Slots) acquire(ctx context.Context) (release func(), err error) {
	if s == nil || ctx.Err() != nil {
		return func() {}, context.Cause(ctx)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case s.c <- struct{}{}:
		return func() { <-s.c }, nil
	case <-timer.C:
		return func() {}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
