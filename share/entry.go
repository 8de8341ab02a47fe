package share

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An entry is a layer as a snapshot has it.
type entry struct {
	digest    v1.Hash
	size      int64
	mediaType types.MediaType
	diffID    v1.Hash  // zero if none is known
	keys      []string // shareable build keys, sorted
}

const (
	// maxKey is how long a build key may be, in bytes: as in a cache.
	maxKey = 4 << 10
	// maxKeys is how many keys an entry has in a shard: caches take in many of
	// one entry in quadratic time.
	maxKeys = 1000
	// maxKeyBytes is how many bytes an entry's keys take in a shard, so that any
	// entry fits into one.
	maxKeyBytes = maxShardBytes / 2
	// maxMediaType is how long a media type may be, in bytes: RFC 6838, 4.2.
	maxMediaType = 255
	// maxSize is more than any layer has, in bytes, and so little that a
	// million of them add up.
	maxSize = 1 << 40
)

// check reports what is wrong with what somebody says of a layer: what a pull
// must not believe, and a push must not send.
func (e entry) check() error {
	switch {
	case e.size < 0 || e.size > maxSize:
		return fmt.Errorf("%s has a size of %d bytes", e.digest, e.size)
	case !isMediaType(string(e.mediaType)), isManifest(e.mediaType):
		return fmt.Errorf("%s has the media type %.80q", e.digest, e.mediaType)
	case len(e.keys) > maxKeys:
		return fmt.Errorf("%s has %d keys", e.digest, len(e.keys))
	}
	for _, key := range e.keys {
		if key == "" || len(key) > maxKey {
			return fmt.Errorf("%s has a key of %d bytes", e.digest, len(key))
		}
	}
	return nil
}

// isMediaType reports whether s looks like one: none of its bytes is changed
// by JSON, or changes a terminal.
func isMediaType(s string) bool {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	return len(s) <= maxMediaType && strings.Contains(s, "/") && !strings.ContainsFunc(s, odd)
}

// isManifest reports whether other tools would look for layers in what has a
// media type.
func isManifest(t types.MediaType) bool { return t.IsImage() || t.IsIndex() || t.IsSchema1() }

func compareEntries(a, b entry) int {
	return cmp.Or(strings.Compare(a.digest.Algorithm, b.digest.Algorithm), strings.Compare(a.digest.Hex, b.digest.Hex))
}

// unite returns the entries of all lists, sorted by digest. Of a digest that
// several have, it takes the first one's word, and a diffID from whichever has
// one; keys add up. A key stands for one layer: of several, for that with the
// least digest. Apart from the first one's word, the order of the lists does
// not matter, and uniting again changes nothing.
func unite(lists ...[]entry) []entry {
	all := map[v1.Hash]entry{}
	home := map[string]v1.Hash{} // of keys
	for _, list := range lists {
		for _, e := range list {
			was, ok := all[e.digest]
			if !ok {
				was = e
				was.keys = nil
			}
			if was.diffID == (v1.Hash{}) {
				was.diffID = e.diffID
			}
			all[e.digest] = was
			for _, key := range e.keys {
				if h, ok := home[key]; !ok || compareEntries(e, entry{digest: h}) < 0 {
					home[key] = e.digest
				}
			}
		}
	}
	for key, h := range home {
		e := all[h]
		e.keys = append(e.keys, key)
		all[h] = e
	}
	united := make([]entry, 0, len(all))
	for _, e := range all {
		e.keys = fitting(e.keys)
		united = append(united, e)
	}
	slices.SortFunc(united, compareEntries)
	return united
}

// fitting returns the keys that fit into a shard, sorted: the shortest, so that
// it does not matter in which order keys came together.
func fitting(keys []string) []string {
	size := make(map[string]int, len(keys)) // in a shard
	room := maxKeyBytes
	for _, key := range keys {
		size[key] = len(escape(key)) + len(",")
		room -= size[key]
	}
	if slices.Sort(keys); room >= 0 && len(keys) <= maxKeys {
		return keys
	}
	slices.SortStableFunc(keys, func(a, b string) int { return size[a] - size[b] })
	room = maxKeyBytes
	for i, key := range keys {
		if room -= size[key]; room < 0 || i == maxKeys {
			keys = keys[:i]
			break
		}
	}
	slices.Sort(keys)
	return keys
}

// escape returns a key as shards have it.
func escape(key string) string { return url.QueryEscape(key) }
