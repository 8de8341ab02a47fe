package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// duJSON is what du prints. Sizes are in bytes, of what is there.
type duJSON struct {
	Present    int      `json:"present"`
	Remembered int      `json:"remembered"`
	Bytes      int64    `json:"bytes"`
	Remakable  int64    `json:"remakable"`
	Shared     int64    `json:"shared"`
	Pinned     int64    `json:"pinned"`
	Forms      []duForm `json:"forms"`
	Ages       []duAge  `json:"ages"`
	Uses       []duUses `json:"uses"`
}

type duForm struct {
	Form cache.Form `json:"form"`
	part
}

type duAge struct {
	Age string `json:"age"` // since the last use, else since it was made
	part
}

type duUses struct {
	Uses string `json:"uses"`
	part
}

func (a *app) duCommand() *cobra.Command {
	var graph bool
	cmd := &cobra.Command{
		Use:   "du [FILTER...]",
		Short: "Show what the cache takes on disk",
		Long: `Show how many bytes the cache takes, by form, and how much of that could be made
again from the rest, is needed by more than one thing, or is pinned. With
--graph, show it by age and by use as well. Age is the time since the last use,
or since the blob was made if it was never used. With -o json, all of it is
there always.

` + filterHelp,
		Example: `  ocicache du
  ocicache du --graph
  ocicache du 'touched<30d'
  ocicache du -o json`,
		RunE: func(cmd *cobra.Command, filters []string) error {
			return a.with(func(c *cache.Cache) error {
				usages, err := c.DiskUsage(cmd.Context(), filters...)
				if err != nil {
					return err
				}
				du := sum(usages, a.now())
				if graph {
					return a.emit(du, a.graph(du, a.width())+"\n"+du.total())
				}
				return a.emit(du, a.duText(du))
			})
		},
	}
	cmd.Flags().BoolVar(&graph, "graph", false, "draw what is there by age, form and use")
	return cmd
}

func sum(usages []cache.Usage, now time.Time) duJSON {
	t := cache.TotalUsage(usages)
	du := duJSON{
		Present: t.Present, Remembered: t.Remembered, Bytes: t.Bytes,
		Remakable: t.Remakable, Shared: t.Shared, Pinned: t.Pinned,
	}
	for _, form := range []cache.Form{cache.FormCompressed, cache.FormUncompressed, cache.FormUnknown} {
		du.Forms = append(du.Forms, duForm{form, partOf(usages, func(u cache.Usage) bool { return u.Form == form })})
	}
	for i := range ages {
		of := func(u cache.Usage) bool { return ageOf(now, u) == i }
		du.Ages = append(du.Ages, duAge{ages[i].name, partOf(usages, of)})
	}
	for i := range useCounts {
		of := func(u cache.Usage) bool { return useCountOf(u) == i }
		du.Uses = append(du.Uses, duUses{useCounts[i].name, partOf(usages, of)})
	}
	return du
}

func (a *app) duText(du duJSON) string {
	var rows [][]string
	for _, f := range du.Forms {
		rows = append(rows, []string{string(f.Form), fmt.Sprint(f.Present), size(f.Bytes), a.paint(green, bar(f.Bytes, du.Bytes, 30))})
	}
	return a.table("FORM BLOBS SIZE SHARE", rows) + "\n" + du.total()
}

// total returns what du prints last.
func (du *duJSON) total() string {
	return fmt.Sprintf("%s in %s (and %s remembered)\nremakable %s, shared %s, pinned %s\n",
		size(du.Bytes), count(int64(du.Present), "blob"), count(int64(du.Remembered), "pair"),
		size(du.Remakable), size(du.Shared), size(du.Pinned))
}

// bar returns a part of a whole as a bar of a width, and in percent.
func bar(part, whole int64, width int) string {
	s := share(part, whole)
	full := int(s*float64(width) + 0.5)
	return strings.Repeat("█", full) + strings.Repeat("░", width-full) + fmt.Sprintf(" %3.0f%%", s*100)
}

// share returns how much of a whole a part is, 1 at most.
func share(part, whole int64) float64 {
	if whole <= 0 {
		return 0
	}
	return min(float64(part)/float64(whole), 1)
}
