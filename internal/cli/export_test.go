package cli

import (
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// Root returns the tree of commands.
func Root() *cobra.Command {
	return (&app{stdout: io.Discard, stderr: io.Discard, now: time.Now}).root()
}

// What people read.
var (
	Size = size
	Age  = age
	Bar  = bar
	Fit  = fit

	Printable = printable
)

// LsTable is what ls prints.
func LsTable(now time.Time, usages ...cache.Usage) string {
	return (&app{now: func() time.Time { return now }}).usageTable(usages)
}

// NoFiles is what inspect --files prints of a layer without files.
var NoFiles = inspectJSON{Files: []fileJSON{}}

// Hint is what is said of an error.
func Hint(dir string, err error) string { return (&app{dir: dir}).hint(err) }

// ExportError is an error of the directory that an image is written to.
func ExportError(err error) error { return &exportError{err} }

// Export writes an image into a layout.
var Export = export

// CompressionOf is what stats says of compression.
var CompressionOf = compressionOf

// ShowProgress shows progress as on a terminal, or as elsewhere after a while.
func ShowProgress(w io.Writer, terminal bool, now cache.Progress) {
	p := &progress{w: w, terminal: terminal, verb: "pulled", thing: "layer"}
	p.show(now)
	p.show(now)
	p.end()
	p.show(now)
}

// LogProgress logs while progress is shown as on a terminal.
func LogProgress(w io.Writer, now cache.Progress, log func(l *slog.Logger)) {
	p := &progress{w: w, terminal: true, warned: map[string]bool{}}
	p.show(now)
	log(p.logger())
}

// ShowRemovals shows removals as on a terminal, or as elsewhere after a while.
func ShowRemovals(w io.Writer, terminal bool, removals ...cache.Removal) {
	p := &progress{w: w, terminal: terminal, verb: "removed", thing: "blob"}
	for _, r := range removals {
		new(removed).show(p, r)
	}
	p.end()
}

// Graph draws what du --graph does.
func Graph(usages []cache.Usage, now time.Time, width int) string {
	return new(app).graph(sum(usages, now), width)
}

// KeysBefore returns the keys that keys rm --older-than forgets.
func KeysBefore(keys []cache.Key, t time.Time) []string { return before(keys, t) }

// ParseSize and ParseDuration read flags.
func ParseSize(text string) (n int64, err error) { err = (*sizeValue)(&n).Set(text); return n, err }

// ParseDuration is of --keep-duration.
func ParseDuration(text string) (d time.Duration, err error) {
	err = (*durationValue)(&d).Set(text)
	return d, err
}
