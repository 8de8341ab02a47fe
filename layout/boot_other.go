//go:build !linux && !darwin && !windows

package layout

import "sync"

// Boot names the system's present boot: bytes that were written and not
// synced under another one may be lost. It cannot be told here, so each
// process is one.
var Boot = sync.OnceValue(random)
