package cli

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ocicache/ocicache/cache"
)

// logger returns where the cache's warnings go: above the bar, each on a short
// line, and what differs only in a hash or a number, or
// has the same cause, once.
func (p *progress) logger() *slog.Logger { return slog.New(warnings{p: p}) }

// warnings is a slog.Handler.
type warnings struct {
	p     *progress
	attrs []slog.Attr
}

func (w warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.p, slices.Concat(w.attrs, attrs)}
}

func (w warnings) WithGroup(string) slog.Handler { return w } // the cache has none

func (w warnings) Handle(_ context.Context, r slog.Record) error {
	attrs := map[string]slog.Value{}
	for _, a := range w.attrs {
		attrs[a.Key] = a.Value
	}
	r.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value
		return true
	})
	w.p.warn(warning(r.Message, attrs))
	return nil
}

// warning returns a line of the log as people want it, and what it is the same
// as.
func warning(message string, attrs map[string]slog.Value) (line, key string) {
	err, _ := attrs["err"].Any().(error)
	var rotten *cache.DigestMismatchError
	switch {
	case errors.As(err, &rotten):
		line = "the blob " + rotten.Want.String() + " does not have its digest"
		return line, line
	case message == "blob does not have its digest":
		line = "the blob " + attrs["digest"].String() + " does not have its digest"
		return line, line
	case message == "cache fault" && err != nil:
		line = readableBytes(oneLine(err.Error()))
		cause := line[strings.LastIndex(line, ": ")+1:] // as of a disk that is full for each layer
		return line, varying.ReplaceAllString(cause, "#")
	default:
		line = message
		for _, name := range []string{"digest", "records", "type", "to", "err"} {
			if v, ok := attrs[name]; ok {
				line += ": " + v.String()
			}
		}
	}
	line = readableBytes(line)
	return line, varying.ReplaceAllString(line, "#")
}

var (
	varying    = regexp.MustCompile(`[0-9a-f]{32,}|\d+(\.\d+)? [kMGTPE]?B|\d+`)
	byteCounts = regexp.MustCompile(`(\d+) of (\d+) bytes`)
)

// readableBytes returns a text with sizes as people read them.
func readableBytes(text string) string {
	return byteCounts.ReplaceAllStringFunc(text, func(s string) string {
		m := byteCounts.FindStringSubmatch(s)
		part, _ := strconv.ParseInt(m[1], 10, 64) // of too many digits, the most
		whole, _ := strconv.ParseInt(m[2], 10, 64)
		return size(part) + " of " + size(whole)
	})
}

// warn shows a warning, unless one with that key was shown before.
func (p *progress) warn(line, key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil || p.warned[key] {
		return
	}
	p.warned[key] = true
	if p.drawn && !p.ended {
		p.write("\r\x1b[K")
	}
	p.write("ocicache: warning: " + oneLine(strings.TrimPrefix(line, "cache: ")) + "\n")
}
