//go:build unix

package layout

import "golang.org/x/sys/unix"

// Free returns how many bytes can still be written to the layout's file
// system, or -1 if that cannot be told.
func (l *Layout) Free() int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(l.dir, &st); err != nil {
		return -1
	}
	return int64(st.Bavail) * int64(st.Bsize) //nolint:unconvert // their types differ between systems
}
