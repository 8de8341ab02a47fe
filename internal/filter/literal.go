package filter

import (
	"math"
	"math/big"
	"strings"
	"time"
)

// parseValue reads text as a value of the kind. Failing that it returns what
// was expected.
func parseValue(k Kind, text string, now time.Time) (v Value, expected string) {
	ok := false
	switch k {
	case KindString, KindStrings:
		return StringValue(text), ""
	case KindInt:
		v.n, ok = parseInt(text)
		expected = "a number below 2^63, whole or with a unit as in 10MB or 1.5GiB,"
	case KindTime:
		v.time, ok = parseTime(text, now)
		expected = "a time as in 2006-01-02T15:04:05Z or 2006-01-02, a duration as in 36h or 7d, or never"
	case KindBool:
		v, ok = BoolValue(text == "true"), text == "true" || text == "false"
		expected = "true or false"
	}
	if !ok {
		return Value{}, expected
	}
	v.kind = k
	return v, ""
}

// units has them in lower case.
var units = map[string]int64{
	"": 1, "b": 1,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

// parseInt reads a number that may have a unit, and then a fraction.
func parseInt(s string) (n int64, ok bool) {
	unit := strings.TrimLeft(s, ".0123456789")
	number := strings.TrimSuffix(s, unit)
	size, known := units[strings.ToLower(unit)]
	if !known || len(number) > 64 { // digits enough for all that fits
		return 0, false
	}
	r, ok := new(big.Rat).SetString(number)
	if !ok || unit == "" && !r.IsInt() {
		return 0, false
	}
	r.Mul(r, big.NewRat(size, 1))
	whole := new(big.Int).Quo(r.Num(), r.Denom())
	return whole.Int64(), whole.IsInt64()
}

// parseTime reads a time, a date, or a duration before now.
func parseTime(s string, now time.Time) (t time.Time, ok bool) {
	if s == "never" {
		return time.Time{}, true
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	d, ok := parseDuration(s)
	return now.Add(-d), ok
}

// parseDuration reads a duration without a sign: Go's, after weeks and days.
func parseDuration(s string) (sum time.Duration, ok bool) {
	if s == "" || strings.ContainsAny(s, "+-") {
		return 0, false
	}
	for _, unit := range []struct {
		name  string
		hours time.Duration
	}{{"w", 7 * 24}, {"d", 24}} {
		number, rest, found := strings.Cut(s, unit.name)
		if !found {
			continue
		}
		d, err := time.ParseDuration(number + "h")
		plain := strings.Trim(number, ".0123456789") == ""
		if err != nil || !plain || d > (math.MaxInt64-sum)/unit.hours {
			return 0, false
		}
		sum, s = sum+d*unit.hours, rest
	}
	if s == "" {
		return sum, true
	}
	d, err := time.ParseDuration(s)
	return sum + d, err == nil && d <= math.MaxInt64-sum
}
