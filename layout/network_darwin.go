package layout

import "golang.org/x/sys/unix"

// Network names the file system that the layout is on if it is one of the
// network, whose locks may not hold; it is "" if it is not, or cannot be told.
func (l *Layout) Network() string {
	var st unix.Statfs_t
	if unix.Statfs(l.dir, &st) != nil || st.Flags&unix.MNT_LOCAL != 0 {
		return ""
	}
	return unix.ByteSliceToString(st.Fstypename[:])
}
