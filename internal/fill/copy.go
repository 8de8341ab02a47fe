package fill

import (
	"context"
	"io"
)

// chunk is the size of the writes. Larger ones are slower.
const chunk = 64 << 10

// maxEmpty is how often in a row an origin may give neither bytes nor an
// error, as with bufio.
const maxEmpty = 100

// copy is the loop of a fill. It publishes each chunk as it is written.
func (f *Fill) copy(origin io.Reader, file File, h *hasher) (n int64, err error) {
	for empty := 0; ; {
		buf := h.buffer()
		m, rerr := origin.Read(buf)
		if empty++; m > 0 {
			empty = 0
			if err := f.keep(file, buf[:m], n+int64(m)); err != nil {
				return n, err
			}
			n += int64(m)
			if err := f.publish(n); err != nil {
				return n, err
			}
			h.write(buf[:m]) // the buffer is the hasher's from here on
		}
		switch {
		case rerr == io.EOF: // an error that wraps it is a failure
			return n, nil
		case rerr != nil:
			return n, &OriginError{rerr}
		case empty >= maxEmpty:
			return n, &OriginError{io.ErrNoProgress}
		case f.cfg.Size >= 0 && n > f.cfg.Size:
			return n, nil // Check says what is wrong
		}
	}
}

// publish lets readers have the first n bytes. It returns an error if nobody
// wants more.
func (f *Fill) publish(n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.size, f.stalled = n, false
	f.changed.Broadcast()
	if len(f.readers) == 0 && !f.cfg.Persist && n-f.leftAt > lingerBytes {
		f.cancel(errAbandoned)
	}
	return context.Cause(f.ctx)
}

// keep writes b, which are the bytes up to n, to the file.
func (f *Fill) keep(file File, b []byte, n int64) error {
	if !f.handing {
		err := f.cfg.Limit(n)
		if err == nil {
			_, err = file.Write(b)
		}
		if err == nil {
			return nil
		}
		err = f.fault(err)
		if !f.cfg.Once {
			return err
		}
	}
	return f.handOver(b, n)
}

// handOver gives b to the readers from memory, and waits until all have it.
func (f *Fill) handOver(b []byte, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handing, f.tail, f.size = true, b, n
	f.changed.Broadcast()
	for f.ctx.Err() == nil && !f.allHave(n) {
		f.changed.Wait()
	}
	return context.Cause(f.ctx)
}

// allHave reports whether every reader has read the first n bytes. mu is
// held.
func (f *Fill) allHave(n int64) bool {
	for _, off := range f.readers {
		if off < n {
			return false
		}
	}
	return true
}
