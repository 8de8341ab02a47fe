package index

import (
	"bufio"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocicache/ocicache"
)

// Encode writes the catalog as an index.json that says it holds the journal
// up to folded. The first line ends where the list of descriptors begins;
// each descriptor has a line of its own, other tools' first.
func (c *Catalog) Encode(w io.Writer, folded string) error {
	bw := bufio.NewWriterSize(w, 64<<10)
	bw.Write(c.head(folded))
	sep := "\n"
	for _, raw := range c.foreign {
		bw.WriteString(sep)
		bw.Write(raw)
		sep = ",\n"
	}
	var line []byte
	for i := range c.nodes {
		if !c.nodes[i].listed {
			continue
		}
		line = appendDescriptor(line[:0], c.entry(ref(i)), c.marks(ref(i)), c.extras[ref(i)])
		bw.WriteString(sep)
		bw.Write(line)
		sep = ",\n"
	}
	bw.WriteString("\n]}\n")
	return bw.Flush()
}

func (c *Catalog) head(folded string) []byte {
	b := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","annotations":{"` + ocicache.AnnotationFolded + `":`)
	b = appendString(b, folded)
	b = appendNotes(b, c.notes)
	b = append(b, '}')
	b = appendFields(b, c.top)
	return append(b, `,"manifests":[`...)
}

// appendNotes appends annotations of other tools, each after a comma.
func appendNotes(b []byte, notes map[string]string) []byte {
	for _, key := range slices.Sorted(maps.Keys(notes)) {
		b = append(b, ',')
		b = appendString(b, key)
		b = append(b, ':')
		b = appendString(b, notes[key])
	}
	return b
}

// appendFields appends fields of other tools, each after a comma.
func appendFields(b []byte, fields map[string]json.RawMessage) []byte {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		b = append(b, ',')
		b = appendString(b, name)
		b = append(b, ':')
		b = append(b, fields[name]...)
	}
	return b
}

// PutRecord returns the journal record that makes e the entry of its digest.
func PutRecord(e Entry) []byte {
	b := append(make([]byte, 0, 512), `{"put":`...)
	b = appendDescriptor(b, e, marks{}, nil)
	return append(b, '}')
}

// DeleteRecord returns the journal record that forgets a hash: its entry,
// and every pair that it is in.
func DeleteRecord(h v1.Hash) []byte {
	return []byte(`{"delete":"` + h.String() + `"}`)
}

// DropRecord returns the journal record that forgets an entry. Pairs in which
// its digest is the diffID stay.
func DropRecord(h v1.Hash) []byte {
	return []byte(`{"drop":"` + h.String() + `"}`)
}

// ListRecord returns the journal record that adds a descriptor which is none
// of ours, as [Catalog.Decode] keeps them.
func ListRecord(mediaType string, size int64, h v1.Hash) []byte {
	b := append(make([]byte, 0, 256), `{"list":`...)
	b = appendHead(b, mediaType, size, h)
	return append(b, "}}"...)
}

// marks is what hangs on an entry, and is not said by a put: as the
// annotations have it.
type marks struct{ used, keys, pins string }

func (c *Catalog) marks(r ref) (m marks) {
	if u := c.nodes[r].use; u != (Use{}) {
		m.used = u.String()
	}
	m.keys, m.pins = c.encodeKeys(r), c.encodePins(r)
	return m
}

// mark is the reverse of marks.
func (c *Catalog) mark(h v1.Hash, m marks) {
	if m == (marks{}) {
		return
	}
	r, _ := c.listedRef(h)
	c.addUse(r, parseUse(m.used))
	if m.keys != "" {
		c.decodeKeys(r, m.keys)
	}
	if m.pins != "" {
		c.decodePins(r, m.pins)
	}
}

// appendDescriptor appends e as a descriptor, with what hangs on it and what
// other tools added.
func appendDescriptor(b []byte, e Entry, m marks, x *extra) []byte {
	b = appendHead(b, e.MediaType, e.Size, e.Digest)
	b = append(b, `,"annotations":{`...)

	start := len(b)
	note := func(key string) {
		if len(b) > start {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, key...)
		b = append(b, `":`...)
	}
	number := func(key string, n int64) {
		if n == 0 {
			return
		}
		note(key)
		b = append(b, '"')
		b = strconv.AppendInt(b, n, 10)
		b = append(b, '"')
	}
	if e.Pair != Unknown {
		note(ocicache.AnnotationDiffID)
		b = appendHash(b, e.DiffID)
	}
	if e.Tar {
		note(ocicache.AnnotationDigest)
		b = appendHash(b, e.Variant)
	}
	if e.Pair != Unknown {
		note(ocicache.AnnotationPair)
		b = appendString(b, e.Pair.String())
	}
	text := func(key, value string) {
		if value != "" {
			note(key)
			b = appendString(b, value)
		}
	}
	text(ocicache.AnnotationCodec, e.Codec)
	number(ocicache.AnnotationCreated, max(e.Created, 1)) // always there: it makes the descriptor ours
	number(ocicache.AnnotationModTime, e.ModTime)
	text(ocicache.AnnotationUnsynced, e.Unsynced)
	text(ocicache.AnnotationOrigin, e.Origin)
	text(ocicache.AnnotationUsed, m.used)
	text(ocicache.AnnotationKeys, m.keys)
	text(ocicache.AnnotationPins, m.pins)
	if x == nil {
		return append(b, "}}"...)
	}
	b = appendNotes(b, x.notes)
	b = append(b, '}')
	b = appendFields(b, x.fields)
	return append(b, '}')
}

// appendHead appends the beginning of a descriptor.
func appendHead(b []byte, mediaType string, size int64, h v1.Hash) []byte {
	b = append(b, `{"mediaType":`...)
	b = appendString(b, mediaType)
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, size, 10)
	b = append(b, `,"digest":`...)
	return appendHash(b, h)
}

func appendHash(b []byte, h v1.Hash) []byte {
	b = append(b, '"')
	if h.Hex != "" {
		b = append(b, h.Algorithm...)
		b = append(b, ':')
		b = append(b, h.Hex...)
	}
	return append(b, '"')
}

// appendString appends a JSON string.
func appendString(b []byte, s string) []byte {
	for _, c := range []byte(s) {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string cannot fail
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
