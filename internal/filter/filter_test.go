package filter_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocicache/ocicache/internal/filter"
)

// now is what the clock says in all tests.
var now = time.Date(2024, 3, 15, 12, 0, 0, 0, time.UTC)

// An entry is what tests match. What it does not name, it does not have.
type entry map[string]filter.Value

func (e entry) field(name string) filter.Value { return e[name] }

func parse(t testing.TB, s filter.Schema, exprs ...string) *filter.Filter {
	t.Helper()
	f, err := s.Parse(now, exprs...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// labelled is the schema of containerd's tests; its labels have names.
var labelled = filter.Schema{
	"name": filter.KindString, "other": filter.KindString,
	"labels.foo": filter.KindString, "labels.bar": filter.KindString,
	"labels.more complex label":                        filter.KindString,
	`labels.more complex label with \ and "`:           filter.KindString,
	`labels.more complex label with \ and ".post`:      filter.KindString,
	"labels.containerd.io/gc.root":                     filter.KindString,
	"labels.containerd.io/distribution.source.ghcr-io": filter.KindString,
}

// corpus is shaped after that of containerd's pkg/filters/filter_test.go,
// whose cases TestContainerd has equivalents of.
var corpus = []map[string]string{
	0: {"name": "foo", "labels.foo": "true"},
	1: {"name": "bar"},
	2: {"name": "foo", "labels.foo": "present", "labels.more complex label": "present"},
	3: {"name": "bar", "labels.bar": "true"},
	4: {"name": "fooer", `labels.more complex label with \ and "`: "present"},
	5: {"name": "fooer", `labels.more complex label with \ and ".post`: "present"},
	6: {"name": "baz", "other": "too complex, yo"},
	7: {"name": "bazo", "other": "abc"},
	8: {"name": "compound", "labels.foo": "omg_asdf.asdf-qwer"},
}

func TestContainerd(t *testing.T) {
	all := []int{0, 1, 2, 3, 4, 5, 6, 7, 8}
	for _, tt := range []struct {
		expr string
		want []int
	}{
		{"", all},
		{"name", all},
		{"labels.foo", []int{0, 2, 8}},
		{"labels.foo,name", []int{0, 2, 8}},
		{"labels.foo==true", []int{0}},
		{"labels.foo==omg_asdf.asdf-qwer", []int{8}},
		{"name==bar", []int{1, 3}},
		{"name!=bar", []int{0, 2, 4, 5, 6, 7, 8}},
		{"name==bar,labels.bar", []int{3}},
		{"name==bar,labels.bar==true", []int{3}},
		{"name==bar,labels.bar==wrong", nil},
		{`other=="too complex, yo"`, []int{6}},
		{"other~=[abc]+,name!=foo", []int{6, 7}},
		{"other~=/[abc]+/,name!=foo", []int{6, 7}},
		{"other~=|[abc]+|,name!=foo", []int{6, 7}},
		{`other~="[abc]+",name!=foo`, []int{6, 7}},
		{"other~=/[abc]{1,2}/,name!=foo", []int{6, 7}},
		{`other~=/[abc]{0,1}"\//,name!=foo`, nil},
		{`name==foo,labels."more complex label"`, []int{2}},
		{`labels."more complex label with \\ and \""==present`, []int{4}},
		{`labels."more complex label with \\ and \"".post==present`, []int{5}},

		// What an entry does not have is no empty string, but read as one.
		{"labels.foo!=true", []int{1, 2, 3, 4, 5, 6, 7, 8}},
		{`labels.foo==""`, nil},
		{`labels.foo!=""`, []int{0, 2, 8}},
		{"labels.foo~=^$", []int{1, 3, 4, 5, 6, 7}},
		{"labels.foo~=.*", all},

		{"name==foo , labels.foo == true ", []int{0}},
		{"\tname\n==\nfoo", []int{0, 2}},
		{`"name"=="\x66\u006fo"`, []int{0, 2}},
		{" labels . foo ", []int{0, 2, 8}},
		{`labels."foo"`, []int{0, 2, 8}},
		{`"labels.foo"`, []int{0, 2, 8}},
		{`name~=|\\\|/"|`, nil},
		{`name~=^.{3}$`, []int{0, 1, 2, 3, 6}},
		{`name~=ba\w$`, []int{1, 3, 6}},
		{`name~=/ba\\w$/`, []int{1, 3, 6}},
		{"name==f=!~<>o|/\"", nil},
	} {
		f := parse(t, labelled, tt.expr)
		var got []int
		for i, object := range corpus {
			if f.Match(func(name string) (v filter.Value) {
				if s, ok := object[name]; ok {
					v = filter.StringValue(s)
				}
				return v
			}) {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.expr, got, tt.want)
		}
	}
}

var schema = filter.Schema{
	"from": filter.KindString, "keys": filter.KindStrings,
	"size": filter.KindInt, "uses": filter.KindInt,
	"created": filter.KindTime, "lastused": filter.KindTime,
	"pinned": filter.KindBool, "present": filter.KindBool,
}

// full has every field, blank has them all empty.
var (
	full = entry{
		"from": filter.StringValue("ghcr.io/a/b"), "keys": filter.StringsValue("go", "main"),
		"size": filter.IntValue(10000), "uses": filter.IntValue(3),
		"created":  filter.TimeValue(time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)),
		"lastused": filter.TimeValue(now.Add(-24 * time.Hour)),
		"pinned":   filter.BoolValue(true), "present": filter.BoolValue(true),
	}
	blank = entry{
		"from": filter.StringValue(""), "keys": filter.StringsValue(),
		"size": filter.IntValue(0), "uses": filter.IntValue(0),
		"created": filter.TimeValue(time.Time{}), "lastused": filter.TimeValue(time.Time{}),
		"pinned": filter.BoolValue(false), "present": filter.BoolValue(false),
	}
	// wrong has values of kinds that are not the fields'.
	wrong = entry{
		"from": filter.IntValue(1), "keys": filter.StringValue("go"),
		"size": filter.TimeValue(now), "uses": filter.BoolValue(true),
		"created": filter.IntValue(1), "lastused": filter.StringValue("never"),
		"pinned": filter.StringValue("true"), "present": filter.IntValue(1),
	}
	samples = []entry{full, blank, {}, wrong}
)

// An entry without a field, and one that has it in another kind, match alike.
func TestKinds(t *testing.T) {
	for _, tt := range []struct {
		expr                string
		full, blank, absent bool
	}{
		{"from", true, false, false},
		{"from==ghcr.io/a/b", true, false, false},
		{"from!=ghcr.io/a/b", false, true, true},
		{`from==""`, false, true, false},
		{`from!=""`, true, false, false},
		{`from~=^ghcr\.io/`, true, false, false},
		{"from~=^$", false, true, true},

		{"keys", true, false, false},
		{"keys==main", true, false, false},
		{"keys==ma", false, false, false},
		{"keys!=main", false, true, true},
		{"keys!=ma", true, true, true},
		{"keys~=^ma", true, false, false},
		{"keys~=.*", true, false, false},

		{"size", true, false, false},
		{"size==10000", true, false, false},
		{"size==10kB", true, false, false},
		{"size!=10kB", false, true, true},
		{"size>9999", true, false, false},
		{"size>10kB", false, false, false},
		{"size>=10kB", true, false, false},
		{"size<10kB", false, true, false},
		{"size<=10kB", true, true, false},
		{"size>1,size<1MB,uses>=3", true, false, false},
		{"size>1,size<1MB,uses>3", false, false, false},

		{"lastused", true, false, false},
		{"lastused<24h", false, true, false},
		{"lastused<=24h", true, true, false},
		{"lastused<23h59m", true, true, false},
		{"lastused>24h", false, false, false},
		{"lastused>=1d", true, false, false},
		{"lastused==1d", true, false, false},
		{"lastused!=1d", false, true, true},
		{"lastused==never", false, true, false},
		{"lastused!=never", true, false, true},
		{"lastused>never", true, false, false},
		{"lastused<never", false, false, false},
		{"lastused<0000-01-01", false, true, false},
		{"created>=2024-03-01,created<2024-03-02", true, false, false},
		{"created==2024-03-01T02:00:00+02:00", true, false, false},
		{"created>2w", false, false, false},
		{"created>2w1d", true, false, false},

		{"pinned", true, false, false},
		{"pinned==true", true, false, false},
		{"pinned!=true", false, true, true},
		{"pinned==false", false, true, false},
		{"pinned!=false", true, false, true},
	} {
		f := parse(t, schema, tt.expr)
		for i, want := range []bool{tt.full, tt.blank, tt.absent, tt.absent} {
			if got := f.Match(samples[i].field); got != want {
				t.Errorf("%s: entry %d: got %t, want %t", tt.expr, i, got, want)
			}
		}
	}
}

func TestAny(t *testing.T) {
	for _, tt := range []struct {
		exprs []string
		want  bool
	}{
		{nil, true},
		{[]string{""}, true},
		{[]string{"uses>9", ""}, true},
		{[]string{"uses>9", "size>9"}, true},
		{[]string{"size>9", "uses>9"}, true},
		{[]string{"uses>9", "size<9"}, false},
		{[]string{"pinned,uses>9", "size<9"}, false},
	} {
		if got := parse(t, schema, tt.exprs...).Match(full.field); got != tt.want {
			t.Errorf("%q: got %t, want %t", tt.exprs, got, tt.want)
		}
	}
	if !new(filter.Filter).Match(full.field) {
		t.Error("the zero Filter does not match")
	}
}

// Only fields of the schema are asked for, and no more often than need be.
func TestMatchAsks(t *testing.T) {
	var got []string
	f := parse(t, schema, "size>9,uses>9,pinned", "from,size<9")
	f.Match(func(name string) filter.Value {
		got = append(got, name)
		return full[name]
	})
	if want := "size uses from size"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The wall clock decides, not the reading of a monotonic one.
func TestMonotonic(t *testing.T) {
	clock := time.Now()
	f, err := schema.Parse(clock, "created==0s")
	if err != nil {
		t.Fatal(err)
	}
	e := entry{"created": filter.TimeValue(clock.Round(0))}
	if !f.Match(e.field) {
		t.Error("got no match of the same time")
	}
}
