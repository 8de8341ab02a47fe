//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "powerloss: this needs Linux, where a file system can be shut down")
	os.Exit(1)
}
