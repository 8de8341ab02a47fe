package fill_test

import (
	"io"
	"os"
	"sync"
)

// An origin gives data, at most step bytes at a time and no further than
// gate, then err. Close makes reads fail, unless it is deaf.
type origin struct {
	data []byte
	err  error // after the data; nil is io.EOF
	with bool  // err comes together with the last bytes
	step int   // 0 is no limit
	deaf bool

	mu     sync.Mutex
	moved  *sync.Cond // on mu
	gate   int        // guarded by mu: what was released, -1 all
	off    int        // guarded by mu
	closes int        // guarded by mu
}

func newOrigin(data []byte) *origin {
	o := &origin{data: data, gate: -1}
	o.moved = sync.NewCond(&o.mu)
	return o
}

// release lets n bytes through; the last release must be of all, with -1.
func (o *origin) release(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n < 0 {
		o.gate = -1
	} else if o.gate >= 0 {
		o.gate += n
	}
	o.moved.Broadcast()
}

func (o *origin) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.gate >= 0 && o.off >= o.gate && (o.closes == 0 || o.deaf) {
		o.moved.Wait()
	}
	if o.closes > 0 && !o.deaf {
		return 0, errShut
	}
	end := o.err
	if end == nil {
		end = io.EOF
	}
	if o.step > 0 && len(p) > o.step {
		p = p[:o.step]
	}
	if o.gate >= 0 && len(p) > o.gate-o.off {
		p = p[:o.gate-o.off]
	}
	n := copy(p, o.data[o.off:])
	o.off += n
	if n == 0 || o.with && o.off == len(o.data) {
		return n, end
	}
	return n, nil
}

func (o *origin) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closes++
	o.moved.Broadcast()
	return nil
}

func (o *origin) closed() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closes
}

// A file is in memory. Its failWrite-th Write writes half and fails, as does
// its failRead-th ReadAt.
type file struct {
	failWrite, failRead int
	closeErr            error

	mu            sync.Mutex
	data          []byte // guarded by mu, as is all below
	writes, reads int
	broken        bool
	misused       bool // used in an order that it must not be
	closes        int
	released      int
}

func (f *file) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.misused = f.misused || f.broken || f.released > 0
	f.writes++
	if f.writes == f.failWrite {
		f.broken = true
		f.data = append(f.data, p[:len(p)/2]...)
		return len(p) / 2, errDisk
	}
	f.data = append(f.data, p...)
	return len(p), nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closes > 0 {
		return 0, os.ErrClosed
	}
	f.reads++
	if f.reads == f.failRead {
		return 0, errDisk
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Release() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.misused = f.misused || f.closes > 0
	f.released++
	return nil
}

func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.misused = f.misused || f.released == 0
	f.closes++
	return f.closeErr
}
