package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/internal/fill"
)

// A fillKey is what makes two reads one fill.
type fillKey struct {
	of   v1.Hash // the digest, or for tarOf the diffID
	form form
	alg  string // that the bytes are hashed by
}

type form uint8

const (
	compressed   form = iota // the blob of a digest, from an origin
	decompressed             // the tar that the blob of a digest decompresses to
	recompressed             // the blob of a digest, from the tar
	packed                   // a blob made of the tar of a diffID, its digest yet unknown
	tarOf                    // the tar of a diffID, from an origin that has no other form
)

// fills are the fills under way in this process.
type fills struct {
	mu     sync.Mutex
	m      map[fillKey]*fill.Fill // guarded by mu
	n      int                    // guarded by mu: those in m, and those without a key
	idle   chan struct{}          // guarded by mu: closed when n falls to 0, nil unless somebody waits
	closed bool                   // guarded by mu
}

// errChanged is returned by join when there is something new to look at: a
// fill has just ended.
var errChanged = errors.New("look again")

// join returns a place among the readers of the fill of key, and starts it
// if there is none; then own is true. It starts none if the catalog changed
// since the caller looked: a fill commits before it is forgotten here, so a
// layer is not fetched again by who looked before and came after.
func (fs *fills) join(ctx context.Context, key fillKey, changed func() bool, config func() fill.Config) (ref *fill.Ref, own bool, err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return nil, false, ErrClosed
	}
	if f := fs.m[key]; f != nil {
		if ref := f.Join(); ref != nil {
			return ref, false, nil
		}
	}
	if changed() {
		return nil, false, errChanged
	}
	if fs.m == nil {
		fs.m = map[fillKey]*fill.Fill{}
	}
	var f *fill.Fill
	cfg := config()
	cfg.Done = func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		if fs.m[key] == f {
			delete(fs.m, key)
		}
		fs.done()
	}
	fs.n++
	f, ref = fill.Start(ctx, cfg)
	fs.m[key] = f
	return ref, true, nil
}

// start starts a fill that nobody else can join by a key.
func (fs *fills) start(ctx context.Context, cfg fill.Config) (*fill.Fill, *fill.Ref, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return nil, nil, ErrClosed
	}
	cfg.Done = func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		fs.done()
	}
	fs.n++
	f, ref := fill.Start(ctx, cfg)
	return f, ref, nil
}

// done counts a fill that ended. mu is held.
func (fs *fills) done() {
	fs.n--
	if fs.n == 0 && fs.idle != nil {
		close(fs.idle)
		fs.idle = nil
	}
}

// close lets no fill start any more, and stops those that nobody has read. It
// reports false if that was so before.
func (fs *fills) close(cause error) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return false
	}
	fs.closed = true
	for _, f := range fs.m {
		f.StopUnread(cause)
	}
	return true
}

// whileOpen calls fn, unless close was called before. It reports whether it
// did.
func (fs *fills) whileOpen(fn func()) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !fs.closed {
		fn()
	}
	return !fs.closed
}

func (fs *fills) isClosed() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.closed
}

// wait waits until no fill is under way, and reports whether that was so in
// time.
func (fs *fills) wait(limit time.Duration) bool {
	fs.mu.Lock()
	if fs.n == 0 {
		fs.mu.Unlock()
		return true
	}
	if fs.idle == nil {
		fs.idle = make(chan struct{})
	}
	idle := fs.idle
	fs.mu.Unlock()
	select {
	case <-idle:
		return true
	case <-time.After(limit):
		return false
	}
}

// running returns what is being filled.
func (fs *fills) running() []v1.Hash {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var hs []v1.Hash
	for key := range fs.m {
		hs = append(hs, key.of)
	}
	return hs
}
