package index

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache"
)

// ErrMalformed is returned by [Catalog.Decode] for what is not an OCI image
// index. The error says where.
var ErrMalformed = errors.New("malformed index")

// extra is what other tools added to a descriptor of ours. It is written
// back as it was.
type extra struct {
	fields map[string]json.RawMessage
	notes  map[string]string
}

// Decode reads an index.json into an empty catalog. Empty input is an empty
// index. It returns the value of [ocicache.AnnotationFolded].
//
// A descriptor that carries none of our annotations, or that cannot be an
// entry, is foreign: it is kept and written back byte for byte. Of two
// descriptors of one digest, the first is the entry; what others added to the
// second is kept, without our annotations.
func (c *Catalog) Decode(b []byte) (folded string, err error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return "", nil
	}
	if folded, ok := c.decodeLines(b); ok {
		return folded, nil
	}
	if len(b) > maxOther {
		return "", fmt.Errorf("%w: %d bytes in another form than this package writes, the limit is %d", ErrMalformed, len(b), maxOther)
	}
	*c = *New()
	return c.decodeJSON(b)
}

// maxOther bounds what is decoded of an index.json in another form than ours,
// in bytes: encoding/json takes four times as much memory.
const maxOther = 256 << 20

// decodeJSON reads an index.json in any form.
func (c *Catalog) decodeJSON(b []byte) (folded string, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	malformed := func(err error) error {
		offset := d.InputOffset()
		var syntax *json.SyntaxError
		if errors.As(json.Unmarshal(b, new(json.RawMessage)), &syntax) { // only this knows where
			offset, err = syntax.Offset-1, syntax
		}
		return fmt.Errorf("%w at %s: %w", ErrMalformed, position(b, offset), err)
	}
	if err := expect(d, json.Delim('{')); err != nil {
		return "", malformed(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", malformed(err)
		}
		switch name {
		case "manifests":
			err = c.decodeManifests(d)
		case "annotations":
			folded, err = c.decodeNotes(d)
		default:
			var raw json.RawMessage
			if err = d.Decode(&raw); err == nil {
				err = c.setTop(name.(string), raw)
			}
		}
		if err != nil {
			return "", malformed(err)
		}
	}
	if _, err := d.Token(); err != nil {
		return "", malformed(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", malformed(errors.New("more after the end of the index"))
	}
	return folded, nil
}

// position says where in b decoding stopped, as line and column, both from 1.
func position(b []byte, offset int64) string {
	before := b[:max(0, min(offset, int64(len(b))))]
	line := bytes.Count(before, []byte{'\n'}) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf("line %d, column %d", line, column)
}

func expect(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("%v instead of %v", t, want)
	}
	return nil
}

// setTop keeps a field of the index. schemaVersion and mediaType are checked,
// and written by Encode.
func (c *Catalog) setTop(name string, raw json.RawMessage) error {
	switch name {
	case "schemaVersion":
		if string(raw) != "2" {
			return fmt.Errorf("schemaVersion %.20s, want 2", raw)
		}
	case "mediaType": // index.json has just one; some tools leave it out
	default:
		if c.top == nil {
			c.top = map[string]json.RawMessage{}
		}
		var line bytes.Buffer // Encode writes it on the first line
		if err := json.Compact(&line, raw); err != nil {
			return err
		}
		c.top[name] = line.Bytes()
	}
	return nil
}

func (c *Catalog) decodeNotes(d *json.Decoder) (folded string, err error) {
	var notes map[string]string
	if err := d.Decode(&notes); err != nil {
		return "", err
	}
	folded = notes[ocicache.AnnotationFolded]
	delete(notes, ocicache.AnnotationFolded)
	c.notes = notes
	return folded, nil
}

func (c *Catalog) decodeManifests(d *json.Decoder) error {
	t, err := d.Token()
	if err != nil || t == nil {
		return err // "manifests": null is an empty list
	}
	if t != json.Delim('[') {
		return fmt.Errorf("manifests: %v instead of [", t)
	}
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return err
		}
		if !c.decodeDescriptor(raw) {
			c.foreign = append(c.foreign, raw)
		}
	}
	_, err = d.Token()
	return err
}

// decodeDescriptor reads a descriptor of ours. It reports false for one that
// is to be kept as it stands.
func (c *Catalog) decodeDescriptor(raw json.RawMessage) bool {
	if !bytes.Contains(raw, []byte(ocicache.AnnotationPrefix)) {
		return false
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return false
	}
	e, m, x, err := parseDescriptor(fields)
	if err != nil {
		return false
	}
	if _, exists := c.Get(e.Digest); exists {
		c.keepSecond(e, x)
		return true
	}
	if !c.put(e) {
		return false
	}
	c.mark(e.Digest, m)
	if x != nil {
		k, _ := makeKey(e.Digest)
		c.extras[c.byKey[k]] = x
	}
	return true
}

// keepSecond keeps what others wrote on a second descriptor of a digest. Our
// annotations come off it, so that it is never taken for the entry.
func (c *Catalog) keepSecond(e Entry, x *extra) {
	if x == nil {
		return
	}
	maps.DeleteFunc(x.notes, func(key, _ string) bool { return isOurs(key) })
	if len(x.fields) == 0 && len(x.notes) == 0 {
		return
	}
	fields := map[string]any{"mediaType": e.MediaType, "size": e.Size, "digest": e.Digest, "annotations": x.notes}
	for name, raw := range x.fields {
		fields[name] = raw
	}
	if raw, err := json.Marshal(fields); err == nil { // what was decoded cannot fail
		c.foreign = append(c.foreign, raw)
	}
}

// parseDescriptor takes a descriptor of ours apart.
func parseDescriptor(fields map[string]json.RawMessage) (e Entry, m marks, x *extra, err error) {
	var notes map[string]string
	for name, to := range map[string]any{"mediaType": &e.MediaType, "size": &e.Size, "digest": &e.Digest, "annotations": &notes} {
		if err := json.Unmarshal(fields[name], to); err != nil {
			return Entry{}, marks{}, nil, err
		}
		if string(fields[name]) == "null" {
			return Entry{}, marks{}, nil, fmt.Errorf("%s: null", name)
		}
		delete(fields, name)
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(notes)), isOurs) {
		return Entry{}, marks{}, nil, errors.New("no annotation of ours")
	}
	if m, err = e.annotate(notes); err != nil {
		return Entry{}, marks{}, nil, err
	}
	if len(fields) == 0 && len(notes) == 0 {
		return e, m, nil, nil
	}
	return e, m, &extra{fields: fields, notes: notes}, nil
}

func isOurs(key string) bool { return strings.HasPrefix(key, ocicache.AnnotationPrefix) }

// annotate sets what our annotations say, and takes them out of notes.
func (e *Entry) annotate(notes map[string]string) (m marks, err error) {
	take := func(key string) (value string, ok bool) {
		value, ok = notes[key]
		delete(notes, key)
		return value, ok
	}
	number := func(key string) int64 {
		s, ok := take(key)
		if !ok {
			return 0
		}
		n, perr := strconv.ParseInt(s, 10, 64)
		if perr != nil {
			err = perr
		}
		return n
	}
	hash := func(s string) v1.Hash {
		h, perr := v1.NewHash(s)
		if perr != nil {
			err = perr
		}
		return h
	}
	if s, ok := take(ocicache.AnnotationDigest); ok {
		e.Tar = true
		if s != "" {
			e.Variant = hash(s)
		}
	}
	pair, _ := take(ocicache.AnnotationPair)
	if s, ok := take(ocicache.AnnotationDiffID); ok {
		e.DiffID = hash(s)
		e.Pair = parsePair(pair)
	}
	e.Codec, _ = take(ocicache.AnnotationCodec)
	e.Unsynced, _ = take(ocicache.AnnotationUnsynced)
	e.Origin, _ = take(ocicache.AnnotationOrigin)
	m.used, _ = take(ocicache.AnnotationUsed)
	m.keys, _ = take(ocicache.AnnotationKeys)
	m.pins, _ = take(ocicache.AnnotationPins)
	e.Created = number(ocicache.AnnotationCreated)
	e.ModTime = number(ocicache.AnnotationModTime)
	return m, err
}

func parsePair(s string) Pair {
	switch s {
	case ocicache.PairVerified:
		return Verified
	case ocicache.PairRefuted:
		return Refuted
	}
	return Claimed
}
