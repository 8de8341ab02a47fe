package clitest_test

import (
	"regexp"
	"strings"
	"testing"
)

const columns, rows = 80, 24

// A screen is what a terminal shows, if it is high enough not to scroll.
type screen struct {
	lines   [][]rune
	column  int
	wrapped []string // lines that were wider than the terminal
}

// control is the start of a text that moves the cursor or sets a colour.
var control = regexp.MustCompile(`^\x1b\[\d*[A-Za-z]`)

// show writes on a screen what a command printed. It knows what ours print,
// and what is none of that is an error.
func show(t *testing.T, text string) *screen {
	t.Helper()
	s := &screen{lines: [][]rune{nil}}
	for len(text) > 0 {
		sequence := control.FindString(text)
		text = text[len(sequence):]
		switch {
		case strings.HasSuffix(sequence, "m"):
		case sequence == "\x1b[K":
			s.erase()
		case sequence != "":
			t.Errorf("unknown sequence %q", sequence)
		default:
			r := []rune(text)[0]
			text = text[len(string(r)):]
			s.put(t, r)
		}
	}
	return s
}

func (s *screen) put(t *testing.T, r rune) {
	t.Helper()
	last := len(s.lines) - 1
	switch {
	case r == '\r':
		s.column = 0
	case r == '\n':
		s.lines = append(s.lines, nil)
	case r < ' ':
		t.Errorf("unknown character %q", r)
	case s.column == columns:
		s.wrapped = append(s.wrapped, string(s.lines[last]))
		s.lines, s.column = append(s.lines, []rune{r}), 1
	default:
		for len(s.lines[last]) <= s.column {
			s.lines[last] = append(s.lines[last], ' ')
		}
		s.lines[last][s.column] = r
		s.column++
	}
}

// erase clears the line from the cursor on.
func (s *screen) erase() {
	last := len(s.lines) - 1
	s.lines[last] = s.lines[last][:min(s.column, len(s.lines[last]))]
}

func (s *screen) String() string {
	var text strings.Builder
	for _, line := range s.lines {
		text.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return strings.TrimRight(text.String(), "\n")
}

func TestScreen(t *testing.T) {
	full := strings.Repeat("x", columns)
	for _, tt := range []struct {
		text, want string
		wrapped    int
	}{
		{"a\r\nb\r\n", "a\nb", 0},
		{"bar 10 %\r\x1b[K\x1b[1mdone\x1b[0m\r\n", "done", 0},
		{"abc\rx", "xbc", 0},
		{full + "\r\ny", full + "\ny", 0},
		{full + "y", full + "\ny", 1},
	} {
		if s := show(t, tt.text); s.String() != tt.want || len(s.wrapped) != tt.wrapped {
			t.Errorf("%q: got %q, %d wrapped, want %q, %d", tt.text, s, len(s.wrapped), tt.want, tt.wrapped)
		}
	}
}
