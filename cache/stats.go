package cache

import "sync/atomic"

// Stats counts what a [Cache] did since it was opened. Sizes are in bytes.
type Stats struct {
	Hits   int64 // opens that were served from the cache
	Misses int64 // opens that went to an origin, or joined others there

	Fills          int64 // origins that were read into the cache
	Decompressions int64 // of cached or arriving blobs
	Compressions   int64 // of cached tars
	BuildHits      int64 // layers that [Cache.Build] knew
	Builds         int64 // functions that [Cache.Build] ran, also again for bytes that were gone

	BytesRead    int64 // from origins
	BytesWritten int64 // to the cache
	BytesSaved   int64 // read from the cache in place of an origin

	Mismatches  int64 // origins that gave other bytes than they should
	Fallbacks   int64 // readers that went on from their own origin
	Pruned      int64 // blobs that were pruned
	PrunedBytes int64 // of these
	Repairs     int64 // blobs that failed verification, to be put aside
	WriteFaults int64 // times that something could not be written
}

type counters struct {
	hits, misses                        atomic.Int64
	fills, decompressions, compressions atomic.Int64
	buildHits, builds, mismatches       atomic.Int64
	pruned, prunedBytes                 atomic.Int64
	bytesRead, bytesWritten, bytesSaved atomic.Int64
	fallbacks, repairs, writeFaults     atomic.Int64
}

// Stats returns the counts so far. It is cheap.
func (c *Cache) Stats() Stats {
	n := &c.count
	return Stats{
		Hits:           n.hits.Load(),
		Misses:         n.misses.Load(),
		Fills:          n.fills.Load(),
		Decompressions: n.decompressions.Load(),
		Compressions:   n.compressions.Load(),
		BuildHits:      n.buildHits.Load(),
		Builds:         n.builds.Load(),
		BytesRead:      n.bytesRead.Load(),
		BytesWritten:   n.bytesWritten.Load(),
		BytesSaved:     n.bytesSaved.Load(),
		Mismatches:     n.mismatches.Load(),
		Fallbacks:      n.fallbacks.Load(),
		Pruned:         n.pruned.Load(),
		PrunedBytes:    n.prunedBytes.Load(),
		Repairs:        n.repairs.Load(),
		WriteFaults:    n.writeFaults.Load(),
	}
}
