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
	name, lock, err := l.lockNew(l.ingests)
	if err != nil {
		return nil, err
	}
	f, err := l.ingests.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, errors.Join(err, unlock(lock, l.ingests, name))
	}
	return &Ingest{File: f, l: l, name: name, lock: lock}, nil
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
	return errors.Join(err, unlock(in.lock, in.l.ingests, in.name))
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

// Sweep removes what dead processes left in ingest, leases, keys and trash. Debris does no
// harm but to take room, so errors are not reported.
func (l *Layout) Sweep() {
	if l.readOnly {
		return
	}
	for _, d := range []*folder{l.ingests, l.leases, l.keys} {
		names, _ := d.list(".", -1)
		for _, name := range names {
			l.sweepFile(d, strings.TrimSuffix(name, lockSuffix))
		}
	}
	names, _ := l.root.list(trashDir, -1)
	for _, name := range names {
		_ = l.root.remove(trashDir + "/" + name)
	}
}

func random() string { return strings.ToLower(rand.Text()) }
