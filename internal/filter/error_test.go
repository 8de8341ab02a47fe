package filter_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ocicache/ocicache/internal/filter"
)

// column returns where an expression was refused, 0 if it was not.
func column(err error) int {
	var refused *filter.Error
	if !errors.As(err, &refused) {
		return 0
	}
	return refused.Column
}

func TestErrors(t *testing.T) {
	small := filter.Schema{
		"from": filter.KindString, "keys": filter.KindStrings, "size": filter.KindInt,
		"created": filter.KindTime, "pinned": filter.KindBool,
	}
	const (
		ofString = "one of == != ~= was expected"
		ofInt    = "one of == != < <= > >= was expected"
		anyField = "is no field: one of created, from, keys, pinned, size was expected"
		number   = "a number below 2^63, whole or with a unit as in 10MB or 1.5GiB, was expected"
		when     = "a time as in 2006-01-02T15:04:05Z or 2006-01-02, a duration as in 36h or 7d, or never was expected"
		escape   = `an escape of Go's was expected, as \\ is for a backslash`
	)
	for _, tt := range []struct {
		expr   string
		column int
		want   string
	}{
		{"size>>3", 6, "a value was expected"},
		{"size>", 6, "a value was expected"},
		{"size> ", 7, "a value was expected"},
		{"from===x", 7, "a value was expected"},
		{"from~=,id?=?fbaq", 7, "a value was expected"},
		{"from==\x00", 7, "a value was expected"},

		{"from=x", 5, ofString},
		{"from =~x", 6, ofString},
		{"from!x", 5, ofString},
		{"size=>3", 5, ofInt},
		{"size 3", 6, ofInt},
		{"pinned true", 8, "one of == != was expected"},
		{"from<x", 5, `"from" is a string: ` + ofString},
		{"keys >= x", 6, `"keys" is a list of strings: ` + ofString},
		{"size~=3", 5, `"size" is an integer: ` + ofInt},
		{"created~=3", 8, `"created" is a time: ` + ofInt},
		{"pinned>true", 7, `"pinned" is a bool: one of == != was expected`},

		{" ", 2, "a field was expected"},
		{"!pinned", 1, "a field was expected"},
		{"from==foo,", 11, "a field was expected"},
		{"from==foo,,size", 11, "a field was expected"},
		{"from.", 6, "a field was expected"},
		{"from. ", 7, "a field was expected"},
		{"from. keys", 1, `"from.keys" ` + anyField},
		{"from.|foo|==x", 6, "a field was expected"},
		{`from.?"foo"==x`, 6, "a field was expected"},
		{"größe>3", 1, `"größe" ` + anyField},
		{"pinned, last-used<3d", 9, `"last-used" ` + anyField},
		{"sise>3", 1, `"sise" ` + anyField},
		{"pinned, from.x==y", 9, `"from.x" ` + anyField},
		{`pinned,"a\nb"`, 8, `"a\nb" ` + anyField},
		{"sise from==x", 1, `"sise" ` + anyField},
		{"Size>3", 1, `"Size" ` + anyField},

		{"from.ns/key==value", 1, `"from.ns/key" ` + anyField},
		{"from/key==value", 5, ofString},
		{"from==/value", 7, "a value that begins with / was expected in double quotes"},
		{"from==|value|", 7, "a value that begins with | was expected in double quotes"},
		{"from~=/value", 7, "a closing / was expected"},
		{"from~=|value", 7, "a closing | was expected"},
		{`from=="value`, 7, `a closing " was expected`},
		{`from=="value\"`, 7, `a closing " was expected`},
		{"from==\"a\nb\"", 7, `a closing " was expected`},
		{`"from`, 1, `a closing " was expected`},
		{`from=="\`, 8, escape},
		{`from=="a\d"`, 9, escape},
		{`from~=/a\d/`, 9, escape},
		{`from~=/a\|/`, 9, escape},
		{`from=="\/"`, 8, escape},
		{`from=="\ud800"`, 8, escape},
		{`from=="a"b`, 10, "a comma or the end was expected"},
		{"from==a b", 9, "a comma or the end was expected"},
		{"from==a\x01", 8, "a comma or the end was expected"},

		{"from~=(a", 7, "a regular expression was expected: missing closing )"},
		{`pinned, from ~= "é\n["`, 17, "a regular expression was expected: missing closing ]"},
		{`from~="\xff"`, 7, "a regular expression was expected: invalid UTF-8"},
		{"size>3k", 6, number},
		{"size>ü,pinned", 6, number},
		{`from=="ü",size>x`, 16, number},
		{"created<24", 9, when},
		{"pinned==1", 9, "true or false was expected"},
		{"from==\xff", 7, "UTF-8 was expected"},
	} {
		_, err := small.Parse(now, "pinned", tt.expr)
		var got *filter.Error
		if !errors.As(err, &got) {
			t.Errorf("%q: got %v, want an Error", tt.expr, err)
			continue
		}
		if want := (filter.Error{Expr: tt.expr, Column: tt.column, Reason: tt.want}); *got != want {
			t.Errorf("got  %+v\nwant %+v", *got, want)
		}
	}
}

func TestErrorText(t *testing.T) {
	long := strings.Repeat("ü", 300)
	for _, tt := range []struct{ expr, want string }{
		{"size>>3", `filter "size>>3": column 6: a value was expected`},
		{"size\n>", `filter "size\n>": column 7: a value was expected`},
		{`from=="` + long, `filter "from==\"` + long[:2*193] + `"…: column 7: a closing " was expected`},
	} {
		_, err := schema.Parse(now, tt.expr)
		if err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

func TestBounds(t *testing.T) {
	const most = 64 << 10
	fill := func(head, with string) string {
		return head + strings.Repeat(with, (most-len(head))/len(with))
	}
	for _, expr := range []string{
		fill("from==", "x"), fill("pinned", ",pinned"), fill("from", " "), fill("from~=", "(a)"), fill("", "from,")[:most-2],
	} {
		if _, err := schema.Parse(now, expr); err != nil {
			t.Errorf("%d bytes: %.300v", len(expr), err)
		}
	}
	for _, expr := range []string{
		fill("from~=", "("), fill("from~=/", `\`), fill("size==", "9"), fill("lastused==", "9"), fill("", "x."),
		fill("lastused==", "1w"), fill("", `"`), fill("from~=", "(a{9}){999}"), strings.Repeat("\xff", most),
	} {
		if _, err := schema.Parse(now, expr); column(err) == 0 || len(err.Error()) > 2000 {
			t.Errorf("%.20q: got %.300v, want an Error", expr, err)
		}
	}
	_, err := schema.Parse(now, fill("from==", "x")+"x")
	if got, want := column(err), most+1; got != want {
		t.Errorf("too long: got %v, want an error in column %d", err, want)
	}
}

// A schema that is wrong does no harm.
func TestBadSchema(t *testing.T) {
	for _, s := range []filter.Schema{nil, {"a": 0}, {"a": 99}} {
		if _, err := s.Parse(now, "a==1"); column(err) == 0 {
			t.Errorf("%v: got %v, want an Error", s, err)
		}
	}
	f := parse(t, filter.Schema{"a": 0}, "a")
	if f.Match(entry{"a": filter.IntValue(1)}.field) || f.Match(entry{}.field) {
		t.Error("a field of no kind is present")
	}
}
