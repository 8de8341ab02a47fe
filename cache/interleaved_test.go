package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ocicache/ocicache/cache"
)

// A process is stopped between the steps of a removal while another one does
// something with the blob. Whoever reads gets the right bytes, and what was
// committed again is there in the end.
func TestRemovalInterleaved(t *testing.T) {
	readIt := func(c *cache.Cache, l content) error {
		got, err := tryRead(c.Layer(fake(l)).Compressed)
		if err == nil && !bytes.Equal(got, l.blob) {
			err = fmt.Errorf("got %d bytes %s, want %s", len(got), digestOf(got), l.digest())
		}
		return err
	}
	pin := func(c *cache.Cache, l content) error { _, err := c.Pin(l.digest()); return err }
	pinAs := func(c *cache.Cache, l content) error { return c.PinAs("x", l.digest()) }
	const (
		check, record, take, unlink = "lock .ocicache/lock", "write .ocicache/journal", "rename blobs/", "remove .ocicache/trash/"
		holding, reopen             = true, true
	)
	for _, test := range []struct {
		command, answers string
		before           string // the operation that it is stopped at
		holds            bool   // the lock, there
		reopens          bool   // the other has read the record
		between          func(c *cache.Cache, l content) error
		err              error
		there            bool // in the end
	}{
		{"prune", "removed 1", record, holding, false, readIt, nil, false}, // it reads what is still there
		{"prune", "removed 1", record, holding, false, pin, cache.ErrNotFound, false},
		{"prune", "removed 1", record, holding, false, pinAs, cache.ErrNotFound, false},
		{"prune", "removed 1", take, holding, false, readIt, nil, false},
		{"prune", "removed 1", take, holding, reopen, readIt, nil, true},
		{"prune", "removed 1", take, holding, false, pin, cache.ErrNotFound, false},
		{"prune", "removed 1", unlink, false, false, readIt, nil, true},
		{"prune", "removed 1", unlink, false, false, pin, cache.ErrNotFound, false},
		{"delete 1", "done", record, holding, false, readIt, nil, false},
		{"delete 1", "done", take, holding, reopen, readIt, nil, true},
		{"delete 1", "done", unlink, false, false, readIt, nil, true},
		{"repair 1", "fetched", check, false, false, readIt, nil, true},
		{"repair 1", "cached,fetched", record, holding, false, readIt, nil, true},
		{"repair 1", "cached,fetched", take, holding, false, readIt, nil, true},
	} {
		t.Run(test.command+" "+test.before, func(t *testing.T) {
			l, dir := small(1), t.TempDir()
			var locks, from atomic.Int64 // how often the other tried for the lock
			waiting := make(chan struct{}, 1000)
			hook := cache.WithHook(func(op, name string) error {
				if op+" "+name == check && locks.Add(1) > from.Load()+1 {
					waiting <- struct{}{}
				}
				return nil
			})
			from.Store(1 << 60)
			c := openDir(t, dir, hook)
			readAll(t, c.Layer(fake(l)).Compressed)
			if test.command == "delete 1" {
				readAll(t, c.Layer(fake(l)).Uncompressed)
			}
			if test.command == "repair 1" {
				overwrite(t, blobPath(dir, l.digest()), []byte("rot"))
			}
			p := start(t, "serve", dir, "")
			p.do("stop before "+test.before, "done")
			p.tell("%s", test.command)
			p.want("stopped")
			if test.reopens {
				c = openDir(t, dir, hook)
			}
			from.Store(locks.Load())
			done := make(chan error, 1)
			go func() { done <- test.between(c, l) }()
			var err error
			ended := false
			select {
			case err = <-done:
				ended = true
			case <-waitingIf(test.holds, waiting):
			}
			if test.before == check { // it stops again before it commits
				p.tell("again")
				p.want("stopped")
				if got := digestOf(readFile(t, blobPath(dir, l.digest()))); got != l.digest() {
					t.Errorf("in between the blob holds bytes of %s", got)
				}
			}
			p.tell("go on")
			if p.want(strings.Split(test.answers, ",")...); !ended {
				err = <-done
			}
			if !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			if got := exists(blobPath(dir, l.digest())); got != test.there {
				t.Errorf("the blob is there: %v, want %v", got, test.there)
			}
			p.end()
			if fresh := openDir(t, dir); test.there {
				checkForms(t, mustGet(t, fresh, l.digest()), l)
			} else {
				wantNotFound(t, fresh, l.digest())
			}
		})
	}
}

// waitingIf returns a channel that nothing comes from unless the lock is held.
func waitingIf(held bool, waiting chan struct{}) chan struct{} {
	if held {
		return waiting
	}
	return nil
}
