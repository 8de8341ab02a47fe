package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A unit says how a value is written. Times are in seconds, sizes in bytes.
type unit string

const (
	seconds unit = "s"
	bytesOf unit = "B"
	number  unit = ""
)

func (u unit) format(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case u == bytesOf && v >= 100e6:
		return fmt.Sprintf("%.0f MB", v/1e6)
	case u == bytesOf:
		return fmt.Sprintf("%.1f MB", v/1e6)
	case u == number:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case v < 1e-6:
		return fmt.Sprintf("%.0f ns", v*1e9)
	case v < 1e-3:
		return fmt.Sprintf("%.3g µs", v*1e6)
	case v < 1:
		return fmt.Sprintf("%.3g ms", v*1e3)
	}
	return fmt.Sprintf("%.2f s", v)
}

// A result is a row with what was measured: medians, NaN where there is none.
type result struct {
	row
	medians struct{ ours, ggcr, bare float64 }
	samples map[string][]float64 // by contestant
}

func newResult(r row, s *samples) result {
	res := result{row: r, samples: map[string][]float64{}}
	res.medians.ours, res.medians.ggcr, res.medians.bare = s.median(r.ours), s.median(r.ggcr), s.median(r.bare)
	for who, name := range map[string]string{"ours": r.ours, "ggcr": r.ggcr, "reference": r.bare} {
		if v := s.m[name]; len(v) > 0 {
			res.samples[who] = v
		}
	}
	return res
}

// verdict is empty for a row without an aim.
func (r result) verdict() string {
	m := r.medians
	switch {
	case r.aim.met == nil:
		return ""
	case r.aim.met(m.ours, m.ggcr, m.bare):
		return "ok"
	}
	return "not yet"
}

// widths of the columns; negative ones are set to the left. With a space
// between them they come to 100.
var widths = [...]int{-38, 8, 8, 8, 6, 6, -12, -7}

func writeTable(w io.Writer, results []result) error {
	lines := [][len(widths)]string{{"median of runs", "ours", "ggcr", "ref", "/ggcr", "/ref", "aim", ""}}
	for _, r := range results {
		m := r.medians
		lines = append(lines, [...]string{
			r.name, r.unit.format(m.ours), r.unit.format(m.ggcr), r.unit.format(m.bare),
			ratio(m.ours, m.ggcr), ratio(m.ours, m.bare), r.aim.text, r.verdict(),
		})
	}
	for _, line := range lines {
		var cells [len(widths)]string
		for i, cell := range line {
			cells[i] = pad(cell, widths[i])
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(strings.Join(cells[:], " "), " ")); err != nil {
			return err
		}
	}
	return nil
}

// pad is for text that has characters of more than one byte.
func pad(s string, width int) string {
	space := strings.Repeat(" ", max(0, max(width, -width)-utf8.RuneCountInString(s)))
	if width < 0 {
		return s + space
	}
	return space + s
}

func ratio(a, b float64) string {
	r := a / b
	switch {
	case math.IsNaN(r) || math.IsInf(r, 0):
		return "-"
	case r == 0:
		return "0"
	case r < 0.01:
		return "<0.01"
	case r < 10:
		return fmt.Sprintf("%.2f", r)
	}
	return fmt.Sprintf("%.0f", r)
}

// writeJSON writes an array with an object for each row. What was not
// measured is absent.
func writeJSON(w io.Writer, results []result) error {
	type object struct {
		Name        string               `json:"name"`
		Unit        string               `json:"unit,omitempty"`
		Ours        *float64             `json:"ours,omitempty"`
		GGCR        *float64             `json:"ggcr,omitempty"`
		Reference   *float64             `json:"reference,omitempty"`
		ByGGCR      *float64             `json:"oursByGGCR,omitempty"`
		ByReference *float64             `json:"oursByReference,omitempty"`
		Aim         string               `json:"aim,omitempty"`
		Verdict     string               `json:"verdict,omitempty"`
		Samples     map[string][]float64 `json:"samples"`
	}
	objects := []object{}
	for _, r := range results {
		m := r.medians
		objects = append(objects, object{
			r.name, string(r.unit), finite(m.ours), finite(m.ggcr), finite(m.bare),
			finite(m.ours / m.ggcr), finite(m.ours / m.bare), r.aim.text, r.verdict(), r.samples,
		})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(objects)
}

func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
