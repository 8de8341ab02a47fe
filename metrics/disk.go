package metrics

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ocicache/ocicache/cache"
)

type diskCollector struct {
	c *cache.Cache

	bytes, blobs              *prometheus.Desc // by form
	remembered                *prometheus.Desc
	pinned, remakable, shared *prometheus.Desc
}

// NewDiskCollector returns a collector that exports what [cache.Cache.DiskUsage]
// finds: bytes and blobs by form, how many blobs are only remembered, and how
// many bytes are pinned, can be made again, or are needed by more than one
// thing. The name is as in [NewCollector].
//
// Each scrape looks at every blob, which takes most of a second at 100,000
// entries, and has the lock of the writers for an instant: register it where
// it is scraped now and then. Of a closed cache it exports nothing; any other
// error is the scrape's, to be handled as promhttp's ErrorHandling says.
func NewDiskCollector(c *cache.Cache, name string) prometheus.Collector {
	return &diskCollector{
		c:          c,
		bytes:      newDesc("disk_bytes", "Bytes on disk, by form of the layers.", name, "form"),
		blobs:      newDesc("disk_blobs", "Blobs on disk, by form of the layers.", name, "form"),
		remembered: newDesc("remembered_blobs", "Blobs that are known, and not on disk.", name),
		pinned:     newDesc("disk_pinned_bytes", "Bytes on disk that something holds.", name),
		remakable:  newDesc("disk_remakable_bytes", "Bytes on disk that can be made again from others there.", name),
		shared:     newDesc("disk_shared_bytes", "Bytes on disk that more than one thing needs.", name),
	}
}

// Describe implements prometheus.Collector.
func (c *diskCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.bytes, c.blobs, c.remembered, c.pinned, c.remakable, c.shared} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *diskCollector) Collect(ch chan<- prometheus.Metric) {
	usages, err := c.c.DiskUsage(context.Background())
	switch {
	case errors.Is(err, cache.ErrClosed):
		return
	case err != nil:
		ch <- prometheus.NewInvalidMetric(c.bytes, err)
		return
	}
	gauge := func(desc *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v), labels...)
	}
	byForm := map[cache.Form][]cache.Usage{}
	for _, u := range usages {
		byForm[u.Form] = append(byForm[u.Form], u)
	}
	for _, form := range []cache.Form{cache.FormCompressed, cache.FormUncompressed, cache.FormUnknown} {
		total := cache.TotalUsage(byForm[form])
		gauge(c.bytes, total.Bytes, string(form))
		gauge(c.blobs, int64(total.Present), string(form))
	}
	total := cache.TotalUsage(usages)
	gauge(c.remembered, int64(total.Remembered))
	gauge(c.pinned, total.Pinned)
	gauge(c.remakable, total.Remakable)
	gauge(c.shared, total.Shared)
}
