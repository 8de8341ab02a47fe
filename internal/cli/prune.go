package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

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
	var file string
	var dryRun bool
	own := policyFlags(&p)
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what is not needed",
		Long: `Remove blobs: first those that can be made again from what stays, then what was
used longest ago and least. What is pinned or being read stays. What a removed
blob decompresses to is remembered, unless --all is given without a limit.

Without flags, only debris is removed: what dead processes left, and files that
nothing lists. --all, --filter and --keep-duration say what may be removed; of
that, the limits remove just so much that they hold, and without a limit all of
it goes. Sizes are in bytes or as in 10GB or 1.5GiB, durations as in 36h or 7d;
none of them may be 0.

With --policy, a file holds several policies, applied one after the other: a
JSON list of objects whose fields are named as the flags above are.

  [{"filter": "form==uncompressed", "keep-duration": "2d"},
   {"filter": ["size>1GB", "usecount==0"], "keep-duration": "7d"},
   {"all": true, "max-bytes": "10GB"}]

` + filterHelp,
		Example: `  ocicache prune --max-bytes 10GB
  ocicache prune --filter form==uncompressed --dry-run
  ocicache prune --filter 'touched<30d,size>100MB'
  ocicache prune --keep-duration 7d --min-free-bytes 20GB --reserved-bytes 2GB
  ocicache prune --policy policies.json
  ocicache prune --all`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			policies := []cache.PrunePolicy{p}
			if cmd.Flags().Changed("policy") {
				var err error
				if policies, err = policiesOf(file); err != nil {
					return usagef(cmd, "--policy: %w", err)
				}
				if beside := changed(own); beside != "" {
					return usagef(cmd, "--policy and --%s are both given: put %s into the file", beside, beside)
				}
			} else if err := checkPolicy(own, p, "--"); err != nil {
				return usagef(cmd, "%w", err)
			}
			return a.prune(cmd.Context(), policies, dryRun)
		},
	}
	f := cmd.Flags()
	f.AddFlagSet(own)
	f.StringVar(&file, "policy", "", "remove by the policies in this `FILE`")
	f.BoolVar(&dryRun, "dry-run", false, "only show what would be removed")
	return cmd
}

// prune applies policies, and reports what was done even if that is not all.
func (a *app) prune(ctx context.Context, policies []cache.PrunePolicy, dryRun bool) error {
	bar := a.progress("removed", "blob")
	defer bar.end()
	var gone removed
	for i := range policies {
		policies[i].DryRun = dryRun
		if !dryRun {
			policies[i].Progress = func(r cache.Removal) { gone.show(bar, r) }
		}
	}
	return a.with(func(c *cache.Cache) error {
		r, err := c.PruneAll(ctx, policies...)
		bar.end()
		if err != nil && len(r.Removals) == 0 {
			return err
		}
		return errors.Join(err, a.report(pruneOf(r, dryRun), a.pruneText(r, dryRun)))
	}, cache.WithLogger(bar.logger()))
}

func pruneOf(r cache.PruneReport, dryRun bool) pruneJSON {
	v := pruneJSON{DryRun: dryRun, Removals: []removalJSON{}, Bytes: r.Bytes, Kept: r.Kept}
	for _, x := range r.Removals {
		v.Removals = append(v.Removals, removalJSON{full(x.Digest), x.Bytes, x.Reason, x.Forgotten})
	}
	return v
}

func (a *app) pruneText(r cache.PruneReport, dryRun bool) string {
	text := ""
	if len(r.Removals) > 0 {
		var rows [][]string
		for _, x := range r.Removals {
			what := "bytes"
			if x.Forgotten {
				what = "all"
			}
			rows = append(rows, []string{short(x.Digest), size(x.Bytes), what, a.reason(x)})
		}
		text = a.table("DIGEST SIZE REMOVED REASON", rows) + "\n"
	}
	did := "freed"
	if dryRun {
		did = "would free"
	}
	return text + fmt.Sprintf("%s %s, %s kept\n", did, size(r.Bytes), size(r.Kept))
}

var fullHash = regexp.MustCompile(`[a-z0-9]+:[0-9a-f]{32,}`)

// reason returns as much of a reason as fits behind the other columns.
func (a *app) reason(r cache.Removal) string {
	text := fullHash.ReplaceAllStringFunc(printable(r.Reason), func(h string) string {
		return h[:strings.IndexByte(h, ':')+1+12]
	})
	if isTerminal(a.stdout) {
		return cut(text, a.width()-len("000000000000  000.0 MB  REMOVED  "))
	}
	return text
}

// redrawInterval is how often a terminal is told of removals: there may be very
// many.
const redrawInterval = 100 * time.Millisecond

// A removed counts removals. The zero value is ready for use.
type removed struct {
	blobs, bytes int64
	shown        time.Time
}

func (g *removed) show(p *progress, r cache.Removal) {
	g.blobs++
	g.bytes += r.Bytes
	if time.Since(g.shown) >= redrawInterval {
		g.shown = time.Now()
		line := fmt.Sprintf("%s %s, %s", p.verb, count(g.blobs, p.thing), size(g.bytes))
		p.tell(line, line)
	}
}
