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

// The steps of a removal.
const (
	check  = "lock .ocicache/lock"
	record = "write .ocicache/journal"
	take   = "rename blobs/"
	unlink = "remove .ocicache/trash/"
)

// An interleaving is a removal in one process, which is stopped before one of
// its steps while another one does something with the blob.
type interleaving struct {
	command, answers string
	before           string
	reopens          bool // the other has read the record
	between          func(c *cache.Cache, l content) error
	err              error // of between
	there            bool  // the blob, in the end
}

// holds reports whether the process that is stopped holds the writers' lock.
func (i *interleaving) holds() bool { return i.before == record || i.before == take }

var interleavings = []interleaving{
	{"prune", "removed 1", record, false, readBlob, nil, false}, // it reads what is still there
	{"prune", "removed 1", record, false, pinBlob, cache.ErrNotFound, false},
	{"prune", "removed 1", record, false, pinBlobAs, cache.ErrNotFound, false},
	{"prune", "removed 1", take, false, readBlob, nil, false},
	{"prune", "removed 1", take, true, readBlob, nil, true},
	{"prune", "removed 1", take, false, pinBlob, cache.ErrNotFound, false},
	{"prune", "removed 1", unlink, false, readBlob, nil, true},
	{"prune", "removed 1", unlink, false, pinBlob, cache.ErrNotFound, false},
	{"delete 1", "done", record, false, readBlob, nil, false},
	{"delete 1", "done", take, true, readBlob, nil, true},
	{"delete 1", "done", unlink, false, readBlob, nil, true},
	{"repair 1", "fetched", check, false, readBlob, nil, true},
	{"repair 1", "cached,fetched", record, false, readBlob, nil, true},
	{"repair 1", "cached,fetched", take, false, readBlob, nil, true},
}

func readBlob(c *cache.Cache, l content) error {
	got, err := tryRead(c.Layer(fake(l)).Compressed)
	if err == nil && !bytes.Equal(got, l.blob) {
		err = fmt.Errorf("got %d bytes %s, want %s", len(got), digestOf(got), l.digest())
	}
	return err
}

func pinBlob(c *cache.Cache, l content) error   { _, err := c.Pin(l.digest()); return err }
func pinBlobAs(c *cache.Cache, l content) error { return c.PinAs("x", l.digest()) }

// Whoever reads a blob that is being removed gets the right bytes, and what
// was committed again is there in the end.
func TestRemovalInterleaved(t *testing.T) {
	for _, i := range interleavings {
		t.Run(i.command+" "+i.before, i.play)
	}
}

func (i *interleaving) play(t *testing.T) {
	l, dir, lock := small(1), t.TempDir(), newLockWatch()
	c := openDir(t, dir, cache.WithHook(lock.hook))
	readAll(t, c.Layer(fake(l)).Compressed)
	switch i.command {
	case "delete 1": // both forms
		readAll(t, c.Layer(fake(l)).Uncompressed)
	case "repair 1":
		overwrite(t, blobPath(dir, l.digest()), []byte("rot"))
	}
	p := start(t, "serve", dir, "")
	p.do("stop before "+i.before, "done")
	p.tell("%s", i.command)
	p.want("stopped")
	if i.reopens {
		c = openDir(t, dir, cache.WithHook(lock.hook))
	}
	done := make(chan struct{})
	var err error
	lock.watched.Store(i.holds())
	go func() { defer close(done); err = i.between(c, l) }()
	select {
	case <-done:
	case <-lock.waits: // for the process that is stopped
	}
	over := false
	if i.before == check { // it stops again before it commits, unless it sees in time that the blob is there
		p.tell("again")
		over = p.want("stopped", "cached") == "cached"
		if got := digestOf(readFile(t, blobPath(dir, l.digest()))); got != l.digest() {
			t.Errorf("in between the blob holds bytes of %s", got)
		}
	}
	if !over {
		p.tell("go on")
		p.want(strings.Split(i.answers, ",")...)
	}
	<-done
	if !errors.Is(err, i.err) {
		t.Errorf("got %v, want %v", err, i.err)
	}
	p.end()
	if got := exists(blobPath(dir, l.digest())); got != i.there {
		t.Errorf("the blob is there: %v, want %v", got, i.there)
	}
	if fresh := openDir(t, dir); i.there {
		checkForms(t, mustGet(t, fresh, l.digest()), l)
	} else {
		wantNotFound(t, fresh, l.digest())
	}
}

// A lockWatch tells when a cache tries for the writers' lock a second time:
// another one holds it.
type lockWatch struct {
	watched atomic.Bool
	tries   atomic.Int64
	waits   chan struct{}
}

func newLockWatch() *lockWatch { return &lockWatch{waits: make(chan struct{}, 1)} }

func (w *lockWatch) hook(op, name string) error {
	if w.watched.Load() && op+" "+name == check && w.tries.Add(1) == 2 {
		w.waits <- struct{}{}
	}
	return nil
}
