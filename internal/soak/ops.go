package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/soak/layers"
)

// An operation is something that a child does, so often of a thousand.
type operation struct {
	name   string
	weight int
	do     func(*task)
}

var operations = []operation{
	{"read", 400, (*task).read},
	{"get", 280, (*task).get},
	{"delete", 160, (*task).delete},
	{"fill", 90, (*task).fill},
	{"read only", 40, (*task).readOnly},
	{"flush", 20, (*task).flush},
	{"reopen", 10, func(t *task) { t.c.reopen(t.rnd) }},
}

func pick(rnd *rand.Rand) operation {
	n := rnd.IntN(1000)
	for _, op := range operations {
		if n -= op.weight; n < 0 {
			return op
		}
	}
	return operations[0]
}

// A task is one operation under way.
type task struct {
	c     *child
	h     *handle
	rnd   *rand.Rand
	op    string
	l     layers.Layer
	began time.Time
}

func (t *task) fault(what, text string) {
	t.c.out.fault(fault{What: what, Text: t.op + ": " + text, Layer: t.l.N, From: t.began, To: time.Now()})
}

// check notes an error, unless it is one of those that may be.
func (t *task) check(err error, may ...func(error) bool) (ok bool) {
	if err == nil {
		return true
	}
	for _, may := range may {
		if may(err) {
			return false
		}
	}
	if errors.Is(err, cache.ErrClosed) {
		select {
		case <-t.h.closing:
			return false
		default:
		}
	}
	t.fault(badError, err.Error())
	return false
}

// is returns a function that reports whether an error is one of some.
func is(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
}

// made reports whether an origin's fault may have made an error.
func made(f layers.Fault) func(error) bool {
	return func(err error) bool {
		var digest *cache.DigestMismatchError
		var size *cache.SizeMismatchError
		switch f {
		case layers.Sound:
			return false
		case layers.Short:
			return errors.As(err, &digest) || errors.As(err, &size) || is(io.ErrUnexpectedEOF, cache.ErrCorrupt)(err)
		}
		return errors.Is(err, layers.ErrInjected)
	}
}

func (t *task) oneIn(n int) bool { return t.rnd.IntN(n) == 0 }

func (t *task) originFault(l layers.Layer) layers.Fault {
	if !t.oneIn(6) {
		return layers.Sound
	}
	faults := l.Faults()
	return faults[t.rnd.IntN(len(faults))]
}

// read reads a layer through the cache.
func (t *task) read() {
	if _, ok := t.c.kept.Load(t.l.N); ok {
		t.stays()
	}
	f := t.originFault(t.l)
	l := t.h.Layer(t.l.Origin(f))
	if t.l.Kind == layers.TarOnly || t.oneIn(2) {
		t.consume(l.Uncompressed, t.l.DiffID, t.l.Tar, made(f))
		return
	}
	if whole := t.consume(l.Compressed, t.l.Digest, t.l.Blob, made(f)); whole && isKept(t.l) {
		t.keep()
	}
}

// keep says that a layer is there, unless it was read past the cache.
func (t *task) keep() {
	if _, err := t.h.Get(t.l.Digest); err == nil {
		t.c.kept.Store(t.l.N, true)
		t.c.out.change(func(now *report) { now.Kept = append(now.Kept, t.l.N) })
	}
}

// stays looks that a layer that was there is there. For a moment it may not
// be: another tool that rewrites index.json in place leaves an empty one for
// as long as it writes.
func (t *task) stays() {
	var err error
	for range 20 {
		if _, err = t.h.Get(t.l.Digest); !errors.Is(err, cache.ErrNotFound) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.fault(lost, err.Error())
}

// get reads what the cache alone has.
func (t *task) get() { t.getFrom(t.h.Cache) }

// readOnly is get by a handle of its own.
func (t *task) readOnly() {
	opts := []cache.Option{cache.WithReadOnly()}
	if t.oneIn(2) {
		opts = append(opts, cache.WithVerifyReads())
	}
	c, err := cache.Open(t.c.cfg.cacheDir(), opts...)
	if !t.check(err) {
		return
	}
	for range 5 {
		t.getFrom(c)
		t.l = t.c.set[t.rnd.IntN(len(t.c.set))]
	}
	t.check(c.Close())
}

func (t *task) getFrom(c *cache.Cache) {
	h := t.l.Digest
	if t.oneIn(2) {
		h = t.l.DiffID
	}
	l, err := c.Get(h)
	mayVanish := is(cache.ErrNotFound) // another process may delete it at any time
	if !t.check(err, mayVanish) {
		return
	}
	if t.oneIn(2) {
		t.consume(l.Uncompressed, t.l.DiffID, t.l.Tar, mayVanish)
		return
	}
	digest, err := l.Digest()
	if !t.check(err, mayVanish) {
		return
	}
	content := t.l.Blob
	if digest != t.l.Digest { // made of the tar, after the blob was deleted
		content = nil
	}
	t.consume(l.Compressed, digest, content, mayVanish)
}

func (t *task) delete() {
	if isKept(t.l) {
		return
	}
	h := t.l.Digest
	if t.oneIn(2) {
		h = t.l.DiffID
	}
	t.check(t.h.Delete(h), is(cache.ErrNotFound, cache.ErrLocked))
}

func (t *task) flush() { t.check(t.h.Flush(), is(cache.ErrLocked)) }

// fill fills several layers, and gives up now and then.
func (t *task) fill() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if t.oneIn(4) {
		defer time.AfterFunc(time.Duration(t.rnd.IntN(50))*time.Millisecond, cancel).Stop()
	}
	var ls []v1.Layer
	may := []func(error) bool{is(context.Canceled), wasTakenAway}
	for range 1 + t.rnd.IntN(4) {
		l := t.c.set[t.rnd.IntN(len(t.c.set))]
		f := t.originFault(l)
		ls = append(ls, l.Origin(f))
		may = append(may, made(f))
	}
	fill := t.h.Fill
	if t.oneIn(2) {
		fill = t.h.FillUncompressed
	}
	t.l.N = -1 // not the one that the task began with
	t.check(fill(ctx, ls...), may...)
}

// wasTakenAway reports whether Fill did not find what it had filled: another
// process deleted it at once.
func wasTakenAway(err error) bool { return errors.Is(err, cache.ErrNotKept) }
