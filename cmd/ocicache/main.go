// Ocicache pulls container images through a cache directory, and looks at,
// checks and prunes that directory.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ocicache/ocicache/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
