package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/soak/layers"
)

const (
	workers   = 3 // goroutines of a child
	reporting = 250 * time.Millisecond
	stuckFor  = 90 * time.Second
)

// A child does things to the cache at random, and checks what comes of it.
type child struct {
	cfg config
	set []layers.Layer
	out *reporter

	kept sync.Map // int, of layers that are filled and must not vanish

	mu     sync.Mutex
	handle *handle     // guarded by mu
	closed cache.Stats // guarded by mu: of the handles that are closed
}

// A handle is an open cache. Operations that its closing interrupts may fail.
type handle struct {
	*cache.Cache
	closing chan struct{}
}

// runChild is the body of a child process.
func runChild(text string) {
	signal.Ignore(os.Interrupt) // it is for the parent, who tells
	c := &child{}
	err := json.Unmarshal([]byte(text), &c.cfg)
	if err == nil {
		var b []byte
		if b, err = os.ReadFile(c.cfg.setFile()); err == nil {
			err = json.Unmarshal(b, &c.set)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak: child:", err)
		os.Exit(1)
	}
	c.out = &reporter{stats: c.stats, now: report{Ops: map[string]int64{}}}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	c.run(ctx)
}

func (c *child) run(ctx context.Context) {
	rnd := rand.New(rand.NewPCG(c.cfg.Seed, 0))
	if c.reopen(rnd) {
		var wg sync.WaitGroup
		for range workers {
			rnd := rand.New(rand.NewPCG(rnd.Uint64(), 0))
			wg.Go(func() { c.work(ctx, rnd) })
		}
		c.tell(ctx)
		wg.Wait()
		c.close(c.swap(nil))
		c.checkLeaks()
	}
	c.out.send()
}

func (c *child) work(ctx context.Context, rnd *rand.Rand) {
	for ctx.Err() == nil {
		c.mu.Lock()
		h := c.handle
		c.mu.Unlock()
		t := &task{c: c, h: h, rnd: rnd, l: c.set[rnd.IntN(len(c.set))], began: time.Now()}
		op := pick(rnd)
		t.op = op.name
		watch := time.AfterFunc(stuckFor, func() {
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
			t.fault(stuck, "see the log")
		})
		op.do(t)
		watch.Stop()
		c.out.count(op.name)
	}
}

// tell reports until the end. Now and then it looks how much memory is in
// use.
func (c *child) tell(ctx context.Context) {
	tick := time.NewTicker(reporting)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if c.cfg.Spare && n%20 == 0 {
			heap := heapInUse()
			c.out.change(func(now *report) { now.Heap = heap })
		}
		c.out.send()
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// reopen opens the cache anew, for all workers, and closes the handle that
// they had. It reports whether it could.
func (c *child) reopen(rnd *rand.Rand) bool {
	began := time.Now()
	opts := []cache.Option{cache.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil)).With("pid", os.Getpid()))}
	for _, o := range []struct {
		oneIn int
		opt   cache.Option
	}{
		{4, cache.WithVerifyReads()}, {4, cache.WithFinishAbandoned()}, {6, cache.WithoutTar()},
		{6, cache.WithSync(cache.SyncCommit)}, {6, cache.WithSync(cache.SyncNever)}, {6, cache.WithMaxFills(2)},
	} {
		if rnd.IntN(o.oneIn) == 0 {
			opts = append(opts, o.opt)
		}
	}
	fresh, err := cache.Open(c.cfg.cacheDir(), opts...)
	if err != nil {
		c.out.fault(fault{What: badError, Text: "reopen: " + err.Error(), Layer: -1, From: began, To: time.Now()})
		return false
	}
	c.close(c.swap(&handle{fresh, make(chan struct{})}))
	return true
}

func (c *child) swap(h *handle) (old *handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, c.handle = c.handle, h
	return old
}

func (c *child) close(h *handle) {
	if h == nil {
		return
	}
	began := time.Now()
	close(h.closing)
	if err := h.Close(); err != nil {
		c.out.fault(fault{What: badError, Text: "close: " + err.Error(), Layer: -1, From: began, To: time.Now()})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = add(c.closed, h.Stats())
}

func (c *child) stats() cache.Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handle == nil {
		return c.closed
	}
	return add(c.closed, c.handle.Stats())
}

// checkLeaks waits for what was dropped without Close to go.
func (c *child) checkLeaks() {
	if text := leaks(c.cfg.cacheDir()); text != "" {
		c.out.fault(fault{What: leak, Text: text, Layer: -1})
	}
}

var ours = regexp.MustCompile(`github.com/ocicache/ocicache/(cache|internal/fill|layout|compression)\.`)

// leaks returns the goroutines of our packages, and the open files of the
// cache, that are left after all was closed.
func leaks(dir string) string {
	var left []string
	for range 100 {
		runtime.GC() // readers that were dropped are found by it
		if left = append(openFiles(dir), goroutines()...); len(left) == 0 {
			return ""
		}
		time.Sleep(100 * time.Millisecond)
	}
	text := strings.Join(left, "\n")
	return fmt.Sprintf("%d are left: %.2000s", len(left), text)
}

func goroutines() (left []string) {
	var text strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&text, 2)
	for g := range strings.SplitSeq(text.String(), "\n\n") {
		if ours.MatchString(g) {
			left = append(left, g)
		}
	}
	return left
}

// openFiles returns what this process has open below dir, where the system
// tells that as Linux does.
func openFiles(dir string) (left []string) {
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, dir+string(filepath.Separator)) {
			left = append(left, to)
		}
	}
	return left
}

// lines calls yield with each whole line of JSON.
func lines(r io.Reader, yield func(report)) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var rep report
		if err := json.Unmarshal(s.Bytes(), &rep); err != nil {
			return fmt.Errorf("%q: %w", s.Text(), err)
		}
		yield(rep)
	}
	if errors.Is(s.Err(), os.ErrClosed) {
		return nil
	}
	return s.Err()
}
