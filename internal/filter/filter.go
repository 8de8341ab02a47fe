// Package filter selects entries by expressions: containerd's filter language
// with kinds of fields, and with comparisons of numbers and times.
// It never does I/O, reads no clock and knows no entry: its caller says which
// fields there are, what each holds, and what time it is.
//
// # Language
//
//	filter    := "" | selector { "," selector }
//	selector  := path [ operator value ]
//	path      := part { "." part }
//	part      := [A-Za-z0-9_]+ | quoted
//	operator  := "==" | "!=" | "~=" | "<" | "<=" | ">" | ">="
//	value     := quoted | word, and after "~=" also |…| or /…/
//	quoted    := a Go string in double quotes
//	word      := visible characters other than a comma, of which the first is
//	             none of = ! ~ < > | / and no double quote
//
// On strings, what containerd takes is taken and matches the same, but that a
// word cannot begin with < or >. A filter matches what all of its selectors
// match; the empty one matches everything. White space may stand around whatever is named here. The
// parts of a path, unquoted, are joined by dots. In |…| and /…/ a backslash escapes
// as in a Go string, and escapes the delimiter, as in containerd; in a word it
// stands for itself. So these say the same:
//
//	from~=\.example\.com$
//	from~=/\\.example\\.com$/
//
// A path alone asks for presence: a bool that is true, a string or list that
// is not empty, a number or time that is not zero. With an operator, the
// field's kind decides which operators fit, and how the value reads:
//
//	string   == != ~=          text, or for ~= an RE2 regular expression, which
//	                           matches anywhere unless it is anchored
//	strings  == != ~=          the same; == and ~= ask for an element that
//	                           matches, != for none that is equal
//	integer  == != < <= > >=   4096, 10MB, 1.5GiB
//	time     == != < <= > >=   2006-01-02T15:04:05Z, 2006-01-02, 36h, 7d, never
//	bool     == !=             true or false
//
// The units of integers are B, kB, MB, GB and TB, which are powers of 1000,
// and KiB, MiB, GiB and TiB, which are powers of 1024 and may go without their
// B. Upper and lower case are the same. A plain 10k or 10G is refused, for
// people mean either by it. With a unit, a fraction is allowed; what is left
// of a byte is dropped.
//
// A date is the midnight in UTC that it begins with. A duration is Go's, and
// may begin with weeks and days (2w, 7d, 1w2d12h); it means that long ago, so
// that lastused<24h asks for what was not used for 24 hours. The zero time is
// never, and is before all others.
package filter

import "time"

// maxBytes is how long one expression may be.
const maxBytes = 64 << 10

// A Schema names the fields there are, and what kind of value each has. The
// name of a path with several parts has dots, as in "labels.a".
type Schema map[string]Kind

// A Filter matches entries. It does not change, so that it can be used from
// several goroutines. The zero Filter matches everything.
type Filter struct {
	any [][]selector // of each, all
}

// Parse returns what matches if any of the expressions does, and with none,
// everything. Durations count back from now.
//
// An expression that is malformed, names a field that s does not have, or has
// an operator or a value that does not fit its field, is an [*Error].
func (s Schema) Parse(now time.Time, exprs ...string) (*Filter, error) {
	f := new(Filter)
	for _, expr := range exprs {
		p := parser{schema: s, now: now.Round(0), expr: expr}
		all, err := p.parse()
		if err != nil {
			return nil, err
		}
		f.any = append(f.any, all)
	}
	return f, nil
}

// Match reports whether an entry matches, whose values fields returns. It is
// called only with names in the Schema, at most once for each selector.
func (f *Filter) Match(fields func(name string) Value) bool {
	for _, all := range f.any {
		if matchAll(all, fields) {
			return true
		}
	}
	return len(f.any) == 0
}

func matchAll(all []selector, fields func(name string) Value) bool {
	for _, s := range all {
		if !s.match(fields(s.field)) {
			return false
		}
	}
	return true
}
