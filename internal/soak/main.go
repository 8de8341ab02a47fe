// Soak runs several processes over one cache directory for some minutes:
// reads, fills, deletes, flushes and reopenings at random, while processes are
// killed, blobs are corrupted on disk, and another tool edits index.json. Each
// byte that is served is checked against what it should be, and in the end the
// directory is verified. It never talks to a network.
//
//	go run ./internal/soak [-for 10m] [-procs 4] [-dir DIR] [-seed N]
//
// It exits with 1 if anything was wrong, and then keeps the directory. An
// interrupt ends it early, with all checks.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/ocicache/ocicache/internal/soak/layers"
)

const (
	numLayers = 300
	largest   = 4 << 20 // bytes of a tar
)

// A config is what all processes are told.
type config struct {
	Work  string // holds the cache, the layers' hashes and the children's log
	Seed  uint64
	Spare bool // this child is not killed, and so must not grow
}

func (c config) cacheDir() string { return filepath.Join(c.Work, "cache") }
func (c config) setFile() string  { return filepath.Join(c.Work, "layers.json") }

// isKept reports whether a layer is neither deleted nor corrupted, so that it
// is there for good once it was filled.
func isKept(l layers.Layer) bool { return l.N%10 == 0 }

// childEnv holds the config of a child, as JSON. Its standard input ends when
// it is to end.
const childEnv = "OCICACHE_SOAK_CHILD"

func main() {
	if text := os.Getenv(childEnv); text != "" {
		runChild(text)
		return
	}
	length := flag.Duration("for", 10*time.Minute, "how long the processes run")
	procs := flag.Int("procs", 4, "how many processes run at a time")
	dir := flag.String("dir", "", "a `directory` to use and keep; it must be empty or absent")
	seed := flag.Uint64("seed", rand.Uint64(), "of all that is at random, except the order of the processes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *length, *procs, *dir, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

var errFailed = errors.New("failed")

func run(ctx context.Context, length time.Duration, procs int, dir string, seed uint64) (err error) {
	cfg := config{Work: dir, Seed: seed}
	if dir == "" {
		if cfg.Work, err = os.MkdirTemp("", "ocicache-soak-"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(cfg.Work)
			}
		}()
	}
	p := newParent(cfg, layers.Set(numLayers, largest))
	if err := p.prepare(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "soak: seed %d, %s for %s\n", seed, cfg.Work, length)
	p.soak(ctx, length, max(procs, 2))
	p.finish()
	if err := p.table(os.Stdout); err != nil {
		return err
	}
	if len(p.problems) > 0 {
		return fmt.Errorf("%w: %d problems; seed %d, directory %s", errFailed, len(p.problems), seed, cfg.Work)
	}
	return nil
}

// prepare writes down the layers' hashes: a child that is started anew does
// not make them all again.
func (p *parent) prepare() error {
	if err := os.MkdirAll(p.cfg.Work, 0o700); err != nil {
		return err
	}
	if des, err := os.ReadDir(p.cfg.Work); err != nil || len(des) > 0 {
		return errors.Join(err, fmt.Errorf("%s is not empty", p.cfg.Work))
	}
	b, err := json.Marshal(p.set)
	if err != nil {
		return err
	}
	return os.WriteFile(p.cfg.setFile(), b, 0o600)
}
