package fill

import "context"

// Slots bounds how many fills read their origins at a time. A nil Slots does
// not.
type Slots struct{ c chan struct{} }

// NewSlots returns n free slots.
func NewSlots(n int) *Slots { return &Slots{make(chan struct{}, n)} }

func (s *Slots) acquire(ctx context.Context) error {
	if s == nil {
		return context.Cause(ctx)
	}
	select {
	case s.c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Slots) release() {
	if s != nil {
		<-s.c
	}
}
