package index

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache"
)

// What Encode and PutRecord write is read here, several times faster than by
// encoding/json. The reading is strict: what differs in a byte from what they
// would have written is left to encoding/json, so that both ways come to the
// same.

const (
	listBegin = `,"manifests":[`
	listEnd   = "]}\n"
)

// decodeLines reads an index.json that Encode wrote: a first line that ends
// where the list begins, and a descriptor a line. It reports false for
// another form, and may then have read some of it.
func (c *Catalog) decodeLines(b []byte) (folded string, ok bool) {
	head, body, _ := bytes.Cut(bytes.TrimLeft(b, "\n"), []byte{'\n'}) // package layout may put an empty line first
	body, ok = bytes.CutSuffix(body, []byte(listEnd))
	if !ok || !bytes.HasSuffix(head, []byte(listBegin)) {
		return "", false
	}
	// The list and the index end on the last line, so what the first line
	// leaves open is just these.
	folded, err := c.decodeJSON(slices.Concat(head, []byte(listEnd)))
	if err != nil {
		return "", false
	}
	n := bytes.Count(body, []byte{'\n'})
	c.nodes = slices.Grow(c.nodes, n)
	for len(body) > 0 {
		var line []byte
		if line, body, ok = bytes.Cut(body, []byte{'\n'}); !ok {
			return "", false
		}
		if len(body) > 0 {
			if line, ok = bytes.CutSuffix(line, []byte{','}); !ok {
				return "", false
			}
		}
		if !c.decodeLine(line) {
			return "", false
		}
	}
	return folded, true
}

// decodeLine reads the descriptor on a line. It reports false if the line is
// no JSON value.
func (c *Catalog) decodeLine(line []byte) bool {
	s := scanner{rest: string(line)}
	if e, m := s.descriptor(); !s.failed && s.rest == "" {
		if _, exists := c.Get(e.Digest); exists {
			return true
		}
		if c.put(e) {
			c.mark(e.Digest, m)
			return true
		}
	}
	if !json.Valid(line) {
		return false
	}
	raw := slices.Clone(bytes.Trim(line, " \t\r"))
	if !c.decodeDescriptor(raw) {
		c.foreign = append(c.foreign, raw)
	}
	return true
}

// applyLine applies a record that PutRecord made, numbered or not. It reports
// false for another form.
func (c *Catalog) applyLine(line []byte) bool {
	s := scanner{rest: string(line)}
	s.want("{")
	if s.skip(`"n":`) {
		s.number()
		s.want(",")
	}
	s.want(`"put":`)
	e, _ := s.descriptor()
	s.want("}")
	return !s.failed && s.rest == "" && c.put(e)
}

// A scanner reads what appendDescriptor writes. Once it has failed, what it
// returns means nothing.
type scanner struct {
	rest   string
	failed bool
}

// descriptor reads a descriptor that others added nothing to.
func (s *scanner) descriptor() (e Entry, m marks) {
	s.want(`{"mediaType":`)
	e.MediaType = s.text()
	s.want(`,"size":`)
	e.Size = s.number()
	s.want(`,"digest":`)
	e.Digest = parseHash(s.text()) // put checks it
	s.want(`,"annotations":{`)
	before := s.rest
	if s.note(before, ocicache.AnnotationDiffID) {
		e.DiffID, e.Pair = s.hash(), Claimed
	}
	if s.note(before, ocicache.AnnotationDigest) {
		e.Tar = true
		if !s.skip(`""`) {
			e.Variant = s.hash()
		}
	}
	if e.Pair == Claimed && s.note(before, ocicache.AnnotationPair) {
		e.Pair = parsePair(s.text())
	}
	if s.note(before, ocicache.AnnotationCodec) {
		e.Codec = strings.Clone(s.text())
	}
	if s.note(before, ocicache.AnnotationCreated) {
		e.Created = s.quotedNumber()
	}
	if s.note(before, ocicache.AnnotationModTime) {
		e.ModTime = s.quotedNumber()
	}
	if s.note(before, ocicache.AnnotationUnsynced) {
		e.Unsynced = strings.Clone(s.text())
	}
	if s.note(before, ocicache.AnnotationOrigin) {
		e.Origin = s.text()
	}
	if s.note(before, ocicache.AnnotationUsed) {
		m.used = s.text()
	}
	if s.note(before, ocicache.AnnotationKeys) {
		m.keys = s.text()
	}
	if s.note(before, ocicache.AnnotationPins) {
		m.pins = s.text()
	}
	if s.rest == before {
		s.failed = true // none of ours
	}
	s.want("}}")
	return e, m
}

// note reads an annotation's key, if it is the next.
func (s *scanner) note(before, key string) bool {
	rest := s.rest
	if rest != before && !s.skip(",") || !s.skip(`"`) || !s.skip(key) || !s.skip(`":`) {
		s.rest = rest
		return false
	}
	return true
}

func (s *scanner) skip(prefix string) (ok bool) {
	s.rest, ok = strings.CutPrefix(s.rest, prefix)
	return ok
}

func (s *scanner) want(prefix string) {
	if !s.skip(prefix) {
		s.failed = true
	}
}

// text reads a string without escapes, of printable ASCII.
func (s *scanner) text() string {
	s.want(`"`)
	for i := range len(s.rest) {
		switch c := s.rest[i]; {
		case c == '"':
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			return text
		case c < ' ', c >= 0x7f, c == '\\':
			s.failed = true
			return ""
		}
	}
	s.failed = true
	return ""
}

// number reads a number that is not negative.
func (s *scanner) number() (n int64) {
	i := 0
	for ; i < len(s.rest) && '0' <= s.rest[i] && s.rest[i] <= '9'; i++ {
		n = 10*n + int64(s.rest[i]-'0')
	}
	// Of 19 digits, what overflows is negative.
	if i == 0 || i > 19 || n < 0 || i > 1 && s.rest[0] == '0' {
		s.failed = true
	}
	s.rest = s.rest[i:]
	return n
}

func (s *scanner) quotedNumber() int64 {
	s.want(`"`)
	n := s.number()
	s.want(`"`)
	return n
}

func parseHash(s string) (h v1.Hash) {
	h.Algorithm, h.Hex, _ = strings.Cut(s, ":")
	return h
}

func (s *scanner) hash() v1.Hash {
	h := parseHash(s.text())
	if _, ok := makeKey(h); !ok {
		s.failed = true
	}
	return h
}
