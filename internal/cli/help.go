package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// wrapFlags has the help of all commands wrap what it says of flags, so that
// it fits a terminal of 80 columns.
func wrapFlags(root *cobra.Command) {
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 80 "))
}
