package layout

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
)

// exists reports whether a file is there. What cannot be told is an error: a
// file that is taken for missing may be written anew.
func (l *Layout) exists(name string) (bool, error) {
	_, err := l.root.stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// readSmall reads a file that is a few bytes long unless somebody meddled.
func (l *Layout) readSmall(name string) ([]byte, error) {
	f, err := openRegular(l.root, name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4096))
}

// openRegular opens a file that is there. It does not wait at a FIFO or a
// device in its place: those are fs.ErrInvalid.
func openRegular(root *folder, name string, flag int) (File, error) {
	f, err := root.open(name, flag)
	if err != nil {
		return File{}, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		_ = f.Close()
		return File{}, err
	}
	return f, nil
}

// writeFile replaces a file as a whole, and syncs its bytes.
func (l *Layout) writeFile(name string, b []byte) error {
	return l.replaceFile(name, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// writeNew is writeFile for a file that stays as it is if it is there.
func (l *Layout) writeNew(name string, b []byte) error {
	if there, err := l.exists(name); there || err != nil {
		return err
	}
	return l.writeFile(name, b)
}

// replaceFile writes a new file and renames it to name: readers see the old
// one or the new one.
func (l *Layout) replaceFile(name string, write func(io.Writer) error) error {
	tmp, err := l.writeTemp(name, write)
	if err != nil {
		return err
	}
	if err := l.root.rename(tmp, name); err != nil { // the commit point
		_ = l.root.remove(tmp)
		return err
	}
	return nil
}

// writeTemp writes a file in the state directory that is to be renamed to
// name, and syncs its bytes.
func (l *Layout) writeTemp(name string, write func(io.Writer) error) (tmp string, err error) {
	tmp = stateDir + "/new-" + strings.ReplaceAll(name, "/", "-") + "-" + random()
	f, err := l.root.open(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return "", err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = l.root.remove(tmp)
		return "", err
	}
	return tmp, nil
}
