package layout

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Boot names the system's present boot: bytes that were written and not
// synced under another one may be lost. If
// it cannot be told, each process is one.
var Boot = sync.OnceValue(func() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return random()
	}
	return id
})
