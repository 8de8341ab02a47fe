package share

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocicache/ocicache"
)

// ErrMalformed is returned for what a registry has under a tag and is no
// snapshot, or one that says what it must not. The error says where.
var ErrMalformed = errors.New("malformed snapshot")

const (
	// maxIndex bounds a snapshot's index, in bytes: what CNCF distribution
	// takes. It is enough for 4,000,000 entries.
	maxIndex = 4 << 20
	// snapshotVersion is the value of [ocicache.AnnotationSnapshot].
	snapshotVersion = "1"
)

// A snapshot is an image index of shards.
type snapshot struct {
	shards []shard
	index  []byte
}

// encode returns entries, sorted by digest, as a snapshot.
func encode(entries []entry) (s snapshot, err error) {
	if s.shards, err = shards(entries); err != nil {
		return s, err
	}
	idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	idx.SchemaVersion = 2
	idx.Annotations = map[string]string{ocicache.AnnotationSnapshot: snapshotVersion}
	for _, sh := range s.shards {
		idx.Manifests = append(idx.Manifests, sh.descriptor())
	}
	if s.index, err = json.Marshal(idx); err == nil && len(s.index) > maxIndex {
		err = fmt.Errorf("share: the index would have %d bytes, and registries take %d: leave entries out", len(s.index), maxIndex)
	}
	return s, err
}

// descriptor returns a shard's descriptor: with a platform, without which CNCF
// distribution 3 can panic, and no artifactType, which skopeo drops.
func (s shard) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest,
		Digest:    sumOf(s.manifest),
		Size:      int64(len(s.manifest)),
		Platform:  &ocispec.Platform{Architecture: unknownPlatform.Architecture, OS: unknownPlatform.OS},
	}
}

// decodeIndex reads a snapshot's index, and returns its shards: each once, with
// a digest and a size that a shard may have.
func decodeIndex(raw []byte) ([]v1.Descriptor, error) {
	idx, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if idx.MediaType != ocispec.MediaTypeImageIndex {
		return nil, fmt.Errorf("%w: media type %.80q", ErrMalformed, idx.MediaType)
	}
	if got := idx.Annotations[ocicache.AnnotationSnapshot]; got != snapshotVersion {
		return nil, fmt.Errorf("%w: %s is %.80q, want %q", ErrMalformed, ocicache.AnnotationSnapshot, got, snapshotVersion)
	}
	seen := map[v1.Hash]bool{}
	for _, d := range idx.Manifests {
		if d.MediaType != ocispec.MediaTypeImageManifest || d.Size <= 0 || d.Size > maxShardBytes {
			return nil, fmt.Errorf("%w: child %s of type %.80q and %d bytes", ErrMalformed, d.Digest, d.MediaType, d.Size)
		}
		if d.Digest == (v1.Hash{}) || seen[d.Digest] {
			return nil, fmt.Errorf("%w: child %s is there twice, or has no digest", ErrMalformed, d.Digest)
		}
		seen[d.Digest] = true
	}
	return idx.Manifests, nil
}

func sumOf(b []byte) digest.Digest { return digest.FromBytes(b) }

func digestOf(h v1.Hash) digest.Digest { return digest.Digest(h.String()) }
