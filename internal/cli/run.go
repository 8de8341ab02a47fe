// Package cli is the ocicache command line. It does what package cache does,
// and shows it: it never reads or writes the directory by itself.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/ocicache/ocicache/internal/filter"
)

// The exit codes, which the help of the root command documents.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitFound       = 3   // verify found problems
	exitInterrupted = 130 // as shells have it for SIGINT
)

// Run runs a command line, without the program's name, and returns its exit
// code. What ctx ends is an interruption. It may be called concurrently.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr, now: time.Now}
	root := a.root()
	root.SetArgs(append([]string{}, args...)) // cobra takes nil for the arguments of the process
	root.SetIn(stdin)
	return a.exit(ctx, root.ExecuteContext(ctx))
}

// exit reports an error on one line, and returns its exit code.
func (a *app) exit(ctx context.Context, err error) int {
	var usage *usageError
	var malformed *filter.Error
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFound):
		return exitFound // the report was printed
	case ctx.Err() != nil:
		a.say("interrupted; what is complete stays, the next run goes on from there")
		return exitInterrupted
	case errors.As(err, &usage), errors.As(err, &malformed):
		a.say(err.Error())
		return exitUsage
	}
	a.say(a.hint(err))
	return exitFailed
}

// say writes a line on standard error. There is nowhere to report that it
// cannot.
func (a *app) say(line string) {
	_, _ = fmt.Fprintf(a.stderr, "ocicache: %s\n", oneLine(line))
}

// oneLine joins the lines that some errors have, and takes out what a terminal
// might obey: registries write some of them.
func oneLine(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.Join(lines, "; "))
}
