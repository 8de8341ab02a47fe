// Package metrics exports what a cache counts, and what it has on disk, to
// Prometheus.
//
// It is a module of its own, so that Prometheus' client does not become a
// dependency of the cache. It never changes a cache, and never closes one.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ocicache/ocicache/cache"
)

// counters are the fields of [cache.Stats].
var counters = []struct {
	name, help string
	value      func(cache.Stats) int64
}{
	{"hits_total", "Opens that were served from the cache.", func(s cache.Stats) int64 { return s.Hits }},
	{"misses_total", "Opens that went to an origin, or joined others there.", func(s cache.Stats) int64 { return s.Misses }},
	{"fills_total", "Origins that were read into the cache.", func(s cache.Stats) int64 { return s.Fills }},
	{"decompressions_total", "Decompressions of cached or arriving blobs.", func(s cache.Stats) int64 { return s.Decompressions }},
	{"compressions_total", "Compressions of cached tars.", func(s cache.Stats) int64 { return s.Compressions }},
	{"build_hits_total", "Layers that Build knew.", func(s cache.Stats) int64 { return s.BuildHits }},
	{"builds_total", "Functions that Build ran.", func(s cache.Stats) int64 { return s.Builds }},
	{"read_bytes_total", "Bytes read from origins.", func(s cache.Stats) int64 { return s.BytesRead }},
	{"written_bytes_total", "Bytes written to the cache.", func(s cache.Stats) int64 { return s.BytesWritten }},
	{"saved_bytes_total", "Bytes read from the cache in place of an origin.", func(s cache.Stats) int64 { return s.BytesSaved }},
	{"mismatches_total", "Origins that gave other bytes than they should.", func(s cache.Stats) int64 { return s.Mismatches }},
	{"fallbacks_total", "Readers that went on from their own origin.", func(s cache.Stats) int64 { return s.Fallbacks }},
	{"pruned_total", "Blobs that were pruned.", func(s cache.Stats) int64 { return s.Pruned }},
	{"pruned_bytes_total", "Bytes of blobs that were pruned.", func(s cache.Stats) int64 { return s.PrunedBytes }},
	{"repairs_total", "Blobs that failed verification, to be put aside.", func(s cache.Stats) int64 { return s.Repairs }},
	{"write_faults_total", "Times that something could not be written.", func(s cache.Stats) int64 { return s.WriteFaults }},
}

type statsCollector struct {
	stats func() cache.Stats
	descs []*prometheus.Desc // of counters, in their order
}

// NewCollector returns a collector that exports the counters of [cache.Stats]
// as ocicache_hits_total, ocicache_read_bytes_total and so on, with the name
// as their label cache: caches that are registered together need different
// ones. It looks nothing up, and may be scraped as often as one likes, also
// after the cache was closed.
func NewCollector(c *cache.Cache, name string) prometheus.Collector {
	return newCollector(c.Stats, name)
}

func newCollector(stats func() cache.Stats, name string) *statsCollector {
	sc := &statsCollector{stats: stats}
	for _, m := range counters {
		sc.descs = append(sc.descs, newDesc(m.name, m.help, name))
	}
	return sc
}

// Describe implements prometheus.Collector.
func (c *statsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range c.descs {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *statsCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	for i, m := range counters {
		ch <- prometheus.MustNewConstMetric(c.descs[i], prometheus.CounterValue, float64(m.value(s)))
	}
}

func newDesc(metric, help, cacheName string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ocicache_"+metric, help, labels, prometheus.Labels{"cache": cacheName})
}
