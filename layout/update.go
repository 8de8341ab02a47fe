package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A Tx is the instant in which this process is the only one that writes. It
// is for one goroutine, and ends with the function that it was given to.
type Tx struct {
	l       *Layout
	added   []v1.Hash // committed, where there was none
	trashed []string
}

// Update runs fn under the writers' lock, after the replica has caught up
// with all that other processes did. What fn renames and appends is visible
// to all at once. If fn fails, the blobs that it added go again, so that none
// stays that no record lists; all else stays: it must check first. It must not
// call Update or Checkpoint. The error is [ErrLocked] if the lock was not
// to be had before ctx ended or the lock timeout passed.
func (l *Layout) Update(ctx context.Context, fn func(*Tx) error) error {
	tx := &Tx{l: l}
	err := l.patiently(func() error {
		return l.exclusive(ctx, func() error {
			l.log.mu.Lock()
			err := l.catchUp()
			l.log.mu.Unlock()
			if err != nil {
				return err
			}
			return tx.run(fn)
		})
	})
	tx.empty()
	return err
}

// run runs fn, and takes back what it added if it fails.
func (tx *Tx) run(fn func(*Tx) error) error {
	err := fn(tx)
	if err == nil {
		return nil
	}
	for _, h := range tx.added {
		err = errors.Join(err, tx.Trash(h))
	}
	return err
}

// Commit makes an ingest's bytes the blob of h, in the place of whatever is
// there, and returns the file's modification time in nanoseconds since the
// Unix epoch. The caller has checked that the bytes hash to h. The ingest
// stays readable until it is closed. It is spent, also if the update fails.
func (tx *Tx) Commit(in *Ingest, h v1.Hash) (modTime int64, err error) {
	if !tx.l.Valid(h) {
		return 0, fmt.Errorf("commit %q: not a digest that can name a blob", h)
	}
	if err := in.settle(); err != nil {
		return 0, err
	}
	_, _, missing := tx.l.StatBlob(h)
	err = tx.l.root.rename(ingestDir+"/"+in.name, BlobPath(h)) // the commit point of the bytes
	if errors.Is(err, fs.ErrNotExist) {
		if err = tx.l.makeBlobDir(h); err == nil {
			err = tx.l.root.rename(ingestDir+"/"+in.name, BlobPath(h)) // or here
		}
	}
	if err != nil {
		return 0, err
	}
	in.committed = true
	if errors.Is(missing, fs.ErrNotExist) {
		tx.added = append(tx.added, h)
	}
	_, modTime, err = tx.l.StatBlob(h)
	if errors.Is(err, fs.ErrNotExist) { // another tool made the directory anew
		tx.l.forgetBlobDir(h)
		_, modTime, err = tx.l.StatBlob(h)
	}
	return modTime, err
}

// Trash takes a blob out of the layout; its bytes go when the update is
// over. A blob that is not there is no error. The record of it is appended
// first.
func (tx *Tx) Trash(h v1.Hash) error {
	name := trashDir + "/" + h.Hex + "-" + random()
	if err := tx.moveAway(h, name); err != nil {
		return err
	}
	tx.trashed = append(tx.trashed, name)
	return nil
}

// Remove appends the record of a blob's removal, and takes the blob out of
// the layout, like Trash. On a full disk it is the other way round, so that
// the bytes make room for the record: a blob that is listed and not there is
// a miss, as it is after the record.
func (tx *Tx) Remove(h v1.Hash, record []byte) error {
	err := tx.Append(record)
	if err != nil && !isFull(err) {
		return err
	}
	if terr := tx.Trash(h); err == nil || terr != nil {
		return terr
	}
	tx.empty()
	return tx.Append(record)
}

// empty unlinks what was trashed. What cannot be, sweep finds.
func (tx *Tx) empty() {
	for _, name := range tx.trashed {
		_ = tx.l.root.remove(name)
	}
	tx.trashed = nil
}

func (tx *Tx) moveAway(h v1.Hash, name string) error {
	if !tx.l.Valid(h) {
		return nil
	}
	err := tx.l.root.rename(BlobPath(h), name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if there, err := tx.l.exists(BlobPath(h)); !there || err != nil {
		return err
	}
	if err := tx.l.root.mkdir(path.Dir(name), 0o700); err != nil { // another tool removed it
		return err
	}
	return tx.l.root.rename(BlobPath(h), name)
}

// Append adds records, JSON objects, to the journal, and applies them to the
// replica. On an error none of them is there; a crash may leave the first of
// them, so each must be true by itself.
func (tx *Tx) Append(records ...[]byte) error {
	lg := &tx.l.log
	lg.mu.Lock()
	defer lg.mu.Unlock()

	if err := tx.l.ensureJournal(); err != nil {
		return err
	}
	var lines []byte
	for i, r := range records {
		if len(r) > maxRecord-recordOverhead {
			return fmt.Errorf("a record of %d bytes is too long for %s", len(r), tx.l.path(journalFile))
		}
		lines = append(lines, numbered(min(lg.journal.number+uint64(i)+1, maxNumber), r)...)
	}
	if err := tx.l.appendJournal(lines); err != nil {
		return err
	}
	return lg.journal.readOn(lg.replica)
}

// ensureJournal makes the journal that is appended to, if there is none. The
// writers' lock and log.mu are held, and the log is caught up.
func (l *Layout) ensureJournal() error {
	current, err := l.root.stat(journalFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && l.log.journal != nil {
		if same, err := l.log.journal.is(current); err != nil || same {
			return err
		}
	}
	previous := ""
	if l.log.journal != nil {
		previous = l.log.journal.generation // a checkpoint died after it set this one aside
	}
	name, err := l.newJournal(previous)
	if err != nil {
		return err
	}
	return l.beginJournal(name)
}

// appendJournal writes lines behind the last whole line. What a crash tore
// is cut off first, and so is what a full disk tears now.
func (l *Layout) appendJournal(lines []byte) error {
	f, end := l.log.journal.file, l.log.journal.offset
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() > end {
		if err := f.truncate(end); err != nil {
			return err
		}
	}
	if l.log.journal.inLine {
		lines = append([]byte{'\n'}, lines...)
	}
	if _, err := f.WriteAt(lines, end); err != nil { // the commit point of the records
		return errors.Join(err, f.truncate(end))
	}
	return nil
}

// JournalSize returns the length in bytes of what the journal holds, as far
// as this process has read it.
func (l *Layout) JournalSize() int64 {
	l.log.mu.Lock()
	defer l.log.mu.Unlock()
	if l.log.journal == nil {
		return 0
	}
	return l.log.journal.offset
}
