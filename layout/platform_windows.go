package layout

import "syscall"

// openNonblock has nothing to do here: there are no FIFOs among files.
const openNonblock = 0

// openNoFollow is not known here, where a link takes a privilege to make.
const openNoFollow = 0

// removeBeforeUnlock: a file that is open without FILE_SHARE_DELETE, as
// flock opens it, cannot be removed.
const removeBeforeUnlock = false

const (
	canSyncDir = false
	syncFlag   = syscall.O_RDWR // FlushFileBuffers wants to write
)
