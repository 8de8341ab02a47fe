package cli

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A sizeValue is a flag's number of bytes, written as filters have it.
type sizeValue int64

var units = map[string]float64{
	"": 1, "b": 1,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

var errSize = errors.New("want a number of bytes, or one with a unit as in 10MB or 1.5GiB")

func (s *sizeValue) Set(text string) error {
	unit := strings.TrimLeft(text, ".0123456789")
	scale, known := units[strings.ToLower(unit)]
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, unit), 64)
	if !known || err != nil || n*scale >= math.MaxInt64 || unit == "" && n != math.Trunc(n) {
		return errSize
	}
	*s = sizeValue(n * scale)
	return nil
}

func (s *sizeValue) String() string { return strconv.FormatInt(int64(*s), 10) }

func (s *sizeValue) Type() string { return "size" }

// A durationValue is a flag's duration: Go's, after weeks and days.
type durationValue time.Duration

// maxDays is a century, far from what a time.Duration can hold.
const maxDays = 36500

var (
	days        = regexp.MustCompile(`^(?:(\d{1,5})w)?(?:(\d{1,5})d)?`)
	errDuration = errors.New("want a duration as in 36h, 7d or 2w")
)

func (d *durationValue) Set(text string) error {
	m := days.FindStringSubmatch(text)
	weeks, _ := strconv.Atoi(m[1]) // "" is 0
	ds, _ := strconv.Atoi(m[2])
	if weeks*7+ds > maxDays {
		return errDuration
	}
	sum := time.Duration(weeks*7+ds) * 24 * time.Hour
	if rest := text[len(m[0]):]; rest != "" || m[0] == "" {
		more, err := time.ParseDuration(rest)
		if err != nil || more < 0 {
			return errDuration
		}
		sum += more
	}
	if sum < 0 {
		return errDuration
	}
	*d = durationValue(sum)
	return nil
}

// String returns what the help leaves out if there is none.
func (d *durationValue) String() string {
	if *d == 0 {
		return "0"
	}
	return time.Duration(*d).String()
}

func (d *durationValue) Type() string { return "duration" }

// printable returns text with what a terminal might obey made visible: names
// in layers are anybody's.
func printable(s string) string {
	if !utf8.ValidString(s) {
		return fmt.Sprintf("%q", s)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Sprintf("%q", s)
		}
	}
	return s
}
