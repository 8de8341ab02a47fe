package fill

import (
	"errors"
	"hash/maphash"
	"io"
)

// ErrStopped is the cause to cancel a fill's context with when no reader
// shall go on.
var ErrStopped = errors.New("stopped")

// An expectation of the reader's own was not met: another origin would not
// meet it either.
type expectation struct{ error }

func (e expectation) Unwrap() error { return e.error }

// plain takes off what this package wrapped an error in.
func plain(err error) error {
	var own expectation
	var origin *OriginError
	switch {
	case errors.As(err, &own):
		err = own.error
	case errors.As(err, &origin):
		err = origin.Err
	default:
		return err
	}
	if err == io.EOF { // itself, it would read as success
		return io.ErrUnexpectedEOF
	}
	return err
}

// canFallBack reports whether the reader's own origin may do better than the
// fill did.
func (c *core) canFallBack(err error) bool {
	var own expectation
	var origin *OriginError
	switch {
	case c.o.Again == nil, err == io.EOF:
		return false
	case errors.Is(err, errClosed), errors.Is(err, ErrStopped), errors.As(err, &own):
		return false
	}
	return !c.o.Own || !errors.As(err, &origin)
}

// fallBack opens the reader's own origin, reads again what was delivered
// already, and compares.
func (c *core) fallBack(cause error) error {
	if c.o.Fallback != nil {
		c.o.Fallback(cause)
	}
	rc, err := c.o.Again()
	if err != nil {
		return &OriginError{err}
	}
	own := &closeOnce{rc: rc}
	if !c.adopt(own) {
		_ = own.Close()
		return errClosed
	}
	var again maphash.Hash
	again.SetSeed(c.sum.Seed())
	n, err := io.Copy(&again, io.LimitReader(own, c.off))
	if err == nil && (n != c.off || again.Sum64() != c.sum.Sum64()) {
		err = cause // the origins differ, and what was delivered cannot be taken back
	}
	if err != nil {
		_ = own.Close()
	}
	return err
}

// adopt lets Close close the reader's own origin. It reports false if Close
// has come already.
func (c *core) adopt(own *closeOnce) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.own = own
	return true
}

// origin returns the reader's own origin if it has fallen back on it.
func (c *core) origin() *closeOnce {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.own
}
