package cache

import (
	"sync/atomic"
	"time"
)

// Progress is how far [Cache.Fill] or [Cache.Verify] has come, which counts
// blobs as layers.
type Progress struct {
	Layers, LayersTotal int   // done, and of how many
	Bytes, BytesTotal   int64 // read; of the layers that are done, and in the total, the compressed size where it is known
}

// progress counts, and tells the callback at most ten times a second.
type progress struct {
	total  Progress
	layers atomic.Int64
	bytes  atomic.Int64
	stop   chan struct{}
	ended  chan struct{}
}

func startProgress(report func(Progress), total Progress) *progress {
	p := &progress{total: total, stop: make(chan struct{}), ended: make(chan struct{})}
	if report == nil {
		close(p.ended)
		return p
	}
	go p.run(report)
	return p
}

func (p *progress) run(report func(Progress)) {
	defer close(p.ended)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			report(p.now())
		case <-p.stop:
			report(p.now())
			return
		}
	}
}

func (p *progress) now() Progress {
	now := p.total
	now.Layers = int(p.layers.Load())
	now.Bytes = p.bytes.Load()
	return now
}

// end has the last report made. It does not wait for a callback that hangs.
func (p *progress) end() {
	close(p.stop)
	select {
	case <-p.ended:
	case <-time.After(time.Second):
	}
}
