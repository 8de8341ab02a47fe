//go:build unix

package layout

import (
	"errors"
	"syscall"
)

// openNonblock keeps an open from waiting for the other end of a FIFO.
const openNonblock = syscall.O_NONBLOCK

// openNoFollow keeps an open by path from following a link.
const openNoFollow = syscall.O_NOFOLLOW

// removeBeforeUnlock: a lock file is removed while it is still locked, so
// that nobody locks a file that is about to go.
const removeBeforeUnlock = true

// isFull reports whether an error says that there is no room on the disk.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

const (
	canSyncDir = true
	syncFlag   = syscall.O_RDONLY
)
