package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/soak/layers"
)

const (
	numLayers = 120
	largest   = 1 << 20 // bytes of a tar
)

// roleEnv tells a process that this one is run in again what it is: "tester",
// in a mount namespace of its own, or the worker over a cache.
const roleEnv = "OCICACHE_POWERLOSS_ROLE"

func main() {
	rounds := flag.Int("rounds", 20, "how often the power is cut in each mode")
	kinds := flag.String("fs", "ext4,xfs,btrfs", "file systems; those without a mkfs here are left out")
	dir := flag.String("dir", "", "a `directory` for the image")
	seed := flag.Uint64("seed", rand.Uint64(), "of all that is at random, except the order of the processes")
	flag.Parse()
	var err error
	switch role := os.Getenv(roleEnv); {
	case role == "tester":
		err = test(*rounds, strings.Split(*kinds, ","), *dir, *seed)
	case role != "":
		err = runWorker(role)
	default:
		err = inNamespace(*seed)
	}
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		os.Exit(1) // it has said why
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "powerloss:", err)
		os.Exit(1)
	}
}

// inNamespace runs this program again in a mount namespace of its own. The
// mounts go with the last process in it, and the loop devices with the mounts.
func inNamespace(seed uint64) error {
	if os.Getuid() != 0 {
		return errors.New("this mounts file systems: it needs root")
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	signal.Ignore(os.Interrupt) // the other one gets it too
	runtime.LockOSThread()      // with which the other process dies
	cmd := exec.Command(exe, append(os.Args[1:], fmt.Sprint("-seed=", seed))...)
	cmd.Env = append(os.Environ(), roleEnv+"=tester")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	return cmd.Run()
}

// A mode is a promise of the cache's.
type mode struct {
	name  string
	level cache.SyncLevel
}

var modes = []mode{{"checkpoint", cache.SyncCheckpoint}, {"commit", cache.SyncCommit}, {"never", cache.SyncNever}}

// options are how a file system is mounted, in turn.
var options = map[string][]string{
	"ext4":  {"data=ordered", "data=writeback,nobarrier,noauto_da_alloc", "data=ordered,commit=1", "data=writeback,commit=1"},
	"xfs":   {"defaults"},
	"btrfs": {"defaults"},
}

var errFailed = errors.New("failed")

func test(rounds int, kinds []string, dir string, seed uint64) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if dir, err = os.MkdirTemp(dir, "ocicache-powerloss-"); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "powerloss: seed %d, %s\n", seed, dir)
	t := &tester{rnd: rand.New(rand.NewPCG(seed, 0)), dir: dir, seed: seed, set: layers.Set(numLayers, largest)}
	for _, kind := range kinds {
		if _, err := exec.LookPath("mkfs." + kind); err != nil {
			fmt.Fprintf(os.Stderr, "powerloss: no mkfs.%s\n", kind)
			continue
		}
		for _, m := range modes {
			if ctx.Err() != nil {
				break
			}
			if err := t.run(ctx, kind, m, rounds); err != nil {
				t.problems = append(t.problems, fmt.Sprintf("%s, %s: %v", kind, m.name, err))
			}
		}
	}
	if len(t.rows) == 0 {
		t.problems = append(t.problems, "there was no file system to test")
	}
	if err := t.table(os.Stdout); err != nil {
		return err
	}
	if len(t.problems) > 0 {
		return fmt.Errorf("%w: %d problems; seed %d, images in %s", errFailed, len(t.problems), seed, dir)
	}
	return os.RemoveAll(dir)
}

// A tester cuts the power.
type tester struct {
	rnd      *rand.Rand
	dir      string
	seed     uint64
	set      []layers.Layer
	rows     []*row
	problems []string
}

// run cuts the power of one file system again and again.
func (t *tester) run(ctx context.Context, kind string, m mode, rounds int) error {
	fmt.Fprintf(os.Stderr, "powerloss: %s, %s: %d cuts\n", kind, m.name, rounds)
	d, err := newDisk(kind, filepath.Join(t.dir, kind+"-"+m.name))
	if err != nil {
		return err
	}
	l := newLedger(m)
	for i := 0; i <= rounds && ctx.Err() == nil; i++ {
		opts := options[kind][i%len(options[kind])]
		if err := t.round(ctx, d, l, t.row(kind, m, opts), opts, i == rounds); err != nil {
			return fmt.Errorf("round %d, %s: %w", i, opts, err)
		}
	}
	return os.Remove(d.image)
}

// round mounts what the last cut left, checks it, and lets a process go on
// until the next cut. In the last round there is none.
func (t *tester) round(ctx context.Context, d *disk, l *ledger, r *row, opts string, last bool) (err error) {
	if err := d.mount(opts); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.unmount()) }()
	if err := reboot(d.cacheDir()); err != nil {
		return err
	}
	if err := t.check(d.cacheDir(), l); err != nil || last {
		return err
	}
	w, err := startWorker(d.cacheDir(), l, t.rnd.Uint64())
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(t.moment()):
	}
	l.cut(time.Now())
	err = d.cut()
	w.kill()
	l.row = r // whose options decide what is left
	r.cuts++
	return errors.Join(err, l.failure())
}

// moment is how long a process may work. The file system writes back every
// five seconds, by default, and when it is told to.
func (t *tester) moment() time.Duration {
	if t.rnd.IntN(4) == 0 {
		return time.Duration(t.rnd.IntN(500)) * time.Millisecond
	}
	return time.Duration(500+t.rnd.IntN(6000)) * time.Millisecond
}
