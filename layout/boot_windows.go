package layout

import (
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/windows"
)

// Windows gives boots no name, so boot is the time of the boot, in seconds
// since the Unix epoch, to ten minutes. A clock that is set meanwhile makes it
// another boot, which costs a hash of each unsynced blob and no more.
var boot = sync.OnceValue(func() string {
	boot := time.Now().Add(-windows.DurationSinceBoot()).Round(10 * time.Minute)
	return strconv.FormatInt(boot.Unix(), 10)
})
