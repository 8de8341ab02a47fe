package filter_test

import (
	"math"
	"testing"
	"time"

	"github.com/ocicache/ocicache/internal/filter"
)

func TestIntegers(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int64
	}{
		{"0", 0},
		{"007", 7},
		{"4096", 4096},
		{"4096B", 4096},
		{"10kB", 10_000},
		{"10KB", 10_000},
		{"10kb", 10_000},
		{"10MB", 10_000_000},
		{"10GB", 10_000_000_000},
		{"10TB", 10_000_000_000_000},
		{"10KiB", 10 << 10},
		{"10kib", 10 << 10},
		{"10Ki", 10 << 10},
		{"10MiB", 10 << 20},
		{"10mi", 10 << 20},
		{"10GiB", 10 << 30},
		{"10Gi", 10 << 30},
		{"10TiB", 10 << 40},
		{"10ti", 10 << 40},
		{"1.5GB", 1_500_000_000},
		{"1.5GiB", 3 << 29},
		{".5kB", 500},
		{"1.3GiB", 1_395_864_371}, // and .2
		{"0.0001kB", 0},
		{`"10MB"`, 10_000_000},
		{"9223372036854775807", math.MaxInt64},
		{"8388607.9TiB", 9223371926903613030},
	} {
		f := parse(t, schema, "size=="+tt.text)
		e := entry{"size": filter.IntValue(tt.want)}
		if !f.Match(e.field) {
			t.Errorf("%s: want %d", tt.text, tt.want)
		}
	}
}

func TestTimes(t *testing.T) {
	date := func(month time.Month, day, hour, minute int) time.Time {
		return time.Date(2024, month, day, hour, minute, 0, 0, time.UTC)
	}
	for _, tt := range []struct {
		text string
		want time.Time
	}{
		{"never", time.Time{}},
		{"2024-02-29", date(2, 29, 0, 0)},
		{"2024-02-29T23:30:00Z", date(2, 29, 23, 30)},
		{"2024-02-29T23:30:00-01:00", date(3, 1, 0, 30)},
		{"2024-02-29T23:30:00.000000001Z", date(2, 29, 23, 30).Add(1)},
		{"0", now},
		{"0s", now},
		{"36h", date(3, 14, 0, 0)},
		{"1h30m", date(3, 15, 10, 30)},
		{"1.5h", date(3, 15, 10, 30)},
		{"7d", date(3, 8, 12, 0)},
		{"0.5d", date(3, 15, 0, 0)},
		{"2w", date(3, 1, 12, 0)},
		{"1w2d12h", date(3, 6, 0, 0)},
		{"1d12h", date(3, 14, 0, 0)},
		{"250ms", now.Add(-250 * time.Millisecond)},
		{"250µs", now.Add(-250 * time.Microsecond)},
		{"15250w", now.Add(-15250 * 7 * 24 * time.Hour)},
		{"9223372036854775807ns", now.Add(-math.MaxInt64)},
	} {
		f := parse(t, schema, "lastused=="+tt.text)
		e := entry{"lastused": filter.TimeValue(tt.want)}
		if !f.Match(e.field) {
			t.Errorf("%s: want %v", tt.text, tt.want)
		}
	}
}

// Of each kind, what cannot be read is refused where it begins.
func TestNoLiteral(t *testing.T) {
	for field, texts := range map[string][]string{
		"size": {
			"x", "10k", "10M", "10G", "1.5", "-1", "+1", "1e3", "0x10", "1_000", "1/2", ".", "1.2.3kB", ".kB", "kB",
			"10PB", `"10 kB"`, "10kBB", "9223372036854775808", "8388608TiB", "9223372036854775807kB", `""`, "١",
		},
		"lastused": {
			"x", "24", "24H", "-24h", "+24h", "1d-5h", "d", "2wd", "1d2w", "3h2d", "1h2d", "1d1d", "1e1d", "1y", "Never",
			"15251w", "106752d", "106751d24h", "2024-02-30", "2024-2-1", "2024-01-02T03:04:05", "20240102", `""`,
		},
		"pinned": {"True", "1", "yes", "t", `""`},
	} {
		for _, text := range texts {
			_, err := schema.Parse(now, field+"=="+text)
			if got, want := column(err), len(field)+3; got != want {
				t.Errorf("%s==%s: got %v, want an error in column %d", field, text, err, want)
			}
		}
	}
}
