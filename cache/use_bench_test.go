package cache_test

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/ocicache/ocicache/cache"
)

// BenchmarkUse compares, in turns, what recording a use costs with a whole hit:
// a Get, opening its reader and closing that. Nine turns or more give medians
// to go by: -benchtime 9x.
func BenchmarkUse(b *testing.B) {
	c, err := cache.Open(b.TempDir())
	must(err)
	defer c.Close()
	l := makeLayer(1, 1000)
	h := l.digest()
	rc, err := c.Layer(fake(l)).Compressed()
	must(err)
	must(io.Copy(io.Discard, rc))
	must(rc.Close())
	must(c.Flush()) // nothing goes on behind what is measured

	var hits, uses []time.Duration
	for b.Loop() {
		hits = append(hits, perCall(func() {
			l, err := c.Get(h)
			must(err)
			rc, err := l.Compressed()
			must(err)
			must(rc.Close())
		}))
		uses = append(uses, perCall(func() { cache.RecordUse(c, h) }))
	}
	b.ReportMetric(float64(median(hits)), "ns/hit")
	b.ReportMetric(float64(median(uses)), "ns/use")
	b.ReportMetric(float64(median(uses))/float64(median(hits)), "use/hit")
}

func perCall(fn func()) time.Duration {
	const n = 20_000
	start := time.Now()
	for range n {
		fn()
	}
	return time.Since(start) / n
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
