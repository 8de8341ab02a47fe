//go:build unix

package cache_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocicache/ocicache/cache"
)

// stop stops a process where it stands, with the locks that it holds.
func (p *process) stop() {
	p.t.Helper()
	if err := unix.Kill(p.cmd.Process.Pid, unix.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(p.cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		p.t.Fatalf("the process did not stop: %v, %v", status, err)
	}
}

// A process is stopped while it holds a lock. Others read on; what needs the
// lock is given up in time, and says which it is. When the process goes on,
// or is killed, all works again.
func TestStoppedProcess(t *testing.T) {
	for _, lock := range []struct{ name, before, command string }{
		{"lock", "rename .ocicache/ingest/", "compressed 2"},
		{"checkpoint.lock", "rename .ocicache/new-index.json", "flush"},
	} {
		for _, then := range []string{"goes on", "is killed"} {
			t.Run(lock.name+" "+then, func(t *testing.T) {
				dir := t.TempDir()
				p := start(t, "serve", dir, "")
				p.do("read 1", "fetched")
				p.do("stop before "+lock.before, "done")
				p.tell("%s", lock.command)
				p.want("stopped")
				p.stop()

				hasty := openDir(t, dir, cache.WithLockTimeout(20*time.Millisecond))
				patient := openDir(t, dir, cache.WithLockTimeout(time.Hour))
				defer func() { _ = p.cmd.Process.Kill() }() // else patient waits to be closed
				present, missing := small(1), small(3)
				checkForms(t, mustGet(t, patient, present.digest()), present)
				checkForms(t, mustGet(t, patient, present.diffID()), present)
				if answer, err := read(patient, present, "compressed", "uncompressed"); answer != "cached" || err != nil {
					t.Errorf("what is there: got %s, %v", answer, err)
				}
				checkForms(t, hasty.Layer(fake(missing)), missing)
				wantLocked(t, dir, lock.name, hasty.Flush())
				if lock.name == "lock" {
					if hasty.Stats().WriteFaults == 0 {
						t.Error("WriteFaults: got 0")
					}
					wantNotFound(t, hasty, missing.digest())
					wantNotFound(t, hasty, missing.diffID())
					wantLocked(t, dir, lock.name, hasty.Delete(present.digest()))
					checkForms(t, mustGet(t, hasty, present.digest()), present)
				} else if s := hasty.Stats(); s.WriteFaults > 0 { // only checkpoints wait
					t.Errorf("got %+v, want no faults", s)
				}

				if then == "is killed" {
					p.kill()
				} else {
					if err := unix.Kill(p.cmd.Process.Pid, unix.SIGCONT); err != nil {
						t.Fatal(err)
					}
					p.tell("go on")
					p.want("fetched", "done")
					p.end()
				}
				for _, c := range []*cache.Cache{hasty, patient} {
					checkForms(t, c.Layer(fake(missing)), missing)
					checkForms(t, mustGet(t, c, missing.digest()), missing)
					if err := c.Delete(missing.diffID()); err != nil {
						t.Error(err)
					}
					if err := c.Flush(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

func wantLocked(t *testing.T, dir, name string, err error) {
	t.Helper()
	if !errors.Is(err, cache.ErrLocked) || !strings.Contains(err.Error(), filepath.Join(dir, ".ocicache", name)+":") {
		t.Errorf("got %v, want ErrLocked and the name of %s", err, name)
	}
}
