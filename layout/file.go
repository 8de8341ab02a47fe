package layout

import (
	"io"
	"io/fs"
	"os"
	"strings"
)

func (l *Layout) exists(name string) bool {
	_, err := l.root.stat(name)
	return err == nil
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

// replaceFile writes a new file in the state directory and renames it to
// name: readers see the old one or the new one. The new bytes are synced
// first.
func (l *Layout) replaceFile(name string, write func(io.Writer) error) (err error) {
	tmp := stateDir + "/new-" + strings.ReplaceAll(name, "/", "-") + "-" + random()
	f, err := l.root.open(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = l.root.remove(tmp)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return l.root.rename(tmp, name) // the commit point
}
