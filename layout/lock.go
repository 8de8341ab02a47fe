package layout

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"time"

	"github.com/gofrs/flock"
)

// exclusive runs fn while this process is the only one of all that writes.
// The writers' lock is for an instant: fn does no network I/O and no work
// that grows with a blob's size.
func (l *Layout) exclusive(ctx context.Context, fn func() error) error {
	return l.locked(ctx, l.writer, lockFile, fn)
}

// locked runs fn holding first the process's own token and then the lock
// file, so that the goroutines of one process do not poll against each
// other.
func (l *Layout) locked(ctx context.Context, token chan struct{}, name string, fn func() error) error {
	if l.readOnly {
		return fmt.Errorf("%s: %w", l.dir, ErrReadOnly)
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()

	select {
	case token <- struct{}{}: // even if ctx has ended: trying costs no wait
	default:
		select {
		case token <- struct{}{}:
		case <-ctx.Done():
			return l.lockError(ctx, name)
		}
	}
	defer func() { <-token }()
	if l.closed.Load() {
		return fmt.Errorf("%s: %w", l.dir, fs.ErrClosed)
	}

	lock := l.flock(name)
	defer lock.Close()
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 5*time.Millisecond) {
		ok, err := l.tryLock(lock, name)
		if err != nil {
			return fmt.Errorf("lock %s: %w", l.path(name), err)
		}
		if ok {
			return fn()
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return l.lockError(ctx, name)
		}
	}
}

// flock returns the lock of a file, not yet taken. It is opened by its path,
// and no link or FIFO that somebody put there leads away or makes it wait.
func (l *Layout) flock(name string) *flock.Flock {
	return flock.New(l.path(name), flock.SetFlag(os.O_RDWR|os.O_CREATE|openNoFollow|openNonblock))
}

func (l *Layout) tryLock(lock *flock.Flock, name string) (bool, error) {
	if err := l.root.before("lock", name); err != nil {
		return false, err
	}
	if err := l.root.isFolder(path.Dir(name)); err != nil {
		return false, err
	}
	return lock.TryLock()
}

func (l *Layout) lockError(ctx context.Context, name string) error {
	return fmt.Errorf("lock %s: %w (%w)", l.path(name), ErrLocked, ctx.Err())
}
