package filter

import (
	"cmp"
	"strings"
	"time"
)

// A Kind is what a field holds.
type Kind int

// The kinds. The zero Kind is that of no field.
const (
	KindString  Kind = iota + 1
	KindStrings      // a list, in any order
	KindInt          // bytes or a count
	KindTime
	KindBool
)

// String returns the kind's name with its article, as error messages have it.
func (k Kind) String() string {
	switch k {
	case KindString:
		return "a string"
	case KindStrings:
		return "a list of strings"
	case KindInt:
		return "an integer"
	case KindTime:
		return "a time"
	case KindBool:
		return "a bool"
	}
	return "of no kind"
}

// A Value is what a field of an entry holds. The zero Value says that the
// entry does not have the field, as does one of a kind that is not the
// field's. Such a field is not present, and of the operators only != is true
// of it; but to != and ~= a string that is not there is empty, as in
// containerd.
type Value struct {
	kind Kind
	text string
	list []string
	n    int64 // of a bool, 0 or 1
	time time.Time
}

// StringValue returns the value of a [KindString] field.
func StringValue(s string) Value { return Value{kind: KindString, text: s} }

// StringsValue returns the value of a [KindStrings] field. It keeps list.
func StringsValue(list ...string) Value { return Value{kind: KindStrings, list: list} }

// IntValue returns the value of a [KindInt] field.
func IntValue(n int64) Value { return Value{kind: KindInt, n: n} }

// TimeValue returns the value of a [KindTime] field. The zero time is never.
func TimeValue(t time.Time) Value { return Value{kind: KindTime, time: t} }

// BoolValue returns the value of a [KindBool] field.
func BoolValue(b bool) Value {
	v := Value{kind: KindBool}
	if b {
		v.n = 1
	}
	return v
}

// present reports what a path alone asks for.
func (v Value) present() bool {
	return v.text != "" || len(v.list) > 0 || v.n != 0 || v.kind == KindTime && !v.time.IsZero()
}

// compare returns how v is ordered against w, as [cmp.Compare] does. Both are
// of one kind, which is not KindStrings.
func (v Value) compare(w Value) int {
	switch v.kind {
	case KindString:
		return strings.Compare(v.text, w.text)
	case KindTime:
		return compareTimes(v.time, w.time)
	}
	return cmp.Compare(v.n, w.n)
}

// compareTimes orders never before all times, those of the year 0 too.
func compareTimes(t, u time.Time) int {
	switch {
	case t.IsZero() && u.IsZero():
		return 0
	case t.IsZero():
		return -1
	case u.IsZero():
		return 1
	}
	return t.Compare(u)
}
