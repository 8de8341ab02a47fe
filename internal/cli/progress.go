package cli

import (
	"cmp"
	"fmt"
	"io"
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

	warned map[string]bool // guarded by mu: keys of the warnings that were shown
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

// room is how many columns there are. Three stay free: ^C is echoed there, and
// a line that is full may begin another.
func (p *progress) room() int { return cmp.Or(columns(p.w), defaultWidth) - 3 }

// write shows a text. That it cannot be shown stops nothing.
func (p *progress) write(text string) { _, _ = io.WriteString(p.w, text) }
