package cli

import (
	"fmt"
	"strings"

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
}

type duForm struct {
	Form    cache.Form `json:"form"`
	Present int        `json:"present"`
	Bytes   int64      `json:"bytes"`
}

func (a *app) duCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "du [FILTER...]",
		Short: "Show what the cache takes on disk",
		Long: `Show how many bytes the cache takes, by form, and how much of that could be made
again from the rest, is needed by more than one thing, or is pinned.

` + filterHelp,
		Example: `  ocicache du
  ocicache du 'lastused<30d' 'lastused==never'
  ocicache du -o json`,
		RunE: func(cmd *cobra.Command, filters []string) error {
			return a.with(func(c *cache.Cache) error {
				usages, err := c.DiskUsage(cmd.Context(), filters...)
				if err != nil {
					return err
				}
				du := sum(usages)
				return a.emit(du, a.duText(du))
			})
		},
	}
}

func sum(usages []cache.Usage) duJSON {
	t := cache.TotalUsage(usages)
	du := duJSON{
		Present: t.Present, Remembered: t.Remembered, Bytes: t.Bytes,
		Remakable: t.Remakable, Shared: t.Shared, Pinned: t.Pinned,
	}
	for _, form := range []cache.Form{cache.FormCompressed, cache.FormUncompressed, cache.FormUnknown} {
		f := duForm{Form: form}
		for _, u := range usages {
			if u.Form == form && u.Present {
				f.Present++
				f.Bytes += u.Size
			}
		}
		du.Forms = append(du.Forms, f)
	}
	return du
}

func (a *app) duText(du duJSON) string {
	var rows [][]string
	for _, f := range du.Forms {
		rows = append(rows, []string{string(f.Form), fmt.Sprint(f.Present), size(f.Bytes), a.paint(green, bar(f.Bytes, du.Bytes, 30))})
	}
	text := a.table("FORM BLOBS SIZE SHARE", rows)
	return text + fmt.Sprintf("\n%s in %s (and %s remembered); remakable %s, shared %s, pinned %s\n",
		size(du.Bytes), count(int64(du.Present), "blob"), count(int64(du.Remembered), "pair"),
		size(du.Remakable), size(du.Shared), size(du.Pinned))
}

// bar returns a part of a whole as a bar of a width, and in percent.
func bar(part, whole int64, width int) string {
	share := 0.0
	if whole > 0 {
		share = min(float64(part)/float64(whole), 1)
	}
	full := int(share*float64(width) + 0.5)
	return strings.Repeat("█", full) + strings.Repeat("░", width-full) + fmt.Sprintf(" %3.0f%%", share*100)
}
