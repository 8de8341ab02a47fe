package cli

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/ocicache/ocicache/cache"
)

// plainInterval is how often progress is told where there is no terminal.
const plainInterval = 5 * time.Second

// A progress shows how far long work has come, on standard error: a bar on a
// terminal, else now and then a line.
type progress struct {
	w           io.Writer // nil if nothing is to be shown
	terminal    bool
	verb, thing string // pulled, layer

	mu    sync.Mutex
	told  time.Time // guarded by mu: when the last plain line was, or the work began
	drawn bool      // guarded by mu: there is a bar
	ended bool      // guarded by mu

	warned map[string]bool // guarded by mu: lines that were logged
}

func (a *app) progress(verb, thing string) *progress {
	p := &progress{w: a.stderr, terminal: obeys(a.stderr), verb: verb, thing: thing, told: time.Now(), warned: map[string]bool{}}
	if a.quiet {
		p.w = nil
	}
	return p
}

// show is what package cache calls.
func (p *progress) show(now cache.Progress) {
	line := fmt.Sprintf("%s %d of %s, %s of %s", p.verb, now.Layers, count(int64(now.LayersTotal), p.thing), size(now.Bytes), size(now.BytesTotal))
	width := min(30, p.room()-len(line)-len("  100%"))
	p.tell(bar(now.Bytes, now.BytesTotal, max(width, 0))+" "+line, line)
}

// tell shows a line, as it is drawn on a terminal or as it is elsewhere.
func (p *progress) tell(drawn, line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.w == nil || p.ended:
	case p.terminal:
		p.drawn = true
		p.write("\r\x1b[K" + cut(drawn, p.room()))
	case time.Since(p.told) >= plainInterval:
		p.told = time.Now()
		p.write(line + "\n")
	}
}

// end removes the bar. What is shown later, is not.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn && !p.ended {
		p.write("\r\x1b[K")
	}
	p.ended = true
}

// logger returns where the cache's warnings go: above the bar.
func (p *progress) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(p, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// Write is for the logger. What it wrote before, as of a disk that is full for
// each layer, it does not write again.
func (p *progress) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil || p.warned[string(line)] {
		return len(line), nil
	}
	p.warned[string(line)] = true
	if p.drawn && !p.ended {
		p.write("\r\x1b[K")
	}
	return p.w.Write(line)
}

// room is how many columns there are. Three stay free: ^C is echoed there, and
// a line that is full may begin another.
func (p *progress) room() int { return cmp.Or(columns(p.w), defaultWidth) - 3 }

// write shows a text. That it cannot be shown stops nothing.
func (p *progress) write(text string) { _, _ = io.WriteString(p.w, text) }
