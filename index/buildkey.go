package index

import (
	"encoding/json"
	"iter"
	"net/url"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A BuildKey is what a build's key stands for.
type BuildKey struct {
	Digest    v1.Hash // of the layer that was built
	Shareable bool    // it may be published
	Created   int64   // in seconds since the Unix epoch
}

// buildKey is a BuildKey in the catalog.
type buildKey struct {
	to        ref
	shareable bool
	created   int64
}

type keyRecord struct {
	Key       string `json:"key"`
	Digest    string `json:"digest"`
	Shareable bool   `json:"shareable,omitempty"`
	Created   int64  `json:"created"`
}

// KeyRecord returns the journal record that makes a key stand for a layer,
// whatever it stood for before. The layer's entry must be there already.
func KeyRecord(key string, k BuildKey) []byte {
	return record1("key", keyRecord{key, k.Digest.String(), k.Shareable, k.Created})
}

// DropKeyRecord returns the journal record that forgets a key.
func DropKeyRecord(key string) []byte { return record1("unkey", key) }

// record1 returns a journal record of one field, whose value can be JSON.
func record1(name string, value any) []byte {
	b, _ := json.Marshal(map[string]any{name: value})
	return b
}

// Key returns what a build's key stands for.
func (c *Catalog) Key(key string) (BuildKey, bool) {
	k, ok := c.keys[key]
	if !ok {
		return BuildKey{}, false
	}
	return c.expand(k), true
}

func (c *Catalog) expand(k buildKey) BuildKey {
	return BuildKey{Digest: c.nodes[k.to].key.hash(), Shareable: k.shareable, Created: k.created}
}

// Keys yields all keys, in no particular order.
func (c *Catalog) Keys() iter.Seq2[string, BuildKey] {
	return func(yield func(string, BuildKey) bool) {
		for key, k := range c.keys {
			if !yield(key, c.expand(k)) {
				return
			}
		}
	}
}

// KeysOf returns the keys of a layer, sorted. They are not to be changed.
func (c *Catalog) KeysOf(h v1.Hash) []string {
	r, _ := c.listedRef(h)
	return c.keysOf[r]
}

func (c *Catalog) applyKey(k keyRecord) {
	r, ok := c.listedRef(parseHash(k.Digest))
	if !ok {
		c.skipped++
		return
	}
	c.setKey(k.Key, buildKey{to: r, shareable: k.Shareable, created: k.Created})
}

func (c *Catalog) setKey(key string, k buildKey) {
	c.dropKey(key)
	c.keys[key] = k
	c.keysOf[k.to] = with(c.keysOf[k.to], key)
}

func (c *Catalog) dropKey(key string) {
	if k, ok := c.keys[key]; ok {
		delete(c.keys, key)
		setOrDeleteList(c.keysOf, k.to, without(c.keysOf[k.to], key))
	}
}

// forgetMarks forgets what hangs on an entry that goes.
func (c *Catalog) forgetMarks(r ref) {
	for _, key := range c.keysOf[r] {
		delete(c.keys, key)
	}
	delete(c.keysOf, r)
	delete(c.pins, r)
	c.nodes[r].use = Use{}
}

// with returns a sorted list with s in it. The list it is given stays as it
// is: a clone may have it.
func with(list []string, s string) []string {
	i, found := slices.BinarySearch(list, s)
	if found {
		return list
	}
	return slices.Insert(slices.Clone(list), i, s)
}

// without returns a sorted list without s, likewise.
func without(list []string, s string) []string {
	i, found := slices.BinarySearch(list, s)
	if !found {
		return list
	}
	return slices.Delete(slices.Clone(list), i, i+1)
}

func setOrDeleteList(m map[ref][]string, r ref, list []string) {
	if len(list) == 0 {
		delete(m, r)
	} else {
		m[r] = list
	}
}

// encodeKeys returns the form that [ocicache.AnnotationKeys] has.
func (c *Catalog) encodeKeys(r ref) string {
	var b strings.Builder
	for i, key := range c.keysOf[r] {
		if i > 0 {
			b.WriteByte(',')
		}
		k := c.keys[key]
		if k.shareable {
			b.WriteString("shareable:")
		} else {
			b.WriteString("local:")
		}
		b.WriteString(strconv.FormatInt(k.created, 10) + ":" + url.QueryEscape(key))
	}
	return b.String()
}

// decodeKeys reads what encodeKeys made, and leaves out what it cannot read.
func (c *Catalog) decodeKeys(r ref, s string) {
	for item := range strings.SplitSeq(s, ",") {
		kind, rest, _ := strings.Cut(item, ":")
		created, escaped, ok := strings.Cut(rest, ":")
		n, nerr := strconv.ParseInt(created, 10, 64)
		key, kerr := url.QueryUnescape(escaped)
		if ok && nerr == nil && kerr == nil {
			c.setKey(key, buildKey{to: r, shareable: kind == "shareable", created: n})
		}
	}
}
