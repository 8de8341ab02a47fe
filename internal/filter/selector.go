package filter

import (
	"regexp"
	"slices"
	"strings"
)

// A selector is one condition on one field.
type selector struct {
	field string
	kind  Kind
	op    operator
	want  Value          // unless op is present or matches
	re    *regexp.Regexp // if op is matches
}

// match reports whether v, a value of the selector's field, meets it.
func (s *selector) match(v Value) bool {
	if v.kind != s.kind {
		v = Value{}
	}
	switch {
	case s.op == present:
		return v.present()
	case s.op == matches && s.kind == KindStrings:
		return slices.ContainsFunc(v.list, s.re.MatchString)
	case s.op == matches:
		return s.re.MatchString(v.text)
	case v.kind == 0:
		return s.op == notEqual && (s.kind != KindString || s.want.text != "")
	case s.kind == KindStrings:
		return slices.Contains(v.list, s.want.text) == (s.op == equal)
	}
	return s.op.holds(v.compare(s.want))
}

// An operator is spelled as in expressions.
type operator string

const (
	present        operator = ""
	equal          operator = "=="
	notEqual       operator = "!="
	matches        operator = "~="
	less           operator = "<"
	lessOrEqual    operator = "<="
	greater        operator = ">"
	greaterOrEqual operator = ">="
)

// operators has none after one that it begins with.
var operators = []operator{equal, notEqual, matches, lessOrEqual, less, greaterOrEqual, greater}

// fitting returns the operators that a field of the kind can have.
func fitting(k Kind) []operator {
	switch k {
	case KindString, KindStrings:
		return []operator{equal, notEqual, matches}
	case KindInt, KindTime:
		return []operator{equal, notEqual, less, lessOrEqual, greater, greaterOrEqual}
	case KindBool:
		return []operator{equal, notEqual}
	}
	return nil
}

// holds reports whether the operator, which compares, is true of two values
// whose order is c.
func (op operator) holds(c int) bool {
	switch op {
	case equal:
		return c == 0
	case notEqual:
		return c != 0
	case less:
		return c < 0
	case lessOrEqual:
		return c <= 0
	case greater:
		return c > 0
	}
	return c >= 0
}

// choice lists operators to choose from.
func choice(ops []operator) string {
	words := make([]string, len(ops))
	for i, op := range ops {
		words[i] = string(op)
	}
	return strings.Join(words, " ")
}
