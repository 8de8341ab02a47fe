package ocicache

// Annotation keys of the descriptors in a cache's index.json. All of them
// start with [AnnotationPrefix]; a descriptor that carries none of them is
// foreign to the cache and kept as it is.
//
// The first two are the format proposed in
// https://github.com/google/go-containerregistry/issues/950.
const (
	// AnnotationDiffID, on a compressed descriptor, is its diffID. A layer
	// that is distributed uncompressed carries its own digest here.
	AnnotationDiffID = "dev.ggcr.cache.diffid"

	// AnnotationDigest, on an uncompressed descriptor, is the digest of the
	// variant to prefer. It is empty while no compressed form is known.
	AnnotationDigest = "dev.ggcr.cache.digest"
)

// Annotation keys of snapshots in registries; see docs/sharing.md. Those of
// layers have [AnnotationDiffID] too.
const (
	// AnnotationSnapshot, on an image index, says that it is a snapshot of a
	// cache, and of which version.
	AnnotationSnapshot = "dev.ggcr.cache.snapshot"

	// AnnotationContribution, on an image index that also has
	// [AnnotationSnapshot], names the push that it is the contribution of.
	AnnotationContribution = "dev.ggcr.cache.contribution"

	// AnnotationBuildKeys, on a layer in a shard, are the shareable build keys
	// that stand for it, sorted and separated by commas, each as in a URL's
	// query.
	AnnotationBuildKeys = "dev.ggcr.cache.buildkeys"
)

// ArtifactShard is the artifactType of a shard, an image manifest that lists
// layers of a cache.
const ArtifactShard = "application/vnd.dev.ggcr.cache.shard.v1"

// Annotation keys that are written and read by this module only. They
// describe the local copy, and are not sent to a registry.
const (
	// AnnotationPair, on a compressed descriptor that has [AnnotationDiffID],
	// says what is known of that pair: [PairVerified], [PairClaimed] or
	// [PairRefuted]. Absent means claimed.
	AnnotationPair = "dev.ggcr.cache.pair"

	// AnnotationCodec, on a compressed descriptor that this module
	// compressed, is the settings that reproduce its bytes from the tar, in
	// the form of compression.Settings.
	AnnotationCodec = "dev.ggcr.cache.codec"

	// AnnotationCreated is when the blob's bytes were committed, or, if they
	// never were, the entry, in seconds since the Unix epoch, decimal.
	AnnotationCreated = "dev.ggcr.cache.created"

	// AnnotationModTime is the modification time that the blob's file had
	// when its bytes were last verified, in nanoseconds since the Unix epoch,
	// decimal. Absent means that the bytes are gone, or that they are to be
	// hashed before they are served.
	AnnotationModTime = "dev.ggcr.cache.mtime"

	// AnnotationUnsynced says that the blob was not yet synced to stable
	// storage. Its value names the boot under which it was written, after
	// "failed:" if a sync of it failed under that boot.
	AnnotationUnsynced = "dev.ggcr.cache.unsynced"

	// AnnotationOrigin is the repository that the blob first came from, where
	// that is known.
	AnnotationOrigin = "dev.ggcr.cache.origin"

	// AnnotationUsed is when the blob was last read, in seconds since the Unix
	// epoch, and how often it was, as SECONDS:COUNT.
	AnnotationUsed = "dev.ggcr.cache.used"

	// AnnotationKeys are the build keys of the layer, separated by commas:
	// each is local:SECONDS:MEDIATYPE:KEY or shareable:SECONDS:MEDIATYPE:KEY,
	// with the time it was made, the media type that the layer was built with
	// and the key, both as in a URL's query. No media type is the descriptor's.
	AnnotationKeys = "dev.ggcr.cache.keys"

	// AnnotationPins are the names of the pins that hold the blob, as in a
	// URL's query, separated by commas.
	AnnotationPins = "dev.ggcr.cache.pins"

	// AnnotationFolded, on the index itself, is the last journal record that
	// the index holds, as GENERATION:NUMBER.
	AnnotationFolded = "dev.ggcr.cache.folded"

	// AnnotationPrefix is what all annotation keys of this module start with.
	AnnotationPrefix = "dev.ggcr.cache."
)

// Values of [AnnotationPair].
const (
	// PairVerified: this cache decompressed the blob and saw the diffID.
	PairVerified = "verified"
	// PairClaimed: an image config or an imported index said so.
	PairClaimed = "claimed"
	// PairRefuted: this cache tried, and the blob does not decompress to
	// the diffID.
	PairRefuted = "refuted"
)
