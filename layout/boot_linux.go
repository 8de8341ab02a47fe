package layout

import (
	"os"
	"strings"
	"sync"
)

// boot is the kernel's name of the boot.
var boot = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return random()
	}
	return strings.TrimSpace(string(b))
})
