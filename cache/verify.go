package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// VerifyOptions say how [Cache.Verify] goes about it. The zero value puts
// aside what is bad, and corrects what is recorded.
type VerifyOptions struct {
	// ReportOnly changes nothing. A read-only cache can be verified only so.
	ReportOnly bool
	// Rebuild lists what nothing lists, as after index.json was lost: layers,
	// with what they are found to decompress to, and images.
	Rebuild bool
	// Workers is how many blobs are read at a time; 0 means one for each CPU.
	Workers int
	// BytesPerSecond limits the reading of all workers together; 0 does not.
	BytesPerSecond int
	// Progress is called like the function given to [WithProgress].
	Progress func(Progress)
}

// Verify reads every blob: it checks that bytes have their digest, that pairs
// decompress to their diffID, that sizes and media types agree, and that what
// is listed is there and what is there is listed. What it finds is no error;
// the error says why it could not go on, and what the report holds by then is
// true. Reads, fills and other processes go on meanwhile. It writes no tar.
//
// The errors are [ErrClosed], also if Close comes meanwhile, [ErrReadOnly],
// [ErrLocked], and the context's.
func (c *Cache) Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	if c.o.readOnly && !o.ReportOnly {
		return VerifyReport{}, fmt.Errorf("cache: verify: %w", ErrReadOnly)
	}
	if !c.fills.whileOpen(func() { c.background.Add(1) }) {
		return VerifyReport{}, fmt.Errorf("cache: verify: %w", ErrClosed)
	}
	defer c.background.Done()
	ctx, cancel := c.untilStop(ctx)
	defer cancel()

	s := &scrub{c: c, ctx: ctx, o: o, limit: rate.NewLimiter(rate.Inf, 0)}
	if o.BytesPerSecond > 0 {
		s.limit = rate.NewLimiter(rate.Limit(o.BytesPerSecond), scrubChunk)
	}
	err := s.run(ctx)
	s.report.sort()
	if err != nil {
		return s.report, fmt.Errorf("cache: verify %s: %w", c.layout.Dir(), err)
	}
	return s.report, nil
}

// A scrub is one Verify under way.
type scrub struct {
	c       *Cache
	ctx     context.Context
	o       VerifyOptions
	limit   *rate.Limiter
	reached map[string]bool // by other tools' images

	mu      sync.Mutex
	report  VerifyReport // guarded by mu
	orphans []orphan     // guarded by mu: what nothing lists or reaches
}

func (s *scrub) run(ctx context.Context) error {
	blobs, others, err := s.c.layout.Blobs()
	if err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	reached, unknown := s.c.reached()
	s.reached = reached
	for _, path := range others {
		s.found(Finding{Problem: Stray, Path: path, Err: errors.New("its name is no digest")})
	}
	if err := s.blobs(ctx, blobs); err != nil {
		return err
	}
	if err := s.entries(ctx); err != nil {
		return err
	}
	if unknown != nil { // what is corrupt was put aside by now
		s.reached, unknown = s.c.reached()
		s.orphans = slices.DeleteFunc(s.orphans, func(o orphan) bool { return s.reached[o.digest.String()] })
		s.malformed(unknown)
	}
	s.images()
	switch {
	case unknown != nil: // an image's manifest cannot be read, which is a finding: it may reach any of the orphans
		return nil
	case s.o.Rebuild && !s.o.ReportOnly:
		return s.rebuild(ctx)
	}
	for _, o := range s.orphans {
		if s.isOrphan(o) {
			s.found(o.finding())
		}
	}
	return nil
}

// settle waits until what was there is listed, if it will be: who commits a
// blob records it before letting go of the lock.
func (s *scrub) settle(ctx context.Context) error {
	if s.c.o.readOnly {
		s.c.catchUp()
		return nil
	}
	return s.c.layout.Update(ctx, func(*layout.Tx) error { return nil })
}

// blobs checks all files.
func (s *scrub) blobs(ctx context.Context, blobs []v1.Hash) error {
	total := Progress{LayersTotal: len(blobs)}
	if s.o.Progress != nil {
		for _, h := range blobs {
			if size, _, err := s.c.layout.StatBlob(h); err == nil {
				total.BytesTotal += size
			}
		}
	}
	p := startProgress(s.o.Progress, total)
	defer p.end()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.workers())
	for _, h := range blobs {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			defer p.layers.Add(1)
			return s.blob(ctx, h, p)
		})
	}
	return g.Wait()
}

func (s *scrub) workers() int {
	if s.o.Workers > 0 {
		return s.o.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// blob checks a file.
func (s *scrub) blob(ctx context.Context, h v1.Hash, p *progress) error {
	b, err := s.c.layout.Blob(h)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // removed meanwhile, or entries tells
	case errors.Is(err, fs.ErrInvalid):
		s.found(Finding{Problem: Stray, Digest: h, Err: err, Repair: s.quarantineStray(h)})
		return nil
	case err != nil:
		s.found(Finding{Problem: Unreadable, Digest: h, Err: err})
		return nil
	}
	defer b.Close()
	e, listed := s.c.catalog.get(h)
	r := &reading{ctx: ctx, s: s, b: b, p: p}
	content := r.read(h.Algorithm, diffAlgorithm(e), s.wantsDiffID(h, e, listed))
	switch {
	case r.stopped != nil:
		return r.stopped
	case r.err != nil:
		s.found(Finding{Problem: Unreadable, Digest: h, Err: r.err})
		return nil
	}
	s.count(b.Size, content.decompressed)
	switch {
	case content.digest != h:
		s.c.checks.failed.Store(h, stamp{b.Size, b.ModTime}) // also if it is only reported
		err := &DigestMismatchError{Want: h, Got: content.digest}
		s.found(Finding{Problem: Corrupt, Digest: h, Err: err, Repair: s.quarantine(h, b)})
	case listed:
		s.compare(e, b, content)
	case !s.reached[h.String()]:
		s.addOrphan(h, b, content)
	}
	return nil
}

// diffAlgorithm is the algorithm of an entry's diffID.
func diffAlgorithm(e index.Entry) string {
	if e.DiffID != (v1.Hash{}) {
		return e.DiffID.Algorithm
	}
	return "sha256"
}

// wantsDiffID reports whether a blob is to be decompressed: there is a pair to
// check, or one to be found.
func (s *scrub) wantsDiffID(h v1.Hash, e index.Entry, listed bool) bool {
	if listed {
		return e.Pair == index.Verified || e.Pair == index.Claimed
	}
	return s.o.Rebuild && !s.reached[h.String()]
}

func (s *scrub) count(bytes int64, decompressed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Blobs++
	s.report.Bytes += bytes
	if decompressed {
		s.report.Pairs++
	}
}

// found notes a finding.
func (s *scrub) found(f Finding) {
	if f.Path == "" {
		f.Path = layout.BlobPath(f.Digest)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Findings = append(s.report.Findings, f)
}
