package layout

import (
	"errors"
	"io/fs"
	"os"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Boot names the system's present boot: bytes that were written under another
// one and not synced may be lost. Where it cannot be told, each process is
// one.
func Boot() string { return boot() }

// SyncBlob brings a committed blob's bytes to stable storage. Its name is
// safe after [Layout.SyncDirs]. A blob that is not there is fs.ErrNotExist.
func (l *Layout) SyncBlob(h v1.Hash) error {
	dir, err := l.blobDir(h)
	if err != nil {
		return err
	}
	return syncFile(dir, h.Hex)
}

// SyncDirs brings the names of all committed blobs to stable storage.
func (l *Layout) SyncDirs() error {
	for alg := range l.algs {
		err := l.syncDirs(path.Join(ocispec.ImageBlobsDir, alg))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// SyncJournal brings the journal's records to stable storage, also those that
// a checkpoint has just set aside. If it has removed them, they are in the
// index, and safe.
func (l *Layout) SyncJournal() error {
	for _, name := range []string{journalFile, oldJournal} { // in the order in which records move
		if err := syncFile(l.root, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// syncDirs syncs directories, so that the names in them are safe. Windows
// cannot, and does not need to.
func (l *Layout) syncDirs(names ...string) error {
	if !canSyncDir {
		return nil
	}
	for _, name := range names {
		d, err := l.root.open(name, os.O_RDONLY)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

func syncFile(root *folder, name string) error {
	f, err := root.open(name, syncFlag)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
