package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/soak/layers"
)

const fillers = 3 // goroutines, each with layers of its own

// A worker uses a cache until the power is cut, and says what it has done.
type worker struct {
	Dir   string
	Level cache.SyncLevel
	Seed  uint64

	c    *cache.Cache
	set  []layers.Layer
	said atomic.Int64 // flushes
}

// A saying is a line of a worker's.
type saying struct {
	What string // "fetched", "filled", "deleting", "flushing", "flushed" or "error"
	N    int    // of the layer, or the flush
	Text string
	Time time.Time
}

func say(what string, n int, err error) {
	s := saying{What: what, N: n, Time: time.Now()}
	if err != nil {
		s.Text = err.Error()
	}
	b, err := json.Marshal(s)
	if err == nil {
		_, err = fmt.Printf("%s\n", b)
	}
	if err != nil {
		os.Exit(1) // nobody listens
	}
}

// runWorker is the body of the process.
func runWorker(text string) error {
	signal.Ignore(os.Interrupt)
	w := &worker{set: layers.Set(numLayers, largest)}
	if err := json.Unmarshal([]byte(text), w); err != nil {
		return err
	}
	go func() { // the tester ended
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	var err error
	if w.c, err = cache.Open(w.Dir, cache.WithSync(w.Level), cache.WithMinFree(0)); err != nil {
		say("error", -1, err) // which may be that the power is off
		return nil
	}
	rnd := rand.New(rand.NewPCG(w.Seed, 1))
	for i := range fillers {
		rnd := rand.New(rand.NewPCG(rnd.Uint64(), 1))
		go func() {
			for {
				w.step(rnd, i+fillers*rnd.IntN(len(w.set)/fillers))
			}
		}()
	}
	for {
		time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		if rnd.IntN(3) == 0 {
			w.sync()
			continue
		}
		w.flush()
	}
}

// step does something to a layer.
func (w *worker) step(rnd *rand.Rand, n int) {
	l := w.set[n]
	switch k := rnd.IntN(10); {
	case k < 2:
		say("deleting", n, nil)
		for _, err := range []error{w.c.Delete(l.Digest), w.c.Delete(l.DiffID)} {
			if err != nil && !errors.Is(err, cache.ErrNotFound) {
				say("error", n, err)
			}
		}
	case k < 6 && l.Kind != layers.TarOnly:
		if err := w.c.Fill(context.Background(), l.Origin(layers.Sound)); w.well(n, err) {
			say("fetched", n, nil)
		}
	default:
		if err := w.c.FillUncompressed(context.Background(), l.Origin(layers.Sound)); w.well(n, err) {
			say("filled", n, nil)
		}
	}
	time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
}

// well reports whether a fill went well. It also may end well if it could not
// be kept, or not synced; that is counted.
func (w *worker) well(n int, err error) bool {
	if s := w.c.Stats(); err == nil && s.WriteFaults+s.Fallbacks > 0 {
		err = fmt.Errorf("something could not be written: %+v", s)
	}
	if err != nil {
		say("error", n, err)
	}
	return err == nil
}

func (w *worker) flush() {
	n := int(w.said.Add(1))
	say("flushing", n, nil)
	if err := w.c.Flush(); err != nil {
		say("error", -1, err)
		return
	}
	say("flushed", n, nil)
}

// sync writes back all that the file system holds.
func (w *worker) sync() {
	d, err := os.Open(filepath.Dir(w.Dir))
	if err != nil {
		return // the power is off
	}
	defer d.Close()
	_ = unix.Syncfs(int(d.Fd()))
}

// A running is a worker under way.
type running struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// startWorker starts a worker whose sayings go into the ledger.
func startWorker(dir string, l *ledger, seed uint64) (*running, error) {
	text, err := json.Marshal(worker{Dir: dir, Level: l.mode.level, Seed: seed})
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &running{cmd: exec.Command(exe), done: make(chan struct{})}
	r.cmd.Env = append(os.Environ(), roleEnv+"="+string(text))
	r.cmd.Stderr = os.Stderr
	if _, err := r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	l.begin()
	go func() {
		defer close(r.done)
		for s := bufio.NewScanner(out); s.Scan(); {
			l.note(s.Bytes())
		}
		_ = r.cmd.Wait() // it was killed
	}()
	return r, nil
}

// kill kills the worker, and waits until all that it said is noted.
func (r *running) kill() {
	_ = r.cmd.Process.Kill() // it may have ended
	<-r.done
}
