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
	head, err := c.head(folded)
	if err != nil {
		return err
	}
	bw.Write(head)
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
		line, err = appendDescriptor(line[:0], c.entry(ref(i)), c.extras[ref(i)])
		if err != nil {
			return err
		}
		bw.WriteString(sep)
		bw.Write(line)
		sep = ",\n"
	}
	bw.WriteString("\n]}\n")
	return bw.Flush()
}

func (c *Catalog) head(folded string) ([]byte, error) {
	notes := maps.Clone(c.notes)
	if notes == nil {
		notes = map[string]string{}
	}
	notes[ocicache.AnnotationFolded] = folded
	annotations, err := json.Marshal(notes)
	if err != nil {
		return nil, err
	}
	b := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","annotations":`)
	b = append(b, annotations...)
	if b, err = appendFields(b, c.top); err != nil {
		return nil, err
	}
	return append(b, `,"manifests":[`...), nil
}

// appendFields appends fields of other tools, each after a comma.
func appendFields(b []byte, fields map[string]json.RawMessage) ([]byte, error) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		b = append(b, ',')
		b = append(b, key...)
		b = append(b, ':')
		b = append(b, fields[name]...)
	}
	return b, nil
}

// PutRecord returns the journal record that makes e the entry of its digest.
func PutRecord(e Entry) []byte {
	b := append(make([]byte, 0, 512), `{"put":`...)
	b, err := appendDescriptor(b, e, nil)
	if err != nil {
		panic(err) // only other tools' fields can fail, and there are none
	}
	return append(b, '}')
}

// DeleteRecord returns the journal record that forgets a hash: its entry,
// and every pair that it is in.
func DeleteRecord(h v1.Hash) []byte {
	return []byte(`{"delete":"` + h.String() + `"}`)
}

// appendDescriptor appends e as a descriptor, with what other tools added.
func appendDescriptor(b []byte, e Entry, x *extra) ([]byte, error) {
	b = append(b, `{"mediaType":`...)
	b = appendString(b, e.MediaType)
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, e.Size, 10)
	b = append(b, `,"digest":`...)
	b = appendHash(b, e.Digest)
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
		b = appendString(b, [...]string{Claimed: ocicache.PairClaimed, Verified: ocicache.PairVerified, Refuted: ocicache.PairRefuted}[e.Pair])
	}
	if e.Codec != "" {
		note(ocicache.AnnotationCodec)
		b = appendString(b, e.Codec)
	}
	number(ocicache.AnnotationCreated, max(e.Created, 1)) // always there: it makes the descriptor ours
	number(ocicache.AnnotationModTime, e.ModTime)
	if e.Unsynced != "" {
		note(ocicache.AnnotationUnsynced)
		b = appendString(b, e.Unsynced)
	}
	if x == nil {
		return append(b, "}}"...), nil
	}
	for _, key := range slices.Sorted(maps.Keys(x.notes)) {
		b = append(b, ',')
		b = appendString(b, key)
		b = append(b, ':')
		b = appendString(b, x.notes[key])
	}
	b = append(b, '}')
	b, err := appendFields(b, x.fields)
	return append(b, '}'), err
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
