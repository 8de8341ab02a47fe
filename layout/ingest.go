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

// An Ingest is a blob that is being written, by one goroutine at a time. Its
// file has a lock file beside it, locked for as long as the ingest lasts, so
// that debris of a process that died can be told from work under way.
type Ingest struct {
	*os.File
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
	name := random()
	lock, err := l.lockIngest(name)
	if err != nil {
		return nil, err
	}
	f, err := l.ingests.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, errors.Join(err, l.unlockIngest(name, lock))
	}
	return &Ingest{File: f, l: l, name: name, lock: lock}, nil
}

// lockIngest creates and locks the lock file of an ingest. A sweep of
// another process may take the new file for debris in between; the lock then
// stands on a file that is gone, and another is made.
func (l *Layout) lockIngest(name string) (*flock.Flock, error) {
	for range 10 {
		lock := flock.New(l.path(ingestDir + "/" + name + ".lock"))
		ok, err := lock.TryLock()
		if err != nil {
			return nil, err
		}
		if _, serr := l.ingests.Lstat(name + ".lock"); ok && serr == nil {
			return lock, nil
		}
		_ = lock.Close()
	}
	return nil, fmt.Errorf("ingest in %s: the directory is another one than was opened", l.dir)
}

func (l *Layout) unlockIngest(name string, lock *flock.Flock) error {
	if removeBeforeUnlock {
		return errors.Join(l.ingests.Remove(name+".lock"), lock.Close())
	}
	return errors.Join(lock.Close(), l.ingests.Remove(name+".lock"))
}

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
		err = in.l.ingests.Remove(in.name)
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
	return in.l.ingests.Chtimes(in.name, then, then)
}

// settled is how old a modification time must be for a later write to show;
// FAT has the coarsest clock, of two seconds.
const settled = 2 * time.Second

// sweep removes what dead processes left in ingest and trash. Debris does no
// harm but to take room, so errors are not reported.
func (l *Layout) sweep() {
	for _, name := range l.list(ingestDir) {
		if data, ok := strings.CutSuffix(name, ".lock"); ok {
			l.sweepIngest(data)
		}
	}
	for _, name := range l.list(trashDir) {
		l.root.Remove(trashDir + "/" + name)
	}
}

func (l *Layout) sweepIngest(name string) {
	lock := flock.New(l.path(ingestDir+"/"+name+".lock"), flock.SetFlag(os.O_RDWR))
	if ok, err := lock.TryLock(); err != nil || !ok {
		_ = lock.Close()
		return
	}
	l.ingests.Remove(name)
	_ = l.unlockIngest(name, lock)
}

func (l *Layout) list(dir string) []string {
	d, err := l.root.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return names
}

func random() string { return strings.ToLower(rand.Text()) }
