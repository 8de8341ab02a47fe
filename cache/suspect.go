package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/singleflight"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// checks are the verifications of suspect blobs.
type checks struct {
	under  singleflight.Group // by digest
	passed sync.Map           // v1.Hash to stamp: good, and perhaps not recorded as such
	pairs  sync.Map           // [2]v1.Hash, digest and diffID, to bool: whether they were found to be a pair, likewise
	failed sync.Map           // v1.Hash to stamp: bad, and perhaps still there, since it could not be put aside
}

// A stamp tells whether a file changed since it was verified.
type stamp struct{ size, modTime int64 }

// suspect reports whether a blob is to be hashed before it is served: it is
// not as it was when last verified, or it was not synced before the system
// went down.
func (c *Cache) suspect(e index.Entry, size, modTime int64) bool {
	if bad, ok := c.checks.failed.Load(e.Digest); ok && bad == any(stamp{size, modTime}) {
		return true
	}
	if e.ModTime == modTime && e.ModTime != 0 && e.Size == size && (e.Unsynced == "" || e.Unsynced == layout.Boot()) {
		return false
	}
	passed, ok := c.checks.passed.Load(e.Digest)
	return !ok || passed != any(stamp{size, modTime})
}

// openBlob opens the bytes of an entry, after verifying them if they are
// suspect.
func (c *Cache) openBlob(e index.Entry) (*layout.Blob, error) {
	b, err := c.layout.Blob(e.Digest)
	if err != nil {
		return nil, err
	}
	if c.suspect(e, b.Size, b.ModTime) {
		_ = b.Close()
		if err := c.verify(e); err != nil {
			return nil, err
		}
		if b, err = c.layout.Blob(e.Digest); err != nil {
			return nil, err
		}
	}
	if c.o.verifyReads {
		if err := c.recheck(e.Digest, b); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

// recheck hashes an open blob, and puts it in quarantine if it does not have
// its digest. Then the error is [ErrCorrupt].
func (c *Cache) recheck(h v1.Hash, b *layout.Blob) error {
	got, err := c.hashFile(b, h.Algorithm)
	if err != nil {
		return err
	}
	if got != h {
		c.faulted(c.quarantine(c.ctx, h, b))
		return fmt.Errorf("%w: %w", ErrCorrupt, &DigestMismatchError{Want: h, Got: got})
	}
	_, err = b.Seek(0, io.SeekStart)
	return err
}

// verify hashes the blob of an entry, and records what it found: what does
// not have its digest is put in quarantine. Calls for one digest at a time
// share one.
func (c *Cache) verify(e index.Entry) error {
	c.catchUp() // another process may have replaced it, and said so
	if now, ok := c.catalog.get(e.Digest); ok {
		if size, modTime, err := c.layout.StatBlob(e.Digest); err == nil && !c.suspect(now, size, modTime) {
			return nil
		}
	}
	_, err, _ := c.checks.under.Do(e.Digest.String(), func() (any, error) {
		b, err := c.layout.Blob(e.Digest)
		if err != nil {
			return nil, err
		}
		defer b.Close()
		if bad, ok := c.checks.failed.Load(e.Digest); ok && bad == any(stamp{b.Size, b.ModTime}) {
			return nil, fmt.Errorf("%w: %s", ErrCorrupt, e.Digest)
		}
		if err = c.recheck(e.Digest, b); err == nil {
			c.passSoon(e.Digest, b)
		}
		return nil, err
	})
	return err
}

// hashFile hashes a file to its end, which may be far; Close interrupts it.
func (c *Cache) hashFile(r io.Reader, alg string) (v1.Hash, error) {
	h := newHash(alg)
	if _, err := io.CopyBuffer(h, &untilClosed{c, r}, make([]byte, 64<<10)); err != nil {
		return v1.Hash{}, err
	}
	return sumHash(alg, h.Sum(nil)), nil
}

// rotten is called when a blob was found to decompress to a diffID. If it was
// verified to decompress to another one, either that is wrong or the blob
// rotted, and nothing showed it: it is hashed. It returns an error if it rotted.
func (c *Cache) rotten(h, diffID v1.Hash) error {
	e, ok := c.catalog.get(h)
	if !ok || e.Pair != index.Verified || e.DiffID == diffID || e.DiffID.Algorithm != diffID.Algorithm {
		return nil
	}
	b, err := c.layout.Blob(h)
	if err != nil {
		return nil // another process knew
	}
	defer b.Close()
	return c.recheck(h, b)
}

// passSoon is pass for a reader, who does not wait for a lock: without the
// record, the next process will look again.
func (c *Cache) passSoon(h v1.Hash, b *layout.Blob) {
	ctx, cancel := context.WithTimeout(c.ctx, 100*time.Millisecond)
	defer cancel()
	if err := c.pass(ctx, h, b); !errors.Is(err, ErrLocked) {
		c.faulted(err)
	}
}

// pass records that a file was found to be good.
func (c *Cache) pass(ctx context.Context, h v1.Hash, b *layout.Blob) error {
	if settled(b.ModTime) != 0 {
		c.checks.passed.Store(h, stamp{b.Size, b.ModTime})
	}
	if c.o.readOnly {
		return nil
	}
	return c.layout.Update(ctx, func(tx *layout.Tx) error {
		e, ok := c.catalog.get(h)
		if !ok || !c.isSame(h, b) {
			return nil
		}
		switch {
		case e.ModTime != 0 && (e.Size != b.Size || e.ModTime != b.ModTime):
			e.Unsynced = layout.Boot() // another tool wrote it, and it may be in memory only
			defer c.syncer.add(h)
		case e.Unsynced != layout.Boot() && e.Unsynced != syncFailed+layout.Boot():
			e.Unsynced = "" // it was read from the disk
		}
		e.Size, e.ModTime = b.Size, settled(b.ModTime)
		return tx.Append(index.PutRecord(e))
	})
}

// settled returns a file's modification time, 0 if it is so fresh that a write
// that is yet to come might not show.
func settled(modTime int64) int64 {
	if age := time.Since(time.Unix(0, modTime)); 0 <= age && age < 2*time.Second {
		return 0
	}
	return modTime
}

// quarantine takes a file that was found to be bad out of the layout, if it
// is still there.
func (c *Cache) quarantine(ctx context.Context, h v1.Hash, b *layout.Blob) error {
	c.checks.failed.Store(h, stamp{b.Size, b.ModTime})
	c.o.log.Warn("blob does not have its digest", "digest", h, "file", b.Name())
	if c.o.readOnly {
		return nil
	}
	return c.layout.Update(ctx, func(tx *layout.Tx) error {
		if !c.isSame(h, b) {
			return nil
		}
		c.count.repairs.Add(1)
		var err error
		if e, ok := c.catalog.get(h); ok {
			e.ModTime = 0
			err = tx.Append(index.PutRecord(e)) // without it, the blob is listed and not there: a miss too
		}
		return errors.Join(err, tx.Quarantine(h))
	})
}

// isSame reports whether the blob of h is still the file that b is of.
func (c *Cache) isSame(h v1.Hash, b *layout.Blob) bool {
	now, err := c.layout.Blob(h)
	if err != nil {
		return false
	}
	defer now.Close()
	same, err := layout.SameFile(now, b)
	return err == nil && same
}

// untilClosed reads until the cache is closed.
type untilClosed struct {
	c *Cache
	r io.Reader
}

func (u *untilClosed) Read(p []byte) (int, error) {
	if u.c.ctx.Err() != nil {
		return 0, ErrClosed
	}
	return u.r.Read(p)
}
