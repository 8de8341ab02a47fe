package filter

import (
	"fmt"
	"unicode/utf8"
)

// An Error says what is wrong with an expression, and where.
type Error struct {
	Expr   string
	Column int    // in characters, from 1; behind the last one if more was expected
	Reason string // what was expected, on one line
}

// quoteMax is how many characters of an expression an error quotes.
const quoteMax = 200

// Error returns one line.
func (e *Error) Error() string {
	more := ""
	if utf8.RuneCountInString(e.Expr) > quoteMax {
		more = "…"
	}
	return fmt.Sprintf("filter %.*q%s: column %d: %s", quoteMax, e.Expr, more, e.Column, e.Reason)
}
