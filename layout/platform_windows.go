package layout

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

// openNonblock has nothing to do here: there are no FIFOs among files.
const openNonblock = 0

// openNoFollow is not known here, where a link takes a privilege to make.
const openNoFollow = 0

// removeBeforeUnlock: a file that is open without FILE_SHARE_DELETE, as
// flock opens it, cannot be removed.
const removeBeforeUnlock = false

// isFull reports whether an error says that there is no room on the disk.
func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

const (
	canSyncDir = false
	syncFlag   = syscall.O_RDWR // FlushFileBuffers wants to write
)
