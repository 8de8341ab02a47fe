package filter

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A parser reads one expression from left to right, once.
type parser struct {
	schema Schema
	now    time.Time
	expr   string
	pos    int // in bytes
}

// parse reads the expression.
func (p *parser) parse() (all []selector, err error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.expr == "" {
		return nil, nil
	}
	for {
		s, err := p.selector()
		if err != nil {
			return nil, err
		}
		all = append(all, s)
		p.skipSpace()
		if p.rest() == "" {
			return all, nil
		}
		if !p.accept(",") {
			return nil, p.fail(p.pos, "a comma or the end was expected")
		}
	}
}

// check refuses what no part of the language can have.
func (p *parser) check() error {
	if len(p.expr) > maxBytes {
		return p.fail(maxBytes, "at most %d bytes were expected", maxBytes)
	}
	for i, r := range p.expr {
		if r == utf8.RuneError && !strings.HasPrefix(p.expr[i:], "\uFFFD") {
			return p.fail(i, "UTF-8 was expected")
		}
	}
	return nil
}

func (p *parser) selector() (s selector, err error) {
	p.skipSpace()
	at := p.pos
	if s.field, err = p.path(); err != nil {
		return s, err
	}
	kind, known := p.schema[s.field]
	if !known {
		return s, p.unknown(at, s.field)
	}
	s.kind = kind
	p.skipSpace()
	if p.rest() == "" || p.rest()[0] == ',' {
		return s, nil
	}
	if s.op, err = p.operator(s); err != nil {
		return s, err
	}
	return s, p.operand(&s)
}

// unknown refuses the field, whose name may go on in ways that no path can,
// as in last-used.
func (p *parser) unknown(at int, field string) error {
	field += p.take(func(r rune) bool { return !unicode.IsSpace(r) && !strings.ContainsRune(",=!~<>", r) })
	fields := slices.Sorted(maps.Keys(p.schema))
	return p.fail(at, "%.64q is no field: one of %s was expected", field, strings.Join(fields, ", "))
}

// path reads a field's name.
func (p *parser) path() (string, error) {
	var parts []string
	for {
		part, err := p.part()
		if err != nil {
			return "", err
		}
		parts = append(parts, part)
		end := p.pos
		p.skipSpace()
		if !p.accept(".") {
			p.pos = end
			return strings.Join(parts, "."), nil
		}
		p.skipSpace()
	}
}

func (p *parser) part() (string, error) {
	if strings.HasPrefix(p.rest(), `"`) {
		return p.quoted()
	}
	part := p.take(func(r rune) bool {
		return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	})
	if part == "" {
		return "", p.fail(p.pos, "a field was expected")
	}
	return part, nil
}

// operator reads one that fits the field, with the space after it.
func (p *parser) operator(s selector) (operator, error) {
	at, fit := p.pos, fitting(s.kind)
	for _, op := range operators {
		if !p.accept(string(op)) {
			continue
		}
		if !slices.Contains(fit, op) {
			return "", p.fail(at, "%q is %s: one of %s was expected", s.field, s.kind, choice(fit))
		}
		p.skipSpace()
		return op, nil
	}
	return "", p.fail(at, "one of %s was expected", choice(fit))
}

// operand reads the value that the selector compares with.
func (p *parser) operand(s *selector) error {
	at := p.pos
	text, err := p.value(s.op)
	if err != nil {
		return err
	}
	if s.op == matches {
		if s.re, err = regexp.Compile(text); err != nil {
			return p.fail(at, "a regular expression was expected%s", reason(err))
		}
		return nil
	}
	want, expected := parseValue(s.kind, text, p.now)
	if expected != "" {
		return p.fail(at, "%s was expected", expected)
	}
	s.want = want
	return nil
}

// reason tells what is wrong with a regular expression without quoting it.
func reason(err error) string {
	var bad *syntax.Error
	if errors.As(err, &bad) {
		return ": " + bad.Code.String()
	}
	return ""
}

// value reads a word, or what is quoted as may follow the operator.
func (p *parser) value(op operator) (string, error) {
	if p.rest() != "" {
		switch c := p.rest()[0]; {
		case c == '"', op == matches && (c == '|' || c == '/'):
			return p.quoted()
		case c == '|' || c == '/':
			return "", p.fail(p.pos, "a value that begins with %c was expected in double quotes", c)
		case strings.IndexByte("=!~<>", c) >= 0:
			return "", p.fail(p.pos, "a value was expected")
		}
	}
	word := p.take(func(r rune) bool {
		return r != ',' && unicode.IsGraphic(r) && !unicode.IsSpace(r)
	})
	if word == "" {
		return "", p.fail(p.pos, "a value was expected")
	}
	return word, nil
}

// quoted reads to the delimiter that it is at, and returns what is between.
func (p *parser) quoted() (string, error) {
	at, delim := p.pos, p.rest()[:1]
	p.pos++
	var text []byte
	for !p.accept(delim) {
		if p.accept(`\` + delim) {
			text = append(text, delim...)
			continue
		}
		if p.rest() == "" || p.rest()[0] == '\n' {
			return "", p.fail(at, "a closing %s was expected", delim)
		}
		r, multibyte, tail, err := strconv.UnquoteChar(p.rest(), 0)
		if err != nil {
			return "", p.fail(p.pos, `an escape of Go's was expected, as \\ is for a backslash`)
		}
		if r < utf8.RuneSelf || !multibyte {
			text = append(text, byte(r))
		} else {
			text = utf8.AppendRune(text, r)
		}
		p.pos = len(p.expr) - len(tail)
	}
	return string(text), nil
}

func (p *parser) rest() string { return p.expr[p.pos:] }

// accept steps over the prefix, if it is next.
func (p *parser) accept(prefix string) bool {
	if !strings.HasPrefix(p.rest(), prefix) {
		return false
	}
	p.pos += len(prefix)
	return true
}

// take steps over the characters next that are in, and returns them.
func (p *parser) take(in func(rune) bool) string {
	taken := p.rest()
	if n := strings.IndexFunc(taken, func(r rune) bool { return !in(r) }); n >= 0 {
		taken = taken[:n]
	}
	p.pos += len(taken)
	return taken
}

func (p *parser) skipSpace() { p.take(unicode.IsSpace) }

func (p *parser) fail(pos int, format string, args ...any) error {
	return &Error{
		Expr:   p.expr,
		Column: utf8.RuneCountInString(p.expr[:pos]) + 1,
		Reason: fmt.Sprintf(format, args...),
	}
}
