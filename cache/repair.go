package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// compare checks a blob that has its digest against its entry.
func (s *scrub) compare(e index.Entry, b *layout.Blob, c contents) {
	if e.Size != b.Size {
		s.found(Finding{Problem: WrongSize, Digest: e.Digest, Err: &SizeMismatchError{Digest: e.Digest, Want: e.Size, Got: b.Size}, Repair: s.pass(e, b)})
	} else if s.c.suspect(e, b.Size, b.ModTime) {
		s.pass(e, b)
	}
	format := c.format
	if e.Tar {
		format = compression.Plain // whatever is in it
	}
	if want := compression.Compressed(e.MediaType, format); compression.IsLayer(e.MediaType) && want != e.MediaType {
		err := fmt.Errorf("media type is %s, and the content %s", e.MediaType, c.format)
		s.found(Finding{Problem: WrongMediaType, Digest: e.Digest, Err: err})
	}
	if e.Pair == index.Verified || e.Pair == index.Claimed {
		s.comparePair(e, c)
	}
}

func (s *scrub) comparePair(e index.Entry, c contents) {
	switch {
	case errors.Is(c.broken, ErrTooLarge):
		s.found(Finding{Problem: Unreadable, Digest: e.Digest, Err: c.broken})
	case c.broken != nil:
		s.found(Finding{Problem: WrongPair, Digest: e.Digest, Err: c.broken, Repair: s.record(e.Digest, func(e *index.Entry) { e.Pair = index.Refuted })})
	case c.diffID != e.DiffID:
		err := &DigestMismatchError{Want: e.DiffID, Got: c.diffID}
		s.found(Finding{Problem: WrongPair, Digest: e.Digest, Err: err, Repair: s.recordPair(e, c.diffID)})
	case e.Pair == index.Claimed:
		s.recordPair(e, c.diffID)
	}
}

// entries checks what is listed, without reading it.
func (s *scrub) entries(ctx context.Context) error {
	for e := range s.c.catalog.clone().Entries() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if e.ModTime != 0 && s.isGone(e) {
			s.found(Finding{Problem: Missing, Digest: e.Digest, Err: errGone, Repair: s.record(e.Digest, func(e *index.Entry) { e.ModTime = 0 })})
		}
		v, ok := s.c.catalog.get(e.Variant)
		if ok && v.Pair == index.Verified && v.DiffID != e.Digest {
			err := fmt.Errorf("it prefers %s: %w", v.Digest, &DigestMismatchError{Want: e.Digest, Got: v.DiffID})
			s.found(Finding{Problem: WrongPair, Digest: e.Digest, Err: err, Repair: s.record(e.Digest, func(e *index.Entry) { e.Variant = v1.Hash{} })})
		}
	}
	return nil
}

var errGone = fmt.Errorf("it is listed: %w", fs.ErrNotExist)

// isGone reports whether an entry's blob is not there, and nobody said so.
func (s *scrub) isGone(e index.Entry) bool {
	_, _, err := s.c.layout.StatBlob(e.Digest)
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	s.c.catchUp()
	now, ok := s.c.catalog.get(e.Digest)
	return ok && now.ModTime != 0
}

// images checks that what other tools' images reach is there.
func (s *scrub) images() {
	for digest := range s.reached {
		h, err := v1.NewHash(digest)
		if err != nil || !s.c.layout.Valid(h) {
			continue
		}
		_, listed := s.c.catalog.get(h)
		if _, _, err := s.c.layout.StatBlob(h); errors.Is(err, fs.ErrNotExist) && !listed {
			s.found(Finding{Problem: Missing, Digest: h, Err: fmt.Errorf("an image reaches it: %w", err)})
		}
	}
}

// malformed reports a manifest that other tools' images need, and that has its
// digest, but is none.
func (s *scrub) malformed(unknown error) {
	var u *unreadableError
	if !errors.As(unknown, &u) || !errors.Is(u, errMalformedManifest) {
		return // blobs tells
	}
	h, _ := v1.NewHash(u.digest) // which it was read by
	if _, corrupt := s.c.checks.failed.Load(h); !corrupt {
		s.found(Finding{Problem: Unreadable, Digest: h, Err: u.err})
	}
}

// record changes the entry of a digest.
func (s *scrub) record(h v1.Hash, change func(*index.Entry)) Repair {
	if s.o.ReportOnly {
		return NoRepair
	}
	err := s.c.layout.Update(s.ctx, func(tx *layout.Tx) error {
		e, ok := s.c.catalog.get(h)
		if !ok {
			return nil
		}
		change(&e)
		return tx.Append(index.PutRecord(e))
	})
	return s.done(Recorded, err)
}

// recordPair records what a blob was found to decompress to.
func (s *scrub) recordPair(e index.Entry, diffID v1.Hash) Repair {
	if s.o.ReportOnly {
		return NoRepair
	}
	return s.done(Recorded, s.c.commitTar(nil, tarFacts{diffID: diffID, digest: e.Digest}))
}

// pass records that a blob is good.
func (s *scrub) pass(e index.Entry, b *layout.Blob) Repair {
	if s.o.ReportOnly {
		return NoRepair
	}
	return s.done(Recorded, s.c.pass(s.ctx, e.Digest, b))
}

func (s *scrub) quarantine(h v1.Hash, b *layout.Blob) Repair {
	if s.o.ReportOnly {
		return NoRepair
	}
	return s.done(Quarantined, s.c.quarantine(s.ctx, h, b))
}

// quarantineStray puts aside what is no regular file.
func (s *scrub) quarantineStray(h v1.Hash) Repair {
	if s.o.ReportOnly {
		return NoRepair
	}
	err := s.c.layout.Update(s.ctx, func(tx *layout.Tx) error {
		if _, _, err := s.c.layout.StatBlob(h); !errors.Is(err, fs.ErrInvalid) {
			return nil
		}
		return tx.Quarantine(h)
	})
	return s.done(Quarantined, err)
}

// done returns a repair, if it could be made.
func (s *scrub) done(r Repair, err error) Repair {
	if err != nil {
		s.c.fault(err)
		return NoRepair
	}
	return r
}
