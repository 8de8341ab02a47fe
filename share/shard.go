package share

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/compression"
)

const (
	// maxShard is how many layers a shard has at most: clients read manifests
	// of more in quadratic time.
	maxShard = 250
	// maxShardBytes is how large a shard's manifest becomes; registries take
	// four times as much (CNCF distribution: 4 MiB).
	maxShardBytes = 1 << 20
)

// A class is what the entries of one shard have in common. Clients that check
// an image, and know only gzip, pass on gzip shards.
type class int

const (
	gzipped  class = iota // in gzip, the diffID known
	other                 // in another codec, the diffID known
	diffless              // no diffID is known: the config is empty
)

func (e entry) class() class {
	switch {
	case e.diffID == (v1.Hash{}):
		return diffless
	case compression.Compressed(string(e.mediaType), compression.Gzip) == string(e.mediaType):
		return gzipped
	}
	return other
}

// A shard is an image manifest and its config.
type shard struct {
	entries  []entry
	manifest []byte
	config   []byte
}

// shards returns entries, sorted by digest, as shards. Which entries are
// together depends on the entries alone, and adding one changes one shard, or
// now and then splits it.
func shards(entries []entry) ([]shard, error) {
	var all []shard
	for _, c := range []class{gzipped, other, diffless} {
		of := slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return e.class() != c })
		if len(of) == 0 {
			continue
		}
		split, err := splitShard(of, 0)
		if err != nil {
			return nil, err
		}
		all = append(all, split...)
	}
	return all, nil
}

// splitShard makes one shard of entries, or splits them by the bit of their
// digests that is next if they are too many for one.
func splitShard(entries []entry, bit int) ([]shard, error) {
	if len(entries) <= maxShard {
		s, err := encodeShard(entries)
		if err != nil || len(s.manifest) <= maxShardBytes || len(entries) == 1 {
			return []shard{s}, err
		}
	}
	var halves [2][]entry
	for _, e := range entries {
		n, err := digestBit(e.digest, bit)
		if err != nil {
			return nil, err
		}
		halves[n] = append(halves[n], e)
	}
	var all []shard
	for _, half := range halves {
		if len(half) == 0 {
			continue
		}
		s, err := splitShard(half, bit+1)
		if err != nil {
			return nil, err
		}
		all = append(all, s...)
	}
	return all, nil
}

func digestBit(h v1.Hash, bit int) (int, error) {
	if bit/4 >= len(h.Hex) {
		return 0, fmt.Errorf("share: %s is there twice", h)
	}
	digit, err := strconv.ParseUint(h.Hex[bit/4:bit/4+1], 16, 8)
	if err != nil {
		return 0, fmt.Errorf("share: %q is no digest: %w", h, err)
	}
	return int(digit>>(3-bit%4)) & 1, nil
}

// encodeShard returns entries as an image that any client can read. Nothing
// depends on the order in which they came to be, or on who encodes them.
func encodeShard(entries []entry) (shard, error) {
	s := shard{entries: entries}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ocicache.ArtifactShard}
	m.SchemaVersion = 2
	for _, e := range entries {
		if err := e.check(); err != nil {
			return s, fmt.Errorf("share: %w", err)
		}
		m.Layers = append(m.Layers, descriptorOf(e))
	}
	var err error
	if s.config, err = encodeConfig(entries); err != nil {
		return s, err
	}
	m.Config = ocispec.Descriptor{MediaType: s.configType(), Digest: sumOf(s.config), Size: int64(len(s.config))}
	s.manifest, err = json.Marshal(m)
	return s, err
}

// encodeConfig returns the config of a shard's image.
func encodeConfig(entries []entry) ([]byte, error) {
	if entries[0].class() == diffless {
		return ocispec.DescriptorEmptyJSON.Data, nil
	}
	image := ocispec.Image{Platform: unknownPlatform}
	image.RootFS.Type = "layers"
	for _, e := range entries {
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, digestOf(e.diffID))
	}
	return json.Marshal(image)
}

func (s shard) configType() string {
	if s.entries[0].class() == diffless {
		return ocispec.DescriptorEmptyJSON.MediaType
	}
	return ocispec.MediaTypeImageConfig
}

var unknownPlatform = ocispec.Platform{Architecture: "unknown", OS: "unknown"}

func descriptorOf(e entry) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: string(e.mediaType), Digest: digestOf(e.digest), Size: e.size}
	if e.diffID != (v1.Hash{}) {
		d.Annotations = map[string]string{ocicache.AnnotationDiffID: e.diffID.String()}
	}
	if len(e.keys) > 0 {
		escaped := make([]string, len(e.keys))
		for i, key := range e.keys {
			escaped[i] = escape(key)
		}
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		d.Annotations[ocicache.AnnotationBuildKeys] = strings.Join(escaped, ",")
	}
	return d
}

// decodeShard reads a shard's manifest. Of the layers it takes nothing but
// what encodeShard wrote: neither urls nor local annotations.
func decodeShard(raw []byte) (entries []entry, config ocispec.Descriptor, err error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, config, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if m.MediaType != ocispec.MediaTypeImageManifest || m.ArtifactType != ocicache.ArtifactShard {
		return nil, config, fmt.Errorf("%w: media type %.80q and artifactType %.80q", ErrMalformed, m.MediaType, m.ArtifactType)
	}
	if len(m.Layers) == 0 || len(m.Layers) > maxShard {
		return nil, config, fmt.Errorf("%w: a shard of %d layers", ErrMalformed, len(m.Layers))
	}
	for _, d := range m.Layers {
		e, err := decodeEntry(d)
		if err != nil {
			return nil, config, err
		}
		entries = append(entries, e)
	}
	return entries, m.Config, nil
}

func decodeEntry(d ocispec.Descriptor) (e entry, err error) {
	if e.digest, err = v1.NewHash(string(d.Digest)); err != nil {
		return e, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	e.size, e.mediaType = d.Size, types.MediaType(d.MediaType)
	if s, ok := d.Annotations[ocicache.AnnotationDiffID]; ok {
		if e.diffID, err = v1.NewHash(s); err != nil {
			return e, fmt.Errorf("%w: diffID of %s: %w", ErrMalformed, e.digest, err)
		}
	}
	if s, ok := d.Annotations[ocicache.AnnotationBuildKeys]; ok {
		for escaped := range strings.SplitSeq(s, ",") {
			key, err := url.QueryUnescape(escaped)
			if err != nil {
				return e, fmt.Errorf("%w: keys of %s: %.80q", ErrMalformed, e.digest, escaped)
			}
			e.keys = append(e.keys, key)
		}
	}
	if err := e.check(); err != nil {
		return e, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return e, nil
}

// checkConfig reports whether a shard's config says the same of its layers as
// its manifest does.
func checkConfig(raw []byte, entries []entry) error {
	var image ocispec.Image
	if err := json.Unmarshal(raw, &image); err != nil {
		return fmt.Errorf("%w: config: %w", ErrMalformed, err)
	}
	known := func(e entry) bool { return e.diffID != (v1.Hash{}) }
	if len(image.RootFS.DiffIDs) == 0 && !slices.ContainsFunc(entries, known) {
		return nil
	}
	if len(image.RootFS.DiffIDs) != len(entries) {
		return fmt.Errorf("%w: the config has %d diffIDs for %d layers", ErrMalformed, len(image.RootFS.DiffIDs), len(entries))
	}
	for i, e := range entries {
		if got := image.RootFS.DiffIDs[i]; got != digestOf(e.diffID) {
			return fmt.Errorf("%w: the config has the diffID %.80q for %s, and the manifest %s", ErrMalformed, got, e.digest, e.diffID)
		}
	}
	return nil
}
