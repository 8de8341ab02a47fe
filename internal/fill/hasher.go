package fill

import "hash"

// A hasher feeds a hash in a goroutine of its own, so that hashing goes on
// beside reading and writing. Buffers go round: the one that buffer returns
// is to be given back through write, in order.
type hasher struct {
	h    hash.Hash
	free chan []byte
	work chan []byte
	done chan struct{}
	next []byte
}

const buffers = 4

func startHasher(h hash.Hash) *hasher {
	x := &hasher{h: h, free: make(chan []byte, buffers), work: make(chan []byte, buffers), done: make(chan struct{})}
	for range buffers {
		x.free <- nil // made when first used: a small layer needs one
	}
	go x.run()
	return x
}

func (x *hasher) run() {
	defer close(x.done)
	for b := range x.work {
		x.h.Write(b)
		x.free <- b[:chunk]
	}
}

// buffer returns a chunk to read into. Until it is written it is the same.
func (x *hasher) buffer() []byte {
	if x.next == nil {
		if x.next = <-x.free; x.next == nil {
			x.next = make([]byte, chunk)
		}
	}
	return x.next
}

func (x *hasher) write(b []byte) {
	x.work <- b
	x.next = nil
}

// sum ends the hashing.
func (x *hasher) sum() []byte {
	close(x.work)
	<-x.done
	return x.h.Sum(nil)
}
