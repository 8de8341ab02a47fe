package layout

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"time"
)

// A Hook is called before each operation on the file system, with what it is
// ("open", "read", "write", "sync", "rename", …) and the path of the file in
// the layout. An error takes the place of the operation. A write is two
// halves, each with a call of its own. A Hook is for tests of crashes and of
// disks that fail; it is called by several goroutines at once.
type Hook func(op, name string) error

// A folder is an open directory of the layout. All files are reached through
// one, so nothing outside is, whatever links somebody made.
type folder struct {
	root *os.Root
	name string // in the layout
	hook Hook   // may be nil
}

func (d *folder) before(op, name string) error {
	if d.hook == nil {
		return nil
	}
	if err := d.hook(op, path.Join(d.name, name)); err != nil {
		return &fs.PathError{Op: op, Path: path.Join(d.name, name), Err: err}
	}
	return nil
}

func (d *folder) openFolder(name string) (*folder, error) {
	if err := d.before("open", name); err != nil {
		return nil, err
	}
	if err := d.isFolder(name); err != nil {
		return nil, err
	}
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &folder{root: root, name: path.Join(d.name, name), hook: d.hook}, nil
}

// isFolder returns an error for what is no directory itself: at a FIFO an open
// would wait, and a link would have another directory's files swept.
func (d *folder) isFolder(name string) error {
	fi, err := d.root.Lstat(name)
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "open", Path: path.Join(d.name, name), Err: fs.ErrInvalid}
	}
	return err
}

// open opens a file. It does not wait at a FIFO.
func (d *folder) open(name string, flag int) (File, error) {
	op := "open"
	if flag&os.O_CREATE != 0 {
		op = "create"
	}
	if err := d.before(op, name); err != nil {
		return File{}, err
	}
	f, err := d.root.OpenFile(name, flag|openNonblock, 0o644)
	return File{file: f, folder: d, name: name}, err
}

// list returns the names in a folder, n at most unless that is negative.
func (d *folder) list(name string, n int) ([]string, error) {
	if err := d.before("list", name); err != nil {
		return nil, err
	}
	if err := d.isFolder(name); err != nil {
		return nil, err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

func (d *folder) stat(name string) (os.FileInfo, error) {
	if err := d.before("stat", name); err != nil {
		return nil, err
	}
	return d.root.Stat(name)
}

func (d *folder) lstat(name string) (os.FileInfo, error) {
	if err := d.before("stat", name); err != nil {
		return nil, err
	}
	return d.root.Lstat(name)
}

func (d *folder) mkdir(name string, perm os.FileMode) error {
	if err := d.before("mkdir", name); err != nil {
		return err
	}
	return d.root.MkdirAll(name, perm)
}

func (d *folder) rename(from, to string) error {
	if err := d.before("rename", from); err != nil {
		return err
	}
	return d.root.Rename(from, to)
}

func (d *folder) remove(name string) error {
	if err := d.before("remove", name); err != nil {
		return err
	}
	return d.root.Remove(name)
}

// removeAll removes a directory with all that is in it, too.
func (d *folder) removeAll(name string) error {
	if err := d.before("remove", name); err != nil {
		return err
	}
	return d.root.RemoveAll(name)
}

func (d *folder) setModTime(name string, to time.Time) error {
	if err := d.before("chtimes", name); err != nil {
		return err
	}
	return d.root.Chtimes(name, to, to)
}

// close closes the directory. A nil folder is closed already.
func (d *folder) close() error {
	if d == nil {
		return nil
	}
	return d.root.Close()
}

// A File is an open file of a layout.
type File struct {
	file   *os.File
	folder *folder
	name   string // in folder
}

// Name returns the file's path.
func (f File) Name() string { return f.file.Name() }

// Stat describes the file.
func (f File) Stat() (os.FileInfo, error) {
	if err := f.folder.before("stat", f.name); err != nil {
		return nil, err
	}
	return f.file.Stat()
}

// Read implements io.Reader.
func (f File) Read(p []byte) (int, error) {
	if err := f.folder.before("read", f.name); err != nil {
		return 0, err
	}
	return f.file.Read(p)
}

// ReadAt implements io.ReaderAt.
func (f File) ReadAt(p []byte, off int64) (int, error) {
	if err := f.folder.before("read", f.name); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, off)
}

// Seek implements io.Seeker.
func (f File) Seek(offset int64, whence int) (int64, error) { return f.file.Seek(offset, whence) }

// WriteTo implements io.WriterTo, with whatever the system has to copy from
// a file.
func (f File) WriteTo(w io.Writer) (int64, error) {
	if f.folder.hook != nil {
		return io.Copy(w, struct{ io.Reader }{f})
	}
	return f.file.WriteTo(w)
}

// Write implements io.Writer.
func (f File) Write(p []byte) (int, error) {
	return f.halves(p, func(p []byte, _ int64) (int, error) { return f.file.Write(p) })
}

// WriteAt implements io.WriterAt.
func (f File) WriteAt(p []byte, off int64) (int, error) {
	return f.halves(p, func(p []byte, at int64) (int, error) { return f.file.WriteAt(p, off+at) })
}

// halves writes p, as two halves if there is a hook: so a crash or a full
// disk in the middle of a write can be had.
func (f File) halves(p []byte, write func(p []byte, at int64) (int, error)) (n int, err error) {
	if f.folder.hook == nil {
		return write(p, 0)
	}
	for _, half := range [][]byte{p[:len(p)/2], p[len(p)/2:]} {
		if err := f.folder.before("write", f.name); err != nil {
			return n, err
		}
		m, err := write(half, int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// truncate cuts the file off after size bytes.
func (f File) truncate(size int64) error {
	if err := f.folder.before("truncate", f.name); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

// Sync brings the file's bytes to stable storage.
func (f File) Sync() error {
	if err := f.folder.before("sync", f.name); err != nil {
		return err
	}
	return f.file.Sync()
}

// Close closes the file, also if it returns an error.
func (f File) Close() error {
	err := f.folder.before("close", f.name)
	if cerr := f.file.Close(); cerr != nil {
		err = cerr
	}
	return err
}
