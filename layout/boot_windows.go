package layout

import (
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/windows"
)

// Boot names the system's present boot: bytes that were written and not
// synced under another one may be lost. Windows gives boots no name, so it is
// the time of the boot, to ten minutes; a clock that is set meanwhile makes
// it another boot, which costs a hash of each unsynced blob and no more.
var Boot = sync.OnceValue(func() string {
	boot := time.Now().Add(-windows.DurationSinceBoot()).Round(10 * time.Minute)
	return strconv.FormatInt(boot.Unix(), 10)
})
