package layout

import (
	"errors"
	"io/fs"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Quarantine takes a blob out of the layout and keeps its bytes aside, one
// file for each digest.
func (tx *Tx) Quarantine(h v1.Hash) error {
	name := quarantineDir + "/" + h.Algorithm + "-" + h.Hex
	if fi, err := tx.l.root.lstat(name); err == nil && fi.IsDir() {
		name += "-" + random() // a directory was put aside before, and stays
	}
	if err := tx.moveAway(h, name); err != nil {
		return err
	}
	tx.l.stamp(name)
	return nil
}

// stamp makes the modification time of a file the time when it was put aside.
func (l *Layout) stamp(name string) {
	if fi, err := l.root.lstat(name); err == nil && fi.Mode().IsRegular() {
		_ = l.root.setModTime(name, time.Now()) // else it counts as old
	}
}

// A Quarantined is a file, or whatever else stood in the place of one, that
// was put aside.
type Quarantined struct {
	Name  string // in .ocicache/quarantine: of a blob, its digest with - for :
	Size  int64  // in bytes
	Since time.Time
}

// Quarantined returns what was put aside, in no particular order.
func (l *Layout) Quarantined() (qs []Quarantined, err error) {
	names, err := l.root.list(quarantineDir, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, name := range names {
		if fi, err := l.root.lstat(quarantineDir + "/" + name); err == nil { // else it has gone
			qs = append(qs, Quarantined{name, fi.Size(), fi.ModTime()})
		}
	}
	return qs, err
}

// RemoveQuarantined removes what was put aside under a name.
func (l *Layout) RemoveQuarantined(name string) error {
	if l.readOnly {
		return ErrReadOnly
	}
	return l.root.removeAll(quarantineDir + "/" + name)
}
