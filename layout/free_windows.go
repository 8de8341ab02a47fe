package layout

import "golang.org/x/sys/windows"

// Free returns how many bytes can still be written to the layout's file
// system, or -1 if that cannot be told.
func (l *Layout) Free() int64 {
	dir, err := windows.UTF16PtrFromString(l.dir)
	if err != nil {
		return -1
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(dir, &free, nil, nil); err != nil {
		return -1
	}
	return int64(free)
}
