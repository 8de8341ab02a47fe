package layout

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// lockSuffix is that of the lock file beside an ingest.
const lockSuffix = ".lock"

// An Ingest is a blob that is being written, by one goroutine at a time. Its
// file has a lock file beside it, locked for as long as the ingest lasts, so
// that debris of a process that died can be told from work under way.
type Ingest struct {
	File
	l         *Layout
	name      string // in ingestDir
	lock      *flock.Flock
	committed bool
	released  bool
}

// Ingest starts to write a blob. The caller closes it, which discards what
// was not committed.
func (l *Layout) Ingest() (*Ingest, error) {
	if l.readOnly {
		return nil, fmt.Errorf("ingest in %s: %w", l.dir, ErrReadOnly)
	}
	name, lock, err := l.lockIngest()
	if err != nil {
		return nil, err
	}
	f, err := l.ingests.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, errors.Join(err, l.unlockIngest(name, lock))
	}
	return &Ingest{File: f, l: l, name: name, lock: lock}, nil
}

// lockIngest finds a name for an ingest, and creates and locks its lock file.
// A sweep, which may be in another process, can take the new file for debris
// before it is locked; then another name is tried.
func (l *Layout) lockIngest() (name string, lock *flock.Flock, err error) {
	for try := range 10 {
		time.Sleep(time.Duration(try) * time.Millisecond)
		name := random()
		lock := l.flock(ingestDir + "/" + name + lockSuffix)
		ok, err := l.tryLock(lock, ingestDir+"/"+name+lockSuffix)
		if err != nil {
			return "", nil, err
		}
		if ok && l.holds(lock, name) {
			return name, lock, nil
		}
		_ = lock.Close()
	}
	return "", nil, fmt.Errorf("ingest in %s: the directory is another one than was opened", l.dir)
}

// holds reports whether a lock is on the file that an ingest's lock file has
// the name of, not on one that was removed before it was locked.
func (l *Layout) holds(lock *flock.Flock, name string) bool {
	held, err := lock.Stat()
	if err != nil {
		return false
	}
	there, err := l.ingests.lstat(name + lockSuffix)
	return err == nil && os.SameFile(held, there)
}

func (l *Layout) unlockIngest(name string, lock *flock.Flock) error {
	if removeBeforeUnlock {
		return errors.Join(l.ingests.remove(name+lockSuffix), lock.Close())
	}
	return errors.Join(lock.Close(), l.ingests.remove(name+lockSuffix))
}

// Committed reports whether the bytes became a blob.
func (in *Ingest) Committed() bool { return in.committed }

// Release ends the writing: bytes that were not committed are discarded, and
// the lock is given up. The file can be read until it is closed. Releasing
// twice is harmless.
func (in *Ingest) Release() error {
	if in.released {
		return nil
	}
	in.released = true
	var err error
	if !in.committed {
		err = in.l.ingests.remove(in.name)
	}
	return errors.Join(err, in.l.unlockIngest(in.name, in.lock))
}

// Close releases the ingest and closes the file. Closing twice is harmless.
func (in *Ingest) Close() error {
	err := in.Release()
	if cerr := in.File.Close(); !errors.Is(cerr, fs.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}

// settle gives the file a modification time that no later write can have:
// some seconds ago, whole. With that time recorded, a change of the bytes
// shows, however coarse the file system's clock is.
func (in *Ingest) settle() error {
	then := time.Now().Add(-settled).Truncate(settled)
	return in.l.ingests.setModTime(in.name, then)
}

// settled is how old a modification time must be for a later write to show;
// FAT has the coarsest clock, of two seconds.
const settled = 2 * time.Second

// sweep removes what dead processes left in ingest and trash. Debris does no
// harm but to take room, so errors are not reported.
func (l *Layout) sweep() {
	if l.readOnly {
		return
	}
	names, _ := l.ingests.list(".", -1)
	for _, name := range names {
		l.sweepIngest(strings.TrimSuffix(name, lockSuffix))
	}
	names, _ = l.root.list(trashDir, -1)
	for _, name := range names {
		_ = l.root.remove(trashDir + "/" + name)
	}
}

// sweepIngest removes an ingest that nobody holds the lock of. The lock file
// is made if it is missing: another tool may have removed it.
func (l *Layout) sweepIngest(name string) {
	lock := l.flock(ingestDir + "/" + name + lockSuffix)
	if ok, err := lock.TryLock(); err != nil || !ok || !l.holds(lock, name) {
		_ = lock.Close()
		return
	}
	_ = l.ingests.remove(name)
	_ = l.unlockIngest(name, lock)
}

func random() string { return strings.ToLower(rand.Text()) }
