//go:build !linux && !darwin && !windows

package layout

import "sync"

// The boot cannot be told here, so each process is one.
var boot = sync.OnceValue(random)
