package fill

import (
	"hash"
	"sync"
)

// A hasher feeds a hash in a goroutine of its own, so that hashing goes on
// beside reading and writing. The goroutine starts with the second chunk:
// most layers that are slow to come have many, and most others one.
//
// Buffers go round: the one that buffer returns is to be given back through
// write.
type hasher struct {
	h       hash.Hash
	next    *[chunk]byte // to read into
	first   []byte       // written, and not yet hashed; nil once the goroutine runs
	made    int          // how many buffers there are
	free    chan *[chunk]byte
	work    chan []byte
	done    chan struct{}
	started bool
}

const buffers = 4

var pool = sync.Pool{New: func() any { return new([chunk]byte) }}

func startHasher(h hash.Hash) *hasher {
	return &hasher{h: h, free: make(chan *[chunk]byte, buffers)}
}

// buffer returns a chunk to read into. Until it is written it is the same.
func (x *hasher) buffer() []byte {
	if x.next == nil {
		x.next = x.take()
	}
	return x.next[:]
}

func (x *hasher) take() *[chunk]byte {
	if x.made < buffers {
		select {
		case b := <-x.free:
			return b
		default:
			x.made++
			return pool.Get().(*[chunk]byte)
		}
	}
	return <-x.free
}

// write hashes b, the beginning of the buffer that was last returned.
func (x *hasher) write(b []byte) {
	x.next = nil
	switch {
	case x.started:
		x.work <- b
	case x.first == nil:
		x.first = b
	default:
		x.started = true
		x.work, x.done = make(chan []byte, buffers), make(chan struct{})
		go x.run()
		x.work <- x.first
		x.work <- b
	}
}

func (x *hasher) run() {
	defer close(x.done)
	for b := range x.work {
		x.hash(b)
	}
}

func (x *hasher) hash(b []byte) {
	x.h.Write(b)
	x.free <- (*[chunk]byte)(b[:chunk])
}

// sum ends the hashing, and gives the buffers back.
func (x *hasher) sum() []byte {
	switch {
	case x.started:
		close(x.work)
		<-x.done
	case x.first != nil:
		x.hash(x.first)
	}
	if x.next != nil {
		x.free <- x.next
	}
	for range x.made {
		pool.Put(<-x.free)
	}
	return x.h.Sum(nil)
}
