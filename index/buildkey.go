package index

import (
	"cmp"
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
	MediaType string  // that it was built with; in a record, "" is the entry's
	Shareable bool    // it may be published
	Created   int64   // in seconds since the Unix epoch
}

// buildKey is a BuildKey in the catalog.
type buildKey struct {
	to        ref
	media     uint32 // of names
	created   int64
	shareable bool
}

type keyRecord struct {
	Key       string `json:"key"` // escaped, as all keys and names of pins: they may be any bytes
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType,omitempty"`
	Shareable bool   `json:"shareable,omitempty"`
	Created   int64  `json:"created"`
}

// KeyRecord returns the journal record that makes a key stand for a layer,
// whatever it stood for before. The layer's entry must be there already.
func KeyRecord(key string, k BuildKey) []byte {
	return record1("key", keyRecord{url.QueryEscape(key), k.Digest.String(), k.MediaType, k.Shareable, k.Created})
}

// DropKeyRecord returns the journal record that forgets a key.
func DropKeyRecord(key string) []byte { return record1("unkey", url.QueryEscape(key)) }

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
	n := &c.nodes[k.to]
	return BuildKey{Digest: n.key.hash(), MediaType: c.names[cmp.Or(k.media, n.media)], Shareable: k.shareable, Created: k.created}
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

// KeysOf returns the keys of a layer, sorted.
func (c *Catalog) KeysOf(h v1.Hash) []string {
	r, _ := c.listedRef(h)
	return sorted(c.keysOf[r])
}

func (c *Catalog) applyKey(k keyRecord) {
	r, ok := c.listedRef(parseHash(k.Digest))
	key, err := url.QueryUnescape(k.Key)
	if !ok || err != nil {
		c.skipped++
		return
	}
	c.setKey(key, buildKey{to: r, media: c.internName(k.MediaType), created: k.Created, shareable: k.Shareable})
}

func (c *Catalog) setKey(key string, k buildKey) {
	key = strings.Clone(key) // not the whole line that it stands on
	if was, ok := c.keys[key]; !ok || was.to != k.to {
		c.dropKey(key)
		c.keysOf[k.to] = append(c.keysOf[k.to], key)
	}
	c.keys[key] = k
}

func (c *Catalog) dropKey(key string) {
	if k, ok := c.keys[key]; ok {
		delete(c.keys, key)
		setOrDeleteList(c.keysOf, k.to, without(c.keysOf[k.to], key))
	}
}

func (c *Catalog) applyUnkey(escaped string) {
	key, err := url.QueryUnescape(escaped)
	if err != nil {
		c.skipped++
		return
	}
	c.dropKey(key)
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

// The lists of keys and pins are in no order, so that as many as there may be
// are each added at once. A clone has the same lists: what is added stands
// behind the end that it knows, and what goes makes a new list.

// without returns a list without s.
func without(list []string, s string) []string {
	i := slices.Index(list, s)
	if i < 0 {
		return list
	}
	return slices.Concat(list[:i], list[i+1:])
}

// sorted returns a sorted copy of a list.
func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
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
	for i, key := range sorted(c.keysOf[r]) {
		if i > 0 {
			b.WriteByte(',')
		}
		k := c.keys[key]
		if k.shareable {
			b.WriteString("shareable:")
		} else {
			b.WriteString("local:")
		}
		b.WriteString(strconv.FormatInt(k.created, 10) + ":" + url.QueryEscape(c.names[k.media]) + ":" + url.QueryEscape(key))
	}
	return b.String()
}

// decodeKeys reads what encodeKeys made, and leaves out what it cannot read.
func (c *Catalog) decodeKeys(r ref, s string) {
	for item := range strings.SplitSeq(s, ",") {
		parts := strings.Split(item, ":")
		if len(parts) != 4 {
			continue
		}
		created, nerr := strconv.ParseInt(parts[1], 10, 64)
		media, merr := url.QueryUnescape(parts[2])
		key, kerr := url.QueryUnescape(parts[3])
		if nerr == nil && merr == nil && kerr == nil {
			c.setKey(key, buildKey{to: r, media: c.internName(media), created: created, shareable: parts[0] == "shareable"})
		}
	}
}
