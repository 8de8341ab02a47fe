package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Blob is a committed blob, open for reading. The caller closes it. It
// stays readable when the blob is deleted, in this process or another.
type Blob struct {
	File
	Size    int64 // in bytes
	ModTime int64 // in nanoseconds since the Unix epoch
}

// Blob opens the blob of a digest. A blob that is not there, or a digest
// that cannot be a blob's name, is fs.ErrNotExist; something that is no
// regular file is fs.ErrInvalid.
func (l *Layout) Blob(h v1.Hash) (*Blob, error) {
	dir, err := l.blobDir(h)
	if err != nil {
		return nil, err
	}
	f, err := dir.open(h.Hex, os.O_RDONLY)
	if err != nil {
		if fi, serr := dir.lstat(h.Hex); serr == nil && !fi.Mode().IsRegular() && !errors.Is(err, fs.ErrNotExist) {
			err = notRegular("open", h) // a socket, or a link out of the directory
		}
		return nil, err
	}
	fi, err := f.Stat() // with the openat above, all that a warm read costs
	if err == nil && !fi.Mode().IsRegular() {
		err = notRegular("open", h)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &Blob{File: f, Size: fi.Size(), ModTime: fi.ModTime().UnixNano()}, nil
}

// StatBlob returns a blob's size in bytes and its modification time in
// nanoseconds since the Unix epoch. Its errors are those of [Layout.Blob].
func (l *Layout) StatBlob(h v1.Hash) (size, modTime int64, err error) {
	dir, err := l.blobDir(h)
	if err != nil {
		return 0, 0, err
	}
	fi, err := dir.lstat(h.Hex)
	if err != nil {
		return 0, 0, err
	}
	if !fi.Mode().IsRegular() {
		return 0, 0, notRegular("stat", h)
	}
	return fi.Size(), fi.ModTime().UnixNano(), nil
}

// Blobs returns the digests that files in blobs are named by, in no
// particular order. Others are the paths of files there whose names are none.
func (l *Layout) Blobs() (blobs []v1.Hash, others []string, err error) {
	for alg := range l.algs {
		names, err := l.root.list(path.Join(ocispec.ImageBlobsDir, alg), -1)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		for _, name := range names {
			if h := (v1.Hash{Algorithm: alg, Hex: name}); l.Valid(h) {
				blobs = append(blobs, h)
			} else {
				others = append(others, path.Join(ocispec.ImageBlobsDir, alg, name))
			}
		}
	}
	return blobs, others, nil
}

// BlobPath returns the path of a blob in the layout.
func BlobPath(h v1.Hash) string { return path.Join(ocispec.ImageBlobsDir, h.Algorithm, h.Hex) }

func notRegular(op string, h v1.Hash) error {
	return &fs.PathError{Op: op, Path: BlobPath(h), Err: fs.ErrInvalid}
}

// blobDir returns the open directory that the blob of h is, or would be, in.
func (l *Layout) blobDir(h v1.Hash) (*folder, error) {
	if !l.Valid(h) {
		return nil, &fs.PathError{Op: "open", Path: fmt.Sprintf("blob %.80q", h), Err: fs.ErrNotExist}
	}
	alg := l.algs[h.Algorithm]
	alg.mu.Lock()
	defer alg.mu.Unlock()
	if alg.root == nil {
		root, err := l.root.openFolder(path.Join(ocispec.ImageBlobsDir, h.Algorithm))
		if err != nil {
			return nil, err
		}
		alg.root = root
	}
	return alg.root, nil
}

// makeBlobDir makes the directory that the blob of h belongs in, also if
// another tool removed the one that is open.
func (l *Layout) makeBlobDir(h v1.Hash) error {
	l.forgetBlobDir(h)
	if err := l.root.mkdir(path.Join(ocispec.ImageBlobsDir, h.Algorithm), 0o755); err != nil {
		return err
	}
	return l.syncDirs(ocispec.ImageBlobsDir, ".")
}

// forgetBlobDir closes the open directory of h: it is not, or no longer, the
// one that has the name.
func (l *Layout) forgetBlobDir(h v1.Hash) { l.algs[h.Algorithm].close() }

func (a *algorithm) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.root != nil {
		_ = a.root.close()
		a.root = nil
	}
}

// SameFile reports whether two blobs are one file, unchanged.
func SameFile(a, b *Blob) (bool, error) {
	ai, err := a.Stat()
	if err != nil {
		return false, err
	}
	bi, err := b.Stat()
	if err != nil {
		return false, err
	}
	return (fileID{ai}).same(fileID{bi}), nil
}
