package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// builds are the builds under way in this process.
type builds struct {
	ctx    context.Context // ends when Close is called
	stop   context.CancelCauseFunc
	gaveUp <-chan struct{} // closed when Close waits no longer
	lost   func(*panicked) // is told of a panic that nobody waits for

	mu     sync.Mutex
	m      map[string]*buildCall // guarded by mu, as is all below
	turns  map[string]*turn      // by key
	n      map[string]int        // by key: locks that are held, and functions that run
	idle   chan struct{}         // closed when n gets empty, nil unless somebody waits
	closed bool
}

type buildCall struct {
	waiting int // guarded by builds.mu
	cancel  context.CancelFunc
	done    chan struct{} // closed when what is below is set
	layer   v1.Layer
	err     error
	panic   *panicked
}

// A turn is the right of one in this process to build a key.
type turn struct {
	taken chan struct{} // holds one
	n     int           // guarded by builds.mu: who has it or waits
}

// panicked is a panic of a build function, where it is raised again.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("%v\n\n%s", p.value, p.stack) }

func (p *panicked) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// asPanicked returns what recover returned as a *panicked, nil if that was nil.
func asPanicked(value any) *panicked {
	if p, ok := value.(*panicked); ok || value == nil {
		return p
	}
	return &panicked{value: value, stack: debug.Stack()}
}

var (
	errExited  = errors.New("the build function ended its goroutine")
	errNoLayer = errors.New("the build function returned no layer")
)

// do runs fn once for all who ask for a key meanwhile, and reports whether it
// had begun before. Its context ends when nobody waits any more.
func (b *builds) do(ctx context.Context, key string, fn func(context.Context) (v1.Layer, error)) (l v1.Layer, joined bool, err error) {
	call, joined := b.join(ctx, key, fn)
	defer b.leave(key, call)
	select {
	case <-call.done:
		if call.panic != nil {
			panic(call.panic)
		}
		return call.layer, joined, call.err
	case <-ctx.Done():
		return nil, joined, context.Cause(ctx)
	case <-b.gaveUp:
		return nil, joined, ErrClosed
	}
}

func (b *builds) join(ctx context.Context, key string, fn func(context.Context) (v1.Layer, error)) (call *buildCall, joined bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	call, joined = b.m[key]
	if !joined {
		if b.m == nil {
			b.m = map[string]*buildCall{}
		}
		bctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		call = &buildCall{cancel: cancel, done: make(chan struct{}), err: errExited}
		b.m[key] = call
		go b.run(bctx, key, call, fn)
	}
	call.waiting++
	return call, joined
}

func (b *builds) run(ctx context.Context, key string, call *buildCall, fn func(context.Context) (v1.Layer, error)) {
	defer func() { // which runtime.Goexit comes to, too
		call.panic = asPanicked(recover())
		call.cancel()
		if b.forget(key, call) && call.panic != nil {
			b.lost(call.panic)
		}
		close(call.done)
	}()
	call.layer, call.err = fn(ctx)
}

// forget lets nobody join a call any more, and reports whether nobody waits
// for it.
func (b *builds) forget(key string, call *buildCall) (alone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m[key] == call {
		delete(b.m, key)
	}
	return call.waiting == 0
}

// leave ends a build that nobody waits for.
func (b *builds) leave(key string, call *buildCall) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if call.waiting--; call.waiting > 0 {
		return
	}
	call.cancel()
	if b.m[key] == call {
		delete(b.m, key) // who comes now starts another
	}
}

// take waits until nobody else in this process builds a key.
func (b *builds) take(ctx context.Context, key string) (release func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.turns == nil {
		b.turns = map[string]*turn{}
	}
	t := b.turns[key]
	if t == nil {
		t = &turn{taken: make(chan struct{}, 1)}
		b.turns[key] = t
	}
	t.n++
	b.mu.Unlock()
	select {
	case t.taken <- struct{}{}:
		release = func() {
			<-t.taken
			b.mu.Lock()
			defer b.mu.Unlock()
			b.drop(key, t)
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	b.mu.Lock()
	if err != nil {
		b.drop(key, t)
	}
	return release, err
}

// drop counts one less who has a turn or waits for it. mu is held.
func (b *builds) drop(key string, t *turn) {
	if t.n--; t.n == 0 {
		delete(b.turns, key)
	}
}

// begin counts something that Close has to wait for.
func (b *builds) begin(key string) (end func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	if b.n == nil {
		b.n = map[string]int{}
	}
	b.n[key]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.n[key]--; b.n[key] == 0 {
			delete(b.n, key)
		}
		if len(b.n) == 0 && b.idle != nil {
			close(b.idle)
			b.idle = nil
		}
	}, nil
}

// close lets nothing begin any more, and ends the contexts of builds.
func (b *builds) close(cause error) {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop(cause)
}

// wait waits until nothing is under way, and reports whether that was so in
// time.
func (b *builds) wait(limit time.Duration) bool {
	b.mu.Lock()
	if len(b.n) == 0 {
		b.mu.Unlock()
		return true
	}
	if b.idle == nil {
		b.idle = make(chan struct{})
	}
	idle := b.idle
	b.mu.Unlock()
	select {
	case <-idle:
		return true
	case <-time.After(limit):
		return false
	}
}

// running returns the keys that are being built.
func (b *builds) running() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.n))
}

// lockBuild waits until nobody else builds a key, in this process or another.
// Whoever reads the key's layer may wait, so nobody who has the lock is to
// wait for a reader.
func (c *Cache) lockBuild(ctx context.Context, key string) (unlock func(), err error) {
	ctx, cancel := c.untilClose(ctx)
	defer cancel()
	release, err := c.builds.take(ctx, key)
	if err != nil {
		return nil, err
	}
	end, err := c.builds.begin(key)
	if err != nil {
		release()
		return nil, err
	}
	done := func() { release(); end() }
	sum := sha256.Sum256([]byte(key))
	unlockKey, err := c.layout.LockKey(ctx, hex.EncodeToString(sum[:]))
	switch {
	case err == nil:
		return func() { c.faulted(unlockKey()); done() }, nil
	case ctx.Err() != nil:
		done()
		return nil, context.Cause(ctx)
	case !errors.Is(err, ErrReadOnly):
		c.fault(err) // the build may be run twice
	}
	return done, nil
}

// untilClose returns a context that ends with ctx, or when Close is called.
func (c *Cache) untilClose(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.builds.ctx, func() { cancel(context.Cause(c.builds.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}

// runBuild runs a build function, in a goroutine of its own, which it may end.
// It panics if that does. When Close waits no longer, it returns.
func (c *Cache) runBuild(ctx context.Context, key string, build func(context.Context) (v1.Layer, error)) (v1.Layer, error) {
	end, err := c.builds.begin(key)
	if err != nil {
		return nil, err
	}
	c.count.builds.Add(1)
	call := &buildCall{done: make(chan struct{}), err: errExited}
	go func() {
		defer end()
		defer close(call.done)
		defer func() { call.panic = asPanicked(recover()) }()
		call.layer, call.err = build(context.WithValue(ctx, buildingKey{}, &building{c, key, buildingIn(ctx)}))
	}()
	select {
	case <-call.done:
	case <-c.ctx.Done():
		return nil, ErrClosed
	}
	switch {
	case call.panic != nil:
		panic(call.panic)
	case call.err == nil && call.layer == nil:
		return nil, errNoLayer
	}
	return call.layer, call.err
}

// closing returns what Close ended a build's context with in place of what the
// build made of that.
func closing(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrClosed) {
		return cause
	}
	return err
}

type buildingKey struct{}

// building is a build that a context was given to.
type building struct {
	c      *Cache
	key    string
	within *building // nil: it is within no other
}

func buildingIn(ctx context.Context) *building {
	b, _ := ctx.Value(buildingKey{}).(*building)
	return b
}

// isWithin reports whether a context is that of a build of a key.
func (c *Cache) isWithin(ctx context.Context, key string) bool {
	for b := buildingIn(ctx); b != nil; b = b.within {
		if b.c == c && b.key == key {
			return true
		}
	}
	return false
}
