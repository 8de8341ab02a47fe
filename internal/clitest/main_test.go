package clitest_test

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ocicache/ocicache/internal/cli"
)

// TestMain has an ocicache on the PATH, which is this test run again. It ends
// like the real one, but has no handler of Ctrl-C; TestInterrupt builds that.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ocicache": func() {
			os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}
