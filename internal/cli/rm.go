package cli

import (
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// rmJSON is what rm prints.
type rmJSON struct {
	Removed []string `json:"removed"`
}

func (a *app) rmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm HASH...",
		Short: "Remove blobs, and what is known of them",
		Long: `Remove blobs, and what is known of them, even if they are pinned. Of a pair,
only the hash that was given is removed: the other one stays; of a diffID whose
tar is not there, only what is known of it goes. Use prune to remove by rules.`,
		Example: `  ocicache rm $(ocicache ls -q form==uncompressed | head -n 1)`,
		Args:    atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := parseHashes(cmd, args); err != nil {
				return err
			}
			return a.with(func(c *cache.Cache) error {
				hs, _, err := a.resolveAll(cmd.Context(), c, args)
				if err != nil {
					return err
				}
				return a.remove(c, hs)
			})
		},
	}
}

// remove deletes up to the first hash that it cannot, and reports those.
func (a *app) remove(c *cache.Cache, hs []v1.Hash) (err error) {
	done, text := rmJSON{Removed: []string{}}, ""
	seen := map[v1.Hash]bool{}
	for _, h := range hs {
		if seen[h] {
			continue
		}
		seen[h] = true
		if err = c.Delete(h); err != nil {
			break
		}
		done.Removed = append(done.Removed, h.String())
		text += fmt.Sprintf("removed %s\n", h)
	}
	return errors.Join(err, a.report(done, text))
}
