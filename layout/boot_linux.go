package layout

import (
	"os"
	"strings"
	"sync"
)

// Boot names the system's present boot: bytes that were written and not
// synced under another one may be lost. If
// it cannot be told, each process is one.
var Boot = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return random()
	}
	return strings.TrimSpace(string(b))
})
