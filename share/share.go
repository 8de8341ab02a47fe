// Package share carries a cache to others and back: it pushes what is known
// and held to a tag of a registry, merged with what is there, and pulls it
// from one, the bytes when they are first read.
//
// A tag holds a snapshot: an image index of shards, image manifests of at most
// 250 layers each. docs/sharing.md describes them. The same content always
// gives the same bytes, and nothing local is in them.
//
// It is under way: docs/sharing.md lists the faults that are known.
//
// It never looks into the cache's directory.
package share
