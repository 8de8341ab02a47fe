package layout

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Replica is what the layout's log, index.json and then the journal, is
// read into. Its methods are called one at a time, by whichever goroutine
// reads on.
type Replica interface {
	// Reset begins anew with the content of index.json, nil if there is no
	// such file. It returns the last journal record that the index holds, as
	// [Checkpoint.Folded] gave it, or "".
	Reset(index []byte) (folded string, err error)
	// Apply adds one journal record: a line without its end. It is also
	// called for what the replica's own process appended. What it cannot
	// read it leaves out.
	Apply(record []byte)
	// End ends what Reset began. Only if ok is the new state whole, and takes
	// the place of the one before; else that one stays.
	End(ok bool)
}

// log is how far this process has read index.json and the journal.
//
// The journal is kept open, so that its last records can be read after it
// was set aside, or removed, by another process's checkpoint. Records are
// only ever appended to the file that has the journal's name at the time,
// under the writers' lock; a journal that lost the name is complete.
type log struct {
	mu      sync.Mutex
	replica Replica  // guarded by mu, as is all below
	seen    fileID   // of index.json: it holds nothing that the replica lacks, save other tools' descriptors
	loaded  fileID   // of index.json as this process last read or wrote it
	broken  fileID   // of an index.json that could not be read, and stayed so
	journal *journal // nil while there is none
}

func (lg *log) close() {
	lg.mu.Lock()
	defer lg.mu.Unlock()
	if lg.journal != nil {
		lg.journal.Close()
		lg.journal = nil
	}
}

// A fileID tells whether a file was replaced, or written to in place.
type fileID struct {
	info os.FileInfo // nil: no such file
}

func (l *Layout) fileID(name string) fileID {
	fi, err := l.root.stat(name)
	if err != nil {
		return fileID{}
	}
	return fileID{fi}
}

func (a fileID) same(b fileID) bool {
	if a.info == nil || b.info == nil {
		return a.info == nil && b.info == nil
	}
	return os.SameFile(a.info, b.info) && a.info.Size() == b.info.Size() && a.info.ModTime().Equal(b.info.ModTime())
}

// Load reads index.json and the journal into r, which then follows them.
func (l *Layout) Load(r Replica) error {
	return l.patiently(func() error {
		l.log.mu.Lock()
		defer l.log.mu.Unlock()
		l.log.replica = r
		return l.reload()
	})
}

// CatchUp reads what other processes appended or replaced since this one
// last looked. It takes no lock of other processes, and costs two stats if
// nothing changed.
func (l *Layout) CatchUp() error {
	return l.patiently(func() error {
		l.log.mu.Lock()
		defer l.log.mu.Unlock()
		return l.catchUp()
	})
}

// catchUp is CatchUp, with log.mu held.
func (l *Layout) catchUp() error {
	for {
		current, err := l.root.stat(journalFile)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if l.log.journal == nil {
				return l.reloadIfReplaced("")
			}
			// A checkpoint is between setting the old journal aside and
			// making the new one, or died there.
			return l.log.journal.readOn(l.log.replica)
		case err != nil:
			return err
		}
		if l.log.journal == nil {
			return l.reload()
		}
		if same, err := l.log.journal.is(current); err != nil {
			return err
		} else if same {
			if err := l.log.journal.readOn(l.log.replica); err != nil {
				return err
			}
			return l.reloadIfReplaced(l.log.journal.previous)
		}
		if more, err := l.advance(); err != nil || !more {
			return err
		}
	}
}

// advance goes from a journal that was set aside to the one that took its
// name, and reports whether there is more to look at. If that is not its
// direct successor, all is read anew.
func (l *Layout) advance() (more bool, err error) {
	next, err := l.openJournal(journalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	last := l.log.journal
	if next == nil { // as good as none: the last one is still to be read
		return false, last.readOn(l.log.replica)
	}
	if next.previous != last.generation {
		next.Close()
		return true, l.reload()
	}
	if err := last.readOn(l.log.replica); err != nil {
		next.Close()
		return false, err
	}
	last.Close()
	l.log.journal = next
	return true, nil
}

// reloadIfReplaced looks whether index.json is another file than the one
// that was read. One that says it holds the journal of generation previous,
// which this process has read to its end, tells nothing new; any other was
// written by another tool, or after one.
func (l *Layout) reloadIfReplaced(previous string) error {
	now := l.fileID(ocispec.ImageIndexFile)
	if now.same(l.log.seen) {
		return nil
	}
	if previous != "" && l.indexHolds(previous) {
		l.log.seen = now
		return nil
	}
	return l.reload()
}

// reload reads everything from the start: the index, the journal that was
// set aside, the journal, and looks again at the index; if it was replaced
// in between, it starts over.
func (l *Layout) reload() error {
	var last attempt
	for i := range 100 {
		at, err := l.tryReload()
		if err != nil {
			l.log.replica.End(false)
			at.journal.Close()
			return err
		}
		if at.complete || i > 0 && at.same(last) {
			l.log.replica.End(true)
			l.log.journal.Close()
			l.log.seen, l.log.loaded, l.log.journal = at.index, at.index, at.journal
			return nil
		}
		at.journal.Close()
		last = at
	}
	return fmt.Errorf("read %s: it is being replaced all the time", l.path(ocispec.ImageIndexFile))
}

// A tornError is that of an index.json which could not be read.
type tornError struct {
	index fileID
	error
}

func (e *tornError) Unwrap() error { return e.error }

// patiently runs fn, and again after a moment if index.json could not be
// read. Other tools rewrite it in place; what is read in the middle of that
// says nothing. One that stays as it is, is waited for once. No lock is held
// meanwhile.
func (l *Layout) patiently(fn func() error) error {
	begun := time.Now()
	for try := 1; ; try++ {
		err := fn()
		var torn *tornError
		if !errors.As(err, &torn) || torn.index.info == nil || l.isBroken(torn.index) {
			return err
		}
		if try >= 3 && time.Since(begun) > tornPatience {
			l.log.mu.Lock()
			l.log.broken = torn.index
			l.log.mu.Unlock()
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// tornPatience is how long another tool may take to write index.json.
const tornPatience = 200 * time.Millisecond

func (l *Layout) isBroken(index fileID) bool {
	l.log.mu.Lock()
	defer l.log.mu.Unlock()
	return index.same(l.log.broken)
}

// An attempt to read everything.
type attempt struct {
	index, old, current fileID
	journal             *journal
	complete            bool // nothing can have been missed
}

// same reports whether two attempts saw the same files: what is missing then
// is missing for good, as when a tool dropped the index's annotations.
func (a attempt) same(b attempt) bool {
	return a.index.same(b.index) && a.old.same(b.old) && a.current.same(b.current)
}

func (l *Layout) tryReload() (attempt, error) {
	at := attempt{index: l.fileID(ocispec.ImageIndexFile)}
	index, err := l.readIndex()
	if errors.Is(err, ErrTooLarge) {
		return at, &tornError{at.index, err}
	}
	if err != nil {
		return at, err
	}
	foldedMark, err := l.log.replica.Reset(index)
	if err != nil {
		return at, &tornError{at.index, fmt.Errorf("%s: %w", l.path(ocispec.ImageIndexFile), err)}
	}
	have := parseFolded(foldedMark)

	at.old = l.fileID(oldJournal)
	old, err := l.openJournal(oldJournal)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return at, err
	}
	if old != nil {
		at.journal = old
		old.skip(have)
		if err := old.readOn(l.log.replica); err != nil {
			return at, err
		}
		have = folded{generation: old.generation}
	}

	at.current = l.fileID(journalFile)
	current, err := l.openJournal(journalFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return at, err
	}
	at.complete = at.index.same(l.fileID(ocispec.ImageIndexFile))
	if current == nil {
		return at, nil // if an old one was set aside, it is the last there is
	}
	at.journal.Close()
	at.journal = current
	// Its predecessor was read, or is in the index, or there was none.
	at.complete = at.complete && (current.previous == have.generation || current.previous == "" || current.generation == have.generation)
	current.skip(have)
	return at, current.readOn(l.log.replica)
}

// readIndex returns the content of index.json, nil if there is none.
func (l *Layout) readIndex() ([]byte, error) {
	f, err := openRegular(l.root, ocispec.ImageIndexFile, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxIndex {
		return nil, fmt.Errorf("%s: %w: %d bytes, the limit is %d", l.path(ocispec.ImageIndexFile), ErrTooLarge, fi.Size(), int64(maxIndex))
	}
	var b bytes.Buffer
	b.Grow(int(fi.Size()) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(f, maxIndex)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// maxIndex is room for two millions of entries.
const maxIndex = 1 << 30
