package cache

import (
	"bytes"
	"context"
	"errors"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// An orphan is a blob that has its digest, and that nothing lists or reaches.
type orphan struct {
	digest   v1.Hash
	stamp    stamp
	contents contents
	tar      bool      // it is one
	manifest *manifest // nil if it is none
}

func (o orphan) finding() Finding {
	return Finding{Problem: Unlisted, Path: layout.BlobPath(o.digest), Digest: o.digest, Err: errUnlisted}
}

var errUnlisted = errors.New("nothing lists it")

// isOrphan looks again: it may have been listed or removed meanwhile.
func (s *scrub) isOrphan(o orphan) bool {
	_, listed := s.c.catalog.get(o.digest)
	_, _, err := s.c.layout.StatBlob(o.digest)
	return !listed && err == nil
}

// addOrphan notes an orphan, and what it looks like.
func (s *scrub) addOrphan(h v1.Hash, b *layout.Blob, c contents) {
	o := orphan{digest: h, stamp: stamp{b.Size, b.ModTime}, contents: c, tar: isTar(b)}
	if m, ok, err := readManifest(b); s.o.Rebuild && ok && err == nil {
		o.manifest = &m
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orphans = append(s.orphans, o)
}

// isTar reports whether a blob begins as a tar does (POSIX ustar, which is
// GNU's magic too).
func isTar(b *layout.Blob) bool {
	magic := make([]byte, 5)
	_, err := b.ReadAt(magic, 257)
	return err == nil && bytes.Equal(magic, []byte("ustar"))
}

// rebuild lists the orphans: images that no other image holds, as other tools
// list them, and as layers whatever is no image's config.
func (s *scrub) rebuild(ctx context.Context) error {
	k := s.kin()
	k.now = s.c.now()
	for _, o := range s.orphans {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !s.isOrphan(o) {
			continue
		}
		f := o.finding()
		if record := k.record(o); record != nil {
			f.Repair = s.list(o, record)
		}
		if f.Repair == Listed || !k.named[o.digest.String()] {
			s.found(f)
		}
	}
	return s.c.checkpoint()
}

// list appends the record that lists an orphan, unless it was listed
// meanwhile or is gone.
func (s *scrub) list(o orphan, record []byte) Repair {
	repair := NoRepair
	err := s.c.layout.Update(s.ctx, func(tx *layout.Tx) error {
		size, modTime, err := s.c.layout.StatBlob(o.digest)
		if _, listed := s.c.catalog.get(o.digest); listed || err != nil || o.stamp != (stamp{size, modTime}) {
			return nil
		}
		repair = Listed
		return tx.Append(record)
	})
	return s.done(repair, err)
}

// kin is what the orphans say of each other.
type kin struct {
	now       int64               // in seconds since the Unix epoch
	named     map[string]bool     // by an image or an index
	configs   map[string]bool     // of images
	mediaType map[string]string   // of layers
	blobOf    map[v1.Hash]v1.Hash // diffID to the least digest that decompresses to it
}

func (s *scrub) kin() kin {
	k := kin{named: map[string]bool{}, configs: map[string]bool{}, mediaType: map[string]string{}, blobOf: map[v1.Hash]v1.Hash{}}
	slices.SortFunc(s.orphans, func(a, b orphan) int { return bytes.Compare([]byte(a.digest.Hex), []byte(b.digest.Hex)) })
	for _, o := range s.orphans {
		if o.manifest != nil {
			for _, l := range o.manifest.links() {
				if l.Digest != o.manifest.Subject.Digest { // an image is more than what signs it
					k.named[l.Digest] = true
				}
			}
			for _, l := range o.manifest.Layers {
				k.mediaType[l.Digest] = string(l.MediaType)
			}
			k.configs[o.manifest.Config.Digest] = true
		}
		if _, ok := k.blobOf[o.contents.diffID]; !ok && o.isCompressed() {
			k.blobOf[o.contents.diffID] = o.digest
		}
	}
	return k
}

// isCompressed reports whether the blob decompresses to something else.
func (o orphan) isCompressed() bool {
	return o.contents.decompressed && o.contents.format != compression.Plain
}

// record returns what lists an orphan, nil if an image that is listed reaches
// it.
func (k kin) record(o orphan) []byte {
	digest := o.digest.String()
	switch {
	case o.manifest != nil && k.named[digest], k.configs[digest]:
		return nil
	case o.manifest != nil:
		return index.ListRecord(o.manifest.mediaType(), o.stamp.size, o.digest)
	}
	e := index.Entry{
		Digest: o.digest, MediaType: k.mediaType[digest], Size: o.stamp.size,
		Created: k.now, ModTime: settled(o.stamp.modTime), Unsynced: layout.Boot(),
	}
	blob, isDiffID := k.blobOf[o.digest]
	switch {
	case o.isCompressed():
		e.DiffID, e.Pair = o.contents.diffID, index.Verified
	case isDiffID:
		e.Tar, e.Variant = true, blob
	case o.tar && e.MediaType != "": // an image has it as it is
		e.DiffID, e.Pair = o.digest, index.Verified
	case o.tar:
		e.Tar = true
	}
	if e.MediaType == "" {
		e.MediaType = k.guess(o, e)
	}
	return index.PutRecord(e)
}

// guess returns a media type for what no image names.
func (k kin) guess(o orphan, e index.Entry) string {
	if e.Tar && k.mediaType[e.Variant.String()] != "" {
		return compression.Uncompressed(k.mediaType[e.Variant.String()])
	}
	if e.Tar || e.Pair == index.Verified {
		return compression.Compressed("", o.contents.format)
	}
	return "application/octet-stream"
}

// mediaType returns the manifest's, by its content if it does not say.
func (m manifest) mediaType() string {
	switch {
	case m.MediaType != "":
		return string(m.MediaType)
	case len(m.Manifests) > 0:
		return string(types.OCIImageIndex)
	}
	return string(types.OCIManifestSchema1)
}
