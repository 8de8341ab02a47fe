package fill

import (
	"io"
	"sync"
)

// An OriginError is why a fill failed: an error of the origin it read, not
// of the cache.
type OriginError struct{ Err error }

func (e *OriginError) Error() string { return e.Err.Error() }
func (e *OriginError) Unwrap() error { return e.Err }

// closeOnce makes Close safe to repeat, also from another goroutine.
type closeOnce struct {
	rc   io.ReadCloser
	once sync.Once
	err  error
}

func (c *closeOnce) Read(p []byte) (int, error) { return c.rc.Read(p) }

func (c *closeOnce) Close() error {
	c.once.Do(func() { c.err = c.rc.Close() })
	return c.err
}
