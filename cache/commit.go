package cache

import (
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// blobFacts is what is known of a blob that was filled: its digest and size
// because they were computed, the rest because somebody said so, save diffID.
type blobFacts struct {
	digest    v1.Hash
	size      int64
	mediaType string
	claim     v1.Hash // the diffID that it is claimed to have; may be zero
	diffID    v1.Hash // the tar that this cache made it of; may be zero
	codec     string  // with diffID: how
	origin    string  // the repository that it came from; may be ""
}

// tarFacts is what is known of a tar that was filled.
type tarFacts struct {
	diffID    v1.Hash
	size      int64
	mediaType string
	digest    v1.Hash // the blob that it was decompressed from; may be zero
}

// commitBlob makes an ingest the blob of its digest, and records its pair.
func (c *Cache) commitBlob(in *layout.Ingest, f blobFacts) error {
	plain, err := isPlain(in)
	if err != nil {
		return err
	}
	if f.diffID == (v1.Hash{}) && plain {
		f.diffID = f.digest // distributed uncompressed
	}
	return c.commit(in, f.digest, func(tx *layout.Tx) error {
		e, ok := c.catalog.get(f.digest)
		if !ok {
			e = index.Entry{Digest: f.digest, Created: c.now(), Origin: f.origin}
		}
		if e.MediaType == "" || e.Tar {
			e.MediaType = f.mediaType
		}
		e.Size = f.size
		switch {
		case f.diffID != v1.Hash{}:
			e.DiffID, e.Pair, e.Codec = f.diffID, index.Verified, f.codec
		case f.claim == v1.Hash{} || f.claim == f.digest: // not believed of compressed content
		case e.Pair == index.Unknown, e.Pair == index.Refuted && e.DiffID != f.claim:
			e.DiffID, e.Pair = f.claim, index.Claimed
		}
		if err := c.place(tx, in, &e); err != nil {
			return err
		}
		records := [][]byte{index.PutRecord(e)}
		if tar, ok := c.catalog.get(f.diffID); ok && tar.Tar && tar.Variant == (v1.Hash{}) && f.diffID != f.digest {
			tar.Variant = f.digest
			records = append(records, index.PutRecord(tar))
		}
		return tx.Append(records...)
	})
}

// commitTar makes an ingest the tar of its diffID, and records the pair that
// was verified by making it. A nil ingest records the pair alone.
func (c *Cache) commitTar(in *layout.Ingest, f tarFacts) error {
	if f.digest == f.diffID {
		in = nil // the blob is the tar
	}
	return c.commit(in, f.diffID, func(tx *layout.Tx) error {
		var records [][]byte
		blob, ok := c.catalog.get(f.digest)
		if ok && (blob.Pair != index.Verified || blob.DiffID != f.diffID) {
			blob.DiffID, blob.Pair = f.diffID, index.Verified
			records = append(records, index.PutRecord(blob))
		}
		if in != nil {
			tar, known := c.catalog.get(f.diffID)
			if !known {
				tar = index.Entry{Digest: f.diffID, Created: c.now(), MediaType: f.mediaType}
			}
			tar.Tar, tar.Size = true, f.size
			if ok && tar.Variant == (v1.Hash{}) {
				tar.Variant = f.digest
			}
			if err := c.place(tx, in, &tar); err != nil {
				return err
			}
			records = append(records, index.PutRecord(tar))
		}
		if len(records) == 0 {
			return nil
		}
		return tx.Append(records...)
	})
}

// recordPair records a pair that was verified by decompressing the blob.
func (c *Cache) recordPair(digest, diffID v1.Hash) {
	if e, ok := c.catalog.get(digest); ok && e.Pair == index.Verified && e.DiffID == diffID {
		return
	}
	if err := c.commitTar(nil, tarFacts{diffID: diffID, digest: digest}); err != nil {
		c.fault(err)
	}
}

// commit runs record under the writers' lock, and syncs as the level asks.
func (c *Cache) commit(in *layout.Ingest, h v1.Hash, record func(*layout.Tx) error) error {
	if in != nil && c.o.sync == SyncCommit {
		if err := in.Sync(); err != nil {
			return err
		}
	}
	if err := c.layout.Update(c.ctx, record); err != nil {
		return fmt.Errorf("commit %s: %w", h, err)
	}
	if c.o.sync == SyncCommit {
		if err := c.layout.SyncDirs(); err != nil {
			return err
		}
		if err := c.layout.SyncJournal(); err != nil {
			return err
		}
	}
	if in != nil && in.Committed() { // else good bytes were there
		c.syncer.add(h)
		c.pruneLater(h)
	}
	c.compact()
	return nil
}

// place brings an ingest's bytes to their place, unless good ones are there,
// and notes in the entry when it did.
func (c *Cache) place(tx *layout.Tx, in *layout.Ingest, e *index.Entry) error {
	if size, modTime, err := c.layout.StatBlob(e.Digest); err == nil && !c.suspect(*e, size, modTime) {
		return nil
	}
	modTime, err := tx.Commit(in, e.Digest)
	if err != nil {
		return err
	}
	c.checks.failed.Delete(e.Digest)
	e.Created, e.ModTime, e.Unsynced = c.now(), modTime, layout.Boot()
	if c.o.sync == SyncCommit {
		e.Unsynced = ""
	}
	return nil
}

// refute records that a blob does not decompress, whatever it is claimed to
// decompress to.
func (c *Cache) refute(h v1.Hash) {
	err := c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		e, ok := c.catalog.get(h)
		if !ok || e.Pair != index.Claimed {
			return nil
		}
		e.Pair = index.Refuted
		return tx.Append(index.PutRecord(e))
	})
	if err != nil {
		c.fault(err)
	}
}

// isPlain reports whether an ingest's content is not compressed.
func isPlain(in *layout.Ingest) (bool, error) {
	prefix := make([]byte, compression.DetectLen)
	n, err := in.ReadAt(prefix, 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	return compression.Detect(prefix[:n]) == compression.Plain, nil
}
