package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// The values of --output.
const (
	outputText = "text"
	outputJSON = "json"
)

// emit prints a result: v as JSON, or its text, cut to fit a terminal.
func (a *app) emit(v any, text string) error {
	text = fit(text, columns(a.stdout))
	if a.output == outputJSON {
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		text = string(b) + "\n"
	}
	_, err := io.WriteString(a.stdout, text)
	return err
}

// report is emit for what was done, which --quiet keeps to itself.
func (a *app) report(v any, text string) error {
	if a.quiet && a.output == outputText {
		return nil
	}
	return a.emit(v, text)
}

// partial prints what was done before a failure, if there is something, for
// programs: people are told of the failure.
func (a *app) partial(v any, something bool) error {
	if a.output != outputJSON || !something {
		return nil
	}
	return a.emit(v, "")
}

// table returns rows in columns, the header bold if there are colours.
func (a *app) table(header string, rows [][]string) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	lines := []string{strings.ReplaceAll(header, " ", "\t")}
	for _, row := range rows {
		lines = append(lines, strings.Join(row, "\t"))
	}
	// A strings.Builder takes everything.
	_, _ = io.WriteString(w, strings.Join(lines, "\n")+"\n")
	_ = w.Flush()
	head, rest, _ := strings.Cut(text.String(), "\n")
	return a.paint(bold, head) + "\n" + rest
}

// The colours, as terminals have them.
const (
	bold  = "1"
	red   = "31"
	green = "32"
)

// paint colours a text, if standard output is a terminal and NO_COLOR is not
// set (https://no-color.org).
func (a *app) paint(colour, text string) string {
	if !obeys(a.stdout) || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// size returns a number of bytes for people: 28.6 MB.
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for f >= 999.95 && unit < 6 {
		f, unit = f/1000, unit+1
	}
	return fmt.Sprintf("%.1f %cB", f, " kMGTPE"[unit])
}

// age returns how long ago a time is, for people: 3 days.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := max(now.Sub(t), 0)
	for _, u := range []struct {
		name string
		long time.Duration
	}{{"year", 365 * 24 * time.Hour}, {"month", 30 * 24 * time.Hour}, {"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if d >= u.long {
			return count(int64(d/u.long), u.name) + " ago"
		}
	}
	return "just now"
}

// count returns a number of things: 1 layer, 2 layers.
func count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
