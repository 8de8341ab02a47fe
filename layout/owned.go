package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/gofrs/flock"
)

// lockSuffix is that of the lock file beside a file that belongs to a process.
const lockSuffix = ".lock"

// lockNew finds a name for a file in a folder, and creates and locks its lock
// file. A sweep, which may be in another process, can take the new file for
// debris before it is locked; then another name is tried.
func (l *Layout) lockNew(d *folder) (name string, lock *flock.Flock, err error) {
	for try := range 10 {
		time.Sleep(time.Duration(try) * time.Millisecond)
		name := random()
		lock := l.flock(d.name + "/" + name + lockSuffix)
		ok, err := l.tryLock(lock, d.name+"/"+name+lockSuffix)
		if ok {
			ok, err = isOf(lock, d, name)
		}
		if ok {
			return name, lock, nil
		}
		_ = lock.Close()
		if err != nil {
			return "", nil, err
		}
	}
	return "", nil, fmt.Errorf("%s: the directory is another one than was opened", l.path(d.name))
}

// isOf reports whether a lock is on the lock file of that name, not on one
// that was removed before it was locked.
func isOf(lock *flock.Flock, d *folder, name string) (bool, error) {
	held, err := lock.Stat()
	if err != nil {
		return false, err
	}
	there, err := d.lstat(name + lockSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(held, there), err
}

// unlock removes a lock file, and gives the lock up.
func unlock(lock *flock.Flock, d *folder, name string) error {
	if removeBeforeUnlock {
		return errors.Join(d.remove(name+lockSuffix), lock.Close())
	}
	return errors.Join(lock.Close(), d.remove(name+lockSuffix))
}

// sweepFile removes a file whose lock nobody holds, and reports whether it
// did. The lock file is made if it is missing: another tool may have removed it.
func (l *Layout) sweepFile(d *folder, name string) bool {
	lock := l.flock(d.name + "/" + name + lockSuffix)
	ok, err := lock.TryLock()
	if ok {
		ok, err = isOf(lock, d, name)
	}
	if err != nil || !ok {
		_ = lock.Close()
		return false
	}
	_ = d.remove(name)
	_ = unlock(lock, d, name)
	return true
}

// LockKey waits until this process is the only one that holds the lock of a
// name, of letters and digits, or until ctx ends. A process that ends lets go
// of it. Unlock is called once.
func (l *Layout) LockKey(ctx context.Context, name string) (unlockKey func() error, err error) {
	if l.readOnly {
		return nil, fmt.Errorf("%s: %w", l.dir, ErrReadOnly)
	}
	removed := 0 // how often the lock was had, of a file that was not there any more
	for wait := time.Millisecond; removed < 10; wait = min(2*wait, 100*time.Millisecond) {
		file := keyDir + "/" + name + lockSuffix
		lock := l.flock(file)
		ok, err := l.tryLock(lock, file)
		if ok {
			removed++
			ok, err = isOf(lock, l.keys, name)
		}
		if ok {
			return func() error { return unlock(lock, l.keys, name) }, nil
		}
		_ = lock.Close()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", l.path(file), err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: %w (%w)", l.path(file), ErrLocked, ctx.Err())
		}
	}
	return nil, fmt.Errorf("%s: the directory is another one than was opened", l.path(l.keys.name))
}
