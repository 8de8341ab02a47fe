package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ocicache/ocicache/cache"
)

// CollectorOf returns a collector of counts that are made up.
func CollectorOf(s cache.Stats) prometheus.Collector {
	return newCollector(func() cache.Stats { return s }, "test")
}
