package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// completeHash completes the one hash that a command takes.
func (a *app) completeHash(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeHashes(cmd, args, begun)
}

// completeHashes completes digests, with their algorithm or without as they
// were begun. It takes no lock.
func (a *app) completeHashes(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var found []cobra.Completion
	err := a.with(func(c *cache.Cache) error {
		usages, err := c.DiskUsage(cmd.Context())
		for _, u := range usages {
			for _, text := range []string{u.Digest.String(), u.Digest.Hex} {
				if strings.HasPrefix(text, begun) {
					found = append(found, cobra.CompletionWithDesc(text, string(u.Form)+", "+size(u.Size)))
					break
				}
			}
		}
		return err
	}, cache.WithReadOnly())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
