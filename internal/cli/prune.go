package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// pruneJSON is what prune prints.
type pruneJSON struct {
	DryRun   bool          `json:"dryrun"`
	Removals []removalJSON `json:"removals"`
	Bytes    int64         `json:"bytes"` // that were freed
	Kept     int64         `json:"kept"`
}

type removalJSON struct {
	Digest    string `json:"digest,omitempty"`
	Bytes     int64  `json:"bytes"`
	Reason    string `json:"reason"`
	Forgotten bool   `json:"forgotten"`
}

func (a *app) pruneCommand() *cobra.Command {
	var p cache.PrunePolicy
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what is not needed",
		Long: `Remove blobs: first those that can be made again from what stays, then what was
used longest ago and least. What is pinned or being read stays. What a removed
blob decompresses to is remembered, unless --all is given.

Without flags, only debris is removed: what dead processes left, and files that
nothing lists. --all, --filter and --keep-duration say what may be removed; of
that, the limits remove just so much that they hold, and without a limit all of
it goes. Sizes are in bytes or as in 10GB and 1.5GiB, durations as in 36h and 7d.

` + filterHelp,
		Example: `  ocicache prune --max-bytes 10GB
  ocicache prune --filter form==uncompressed --dry-run
  ocicache prune --keep-duration 7d --min-free-bytes 20GB --reserved-bytes 2GB
  ocicache prune --all`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(func(c *cache.Cache) error {
				r, err := c.Prune(cmd.Context(), p)
				if err != nil && len(r.Removals) == 0 {
					return err
				}
				v := pruneOf(p, r)
				return errors.Join(err, a.report(v, a.pruneText(p, r)))
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&p.All, "all", false, "remove all that nothing protects, remembered pairs and build keys too")
	f.StringArrayVar(&p.Filters, "filter", nil, "remove only what this matches (may be repeated)")
	f.Var((*durationValue)(&p.KeepDuration), "keep-duration", "keep what was used or made so short a time ago")
	f.Var((*sizeValue)(&p.ReservedBytes), "reserved-bytes", "never remove below so much")
	f.Var((*sizeValue)(&p.MaxBytes), "max-bytes", "remove down to so much")
	f.Var((*sizeValue)(&p.MinFreeBytes), "min-free-bytes", "remove until so much is free on the disk")
	f.BoolVar(&p.DryRun, "dry-run", false, "only show what would be removed")
	return cmd
}

func pruneOf(p cache.PrunePolicy, r cache.PruneReport) pruneJSON {
	v := pruneJSON{DryRun: p.DryRun, Removals: []removalJSON{}, Bytes: r.Bytes, Kept: r.Kept}
	for _, x := range r.Removals {
		v.Removals = append(v.Removals, removalJSON{full(x.Digest), x.Bytes, x.Reason, x.Forgotten})
	}
	return v
}

func (a *app) pruneText(p cache.PrunePolicy, r cache.PruneReport) string {
	text := ""
	if len(r.Removals) > 0 {
		var rows [][]string
		for _, x := range r.Removals {
			what := "bytes"
			if x.Forgotten {
				what = "all"
			}
			rows = append(rows, []string{short(x.Digest), size(x.Bytes), what, printable(x.Reason)})
		}
		text = a.table("DIGEST SIZE REMOVED REASON", rows) + "\n"
	}
	did := "freed"
	if p.DryRun {
		did = "would free"
	}
	return text + fmt.Sprintf("%s %s, %s kept\n", did, size(r.Bytes), size(r.Kept))
}
