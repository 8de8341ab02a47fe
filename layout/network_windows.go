package layout

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

// Network names the file system that the layout is on if it is one of the
// network, whose locks may not hold; it is "" if it is not, or cannot be told.
func (l *Layout) Network() string {
	root, err := windows.UTF16PtrFromString(filepath.VolumeName(l.dir) + `\`)
	if err != nil || windows.GetDriveType(root) != windows.DRIVE_REMOTE {
		return ""
	}
	return "network drive"
}
