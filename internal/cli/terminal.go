package cli

import (
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// obeys reports whether w is a terminal that can move its cursor and has colours.
func obeys(w io.Writer) bool {
	term := os.Getenv("TERM")
	return isTerminal(w) && term != "dumb" && (term != "" || runtime.GOOS == "windows") // which has no TERM
}

// columns returns a terminal's width, or 0 if w is none or does not tell.
func columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// fit cuts what is wider than a terminal off the lines of a text. A width of 0
// cuts nothing.
func fit(text string, width int) string {
	if width == 0 {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = cut(line, width)
	}
	return strings.Join(lines, "\n")
}

// colour is what paint writes. It takes no room.
var (
	colour  = regexp.MustCompile(`\x1b\[\d*m`)
	leading = regexp.MustCompile(`^\x1b\[\d*m`)
)

// cut keeps the colours of what it cuts off: the last one ends them.
func cut(line string, width int) string {
	if utf8.RuneCountInString(colour.ReplaceAllString(line, "")) <= width {
		return line
	}
	var b strings.Builder
	for column := 1; column < width; {
		n := len(leading.FindString(line))
		if n == 0 {
			_, n = utf8.DecodeRuneInString(line)
			column++
		}
		b.WriteString(line[:n])
		line = line[n:]
	}
	return b.String() + "…" + strings.Join(colour.FindAllString(line, -1), "")
}
