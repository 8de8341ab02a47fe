package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/soak/layers"
)

// A parent runs children, disturbs them, and looks what is left.
type parent struct {
	cfg   config
	set   []layers.Layer
	rnd   *rand.Rand
	began time.Time
	ended time.Time

	kills, edits int
	corrupted    []corruption
	foreign      []string // digests of the images that another tool put there
	findings     map[cache.Problem]int
	left         cache.Stats // of the final checks

	mu       sync.Mutex
	total    report         // guarded by mu, as is all below: of children that ended
	live     map[*proc]bool // running
	kept     map[int]bool   // layers that must be there
	heaps    []uint64       // of the children that are spared, in time
	faults   []fault        // what children found wrong
	problems []string
	excused  int
}

func newParent(cfg config, set []layers.Layer) *parent {
	return &parent{
		cfg: cfg, set: set, rnd: rand.New(rand.NewPCG(cfg.Seed, 1)), began: time.Now(),
		findings: map[cache.Problem]int{}, live: map[*proc]bool{}, kept: map[int]bool{},
		total: report{Ops: map[string]int64{}},
	}
}

func (p *parent) problem(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}

// A proc is a child process.
type proc struct {
	cmd    *exec.Cmd
	in     io.Closer
	last   report // guarded by parent.mu
	ending bool   // guarded by parent.mu: it is to end, or killed
	killed bool   // guarded by parent.mu
	done   chan struct{}
}

// start starts a child. A child that is spared is never killed.
func (p *parent) start(spare bool) (*proc, error) {
	cfg := p.cfg
	cfg.Seed, cfg.Spare = p.rnd.Uint64(), spare
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(p.cfg.Work, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := &proc{cmd: exec.Command(exe), done: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	c.cmd.Stderr = log
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.live[c] = true
	p.mu.Unlock()
	go p.follow(c, out)
	return c, nil
}

// follow takes what a child tells, until it ends.
func (p *parent) follow(c *proc, out io.Reader) {
	defer close(c.done)
	lerr := lines(out, func(r report) { p.take(c, r) })
	err := c.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, c)
	p.total = sum(p.total, c.last)
	if !c.killed && (!c.ending || errors.Join(lerr, err) != nil) {
		p.problems = append(p.problems, fmt.Sprintf("a child ended by itself: %v", errors.Join(lerr, err)))
	}
}

func (p *parent) take(c *proc, r report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.last = r
	if r.Heap > 0 {
		p.heaps = append(p.heaps, r.Heap)
	}
	for _, n := range r.Kept {
		p.kept[n] = true
	}
	p.faults = append(p.faults, r.Faults...)
	for _, f := range r.Faults {
		fmt.Fprintf(os.Stderr, "soak: layer %d: %s: %.300s\n", f.Layer, f.What, f.Text)
	}
}

// sum adds up the counts of two reports.
func sum(a, b report) report {
	s := report{Ops: map[string]int64{}, Bytes: a.Bytes + b.Bytes, Stats: add(a.Stats, b.Stats)}
	for _, r := range []report{a, b} {
		for op, n := range r.Ops {
			s.Ops[op] += n
		}
	}
	return s
}

// sums returns the counts of all children.
func (p *parent) sums() report {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.total
	for c := range p.live {
		s = sum(s, c.last)
	}
	return s
}

// soak runs children for a while, and disturbs them.
func (p *parent) soak(ctx context.Context, length time.Duration, procs int) {
	var children []*proc
	for i := range procs {
		c, err := p.start(i == 0)
		if err != nil {
			p.problem("start: %v", err)
			break
		}
		children = append(children, c)
	}
	end, tick := time.After(length), time.NewTicker(10*time.Second)
	defer tick.Stop()
	kill, corrupt, edit := p.timer(2, 5), p.timer(2, 6), p.timer(8, 20)
	for running := len(children) == procs; running; {
		select {
		case <-ctx.Done():
			running = false
		case <-end:
			running = false
		case <-tick.C:
			p.progress()
		case <-kill:
			running = p.replace(children)
			kill = p.timer(2, 5)
		case <-corrupt:
			p.corrupt()
			corrupt = p.timer(2, 6)
		case <-edit:
			p.edit()
			edit = p.timer(8, 20)
		}
	}
	for _, c := range children {
		p.stop(c)
	}
	p.ended = time.Now()
}

// timer fires once, in some seconds.
func (p *parent) timer(least, most int) <-chan time.Time {
	return time.After(time.Duration(least*1000+p.rnd.IntN((most-least)*1000)) * time.Millisecond)
}

// replace kills a child, not the first, and starts another one.
func (p *parent) replace(children []*proc) bool {
	i := 1 + p.rnd.IntN(len(children)-1)
	p.mu.Lock()
	children[i].ending, children[i].killed = true, true
	p.mu.Unlock()
	_ = children[i].cmd.Process.Kill() // if it ended by itself, follow tells
	<-children[i].done
	p.kills++
	c, err := p.start(false)
	if err != nil {
		p.problem("start: %v", err)
		return false
	}
	children[i] = c
	return true
}

// stop lets a child end.
func (p *parent) stop(c *proc) {
	p.mu.Lock()
	c.ending = true
	p.mu.Unlock()
	_ = c.in.Close()
	select {
	case <-c.done:
	case <-time.After(2 * time.Minute):
		p.problem("a child does not end; see the log")
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

func (p *parent) progress() {
	s := p.sums()
	var ops int64
	for _, n := range s.Ops {
		ops += n
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(os.Stderr, "soak: %s: %d operations, %d MB, %d fills, %d kills, %d corrupted, %d repairs, %d edits, %d faults\n",
		time.Since(p.began).Round(time.Second), ops, s.Bytes>>20, s.Stats.Fills, p.kills, len(p.corrupted), s.Stats.Repairs, p.edits, len(p.faults))
}
