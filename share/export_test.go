package share

import (
	"encoding/json"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Limits, for tests.
const (
	MaxShard      = maxShard
	MaxShardBytes = maxShardBytes
	MaxIndex      = maxIndex
	MaxHomes      = maxHomes
	MaxKey        = maxKey
	MaxKeys       = maxKeys
)

// An Entry is an entry, for tests.
type Entry struct {
	Digest    v1.Hash
	Size      int64
	MediaType types.MediaType
	DiffID    v1.Hash
	Keys      []string
}

func in(es []Entry) []entry {
	var all []entry
	for _, e := range es {
		all = append(all, entry{e.Digest, e.Size, e.MediaType, e.DiffID, e.Keys})
	}
	return all
}

func out(es []entry) []Entry {
	var all []Entry
	for _, e := range es {
		all = append(all, Entry{e.digest, e.size, e.mediaType, e.diffID, e.keys})
	}
	return all
}

// Unite is unite.
func Unite(lists ...[]Entry) []Entry {
	var all [][]entry
	for _, l := range lists {
		all = append(all, in(l))
	}
	return out(unite(all...))
}

// A Manifest is a shard as a registry has it.
type Manifest struct {
	Entries       []Entry
	Class         int
	Bytes, Config []byte
}

// Encode is encode.
func Encode(es []Entry) (shards []Manifest, index []byte, err error) {
	s, err := encode(in(es))
	for _, sh := range s.shards {
		shards = append(shards, Manifest{out(sh.entries), int(sh.entries[0].class()), sh.manifest, sh.config})
	}
	return shards, s.index, err
}

// EncodeIndex returns an index that lists shards.
func EncodeIndex(ds ...v1.Descriptor) []byte {
	_, empty, _ := Encode(nil)
	var idx v1.IndexManifest
	if err := json.Unmarshal(empty, &idx); err != nil {
		panic(err)
	}
	idx.Manifests = ds
	b, err := json.Marshal(idx)
	if err != nil {
		panic(err)
	}
	return b
}

// DecodeIndex is decodeIndex.
func DecodeIndex(raw []byte) ([]v1.Descriptor, error) { return decodeIndex(raw) }

// DecodeShard is decodeShard.
func DecodeShard(raw []byte) ([]Entry, string, error) {
	es, config, err := decodeShard(raw)
	return out(es), string(config.Digest), err
}

// CheckConfig is checkConfig.
func CheckConfig(raw []byte, es []Entry) error { return checkConfig(raw, in(es)) }

// OpenOrigins returns the number of repositories that homes keep after all of
// some were asked for.
func OpenOrigins(repositories []string) (int, error) {
	h := &homes{o: makeOptions(nil), m: map[string]*registry{}}
	for _, r := range repositories {
		if _, err := h.layer(r, v1.Descriptor{}); err != nil {
			return 0, err
		}
	}
	return len(h.m), nil
}
