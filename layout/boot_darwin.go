package layout

import (
	"sync"

	"golang.org/x/sys/unix"
)

// boot is the kernel's name of the boot.
var boot = sync.OnceValue(func() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return random()
	}
	return id
})
