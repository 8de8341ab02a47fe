package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/cache"
)

// statsJSON is what stats prints. Sizes are in bytes.
type statsJSON struct {
	Dir         string           `json:"dir"`
	Layers      int              `json:"layers"`
	Present     int              `json:"present"`
	Remembered  int              `json:"remembered"`
	Bytes       int64            `json:"bytes"`
	Forms       []duForm         `json:"forms"`
	Compression statsCompression `json:"compression"`
	Pairs       statsPairs       `json:"pairs"`
	Uses        int64            `json:"uses"`
	Served      int64            `json:"served"` // uses times size: nobody counts what is read of a blob
	LastUsed    *time.Time       `json:"lastused,omitempty"`
	Unused      part             `json:"unused"` // never, since it came
	Keys        int              `json:"keys"`
	Pins        []string         `json:"pins"`
	Origins     []statsOrigin    `json:"origins"` // by size
}

// statsCompression is of the blobs whose size, and that of whose tar, is known.
type statsCompression struct {
	Blobs        int     `json:"blobs"`
	Compressed   int64   `json:"compressed"`
	Uncompressed int64   `json:"uncompressed"`
	Ratio        float64 `json:"ratio,omitempty"`
}

type statsPairs struct {
	Verified int `json:"verified"`
	Claimed  int `json:"claimed"`
	Refuted  int `json:"refuted"`
}

type statsOrigin struct {
	Origin  string `json:"origin"` // "" if it is not known
	Present int    `json:"present"`
	Bytes   int64  `json:"bytes"`
}

func (a *app) statsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Show what the cache holds, and whether it is worth its space",
		Long: `Show what the cache holds, how often that was used, and where it came from. What
was served from the cache is not measured: it is the sum of all recorded uses,
each counted as the whole blob. Of blobs that were forgotten, nothing counts.`,
		Example: `  ocicache stats
  ocicache stats -o json`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(func(c *cache.Cache) error {
				v, err := a.stats(cmd.Context(), c)
				if err != nil {
					return err
				}
				return a.emit(v, a.statsText(v))
			})
		},
	}
}

func (a *app) stats(ctx context.Context, c *cache.Cache) (v statsJSON, err error) {
	if v.Dir, err = a.cacheDir(); err != nil {
		return v, err
	}
	usages, err := c.DiskUsage(ctx)
	if err != nil {
		return v, err
	}
	keys, err := c.Keys()
	if err != nil {
		return v, err
	}
	pins, err := c.Pins()
	if err != nil {
		return v, err
	}
	du := sum(usages, a.now())
	v.Present, v.Remembered, v.Bytes, v.Forms = du.Present, du.Remembered, du.Bytes, du.Forms
	v.Unused = partOf(usages, func(u cache.Usage) bool { return u.UseCount == 0 })
	v.Keys, v.Pins = len(keys), append([]string{}, slices.Sorted(maps.Keys(pins))...)
	v.count(usages)
	v.Compression, v.Origins = compressionOf(usages), originsOf(usages)
	return v, nil
}

// count counts layers, pairs and uses.
func (v *statsJSON) count(usages []cache.Usage) {
	layers, last := map[v1.Hash]bool{}, time.Time{}
	for _, u := range usages {
		layers[layerOf(u)] = true
		v.Uses += u.UseCount
		v.Served += u.UseCount * u.Size
		if u.LastUsed.After(last) {
			last = u.LastUsed
		}
		switch {
		case u.Form != cache.FormCompressed:
		case u.Pair == ocicache.PairVerified:
			v.Pairs.Verified++
		case u.Pair == ocicache.PairClaimed:
			v.Pairs.Claimed++
		case u.Pair == ocicache.PairRefuted:
			v.Pairs.Refuted++
		}
	}
	v.Layers, v.LastUsed = len(layers), timeOf(last)
}

// layerOf returns what tells a blob's layer from others: the diffID, unless it
// is not known.
func layerOf(u cache.Usage) v1.Hash {
	if u.DiffID == (v1.Hash{}) || u.Pair == ocicache.PairRefuted {
		return u.Digest
	}
	return u.DiffID
}

func compressionOf(usages []cache.Usage) (v statsCompression) {
	tars := map[v1.Hash]int64{}
	for _, u := range usages {
		if u.Form == cache.FormUncompressed {
			tars[u.Digest] = u.Size
		}
	}
	for _, u := range usages {
		if tar := tars[u.DiffID]; u.Form == cache.FormCompressed && u.Pair == ocicache.PairVerified && tar > 0 {
			v.Blobs++
			v.Compressed += u.Size
			v.Uncompressed += tar
		}
	}
	if v.Compressed > 0 {
		v.Ratio = float64(v.Uncompressed) / float64(v.Compressed)
	}
	return v
}

// originsOf returns where the blobs that are there came from, the largest part
// first. A tar came from where its layer did.
func originsOf(usages []cache.Usage) []statsOrigin {
	layers := map[v1.Hash]string{}
	for _, u := range usages {
		if u.Origin != "" {
			layers[layerOf(u)] = u.Origin
		}
	}
	sums := map[string]statsOrigin{}
	for _, u := range usages {
		if u.Present {
			o := sums[or(u.Origin, layers[layerOf(u)])]
			o.Origin, o.Present, o.Bytes = or(u.Origin, layers[layerOf(u)]), o.Present+1, o.Bytes+u.Size
			sums[o.Origin] = o
		}
	}
	bySize := func(x, y statsOrigin) int {
		return cmp.Or(cmp.Compare(y.Bytes, x.Bytes), cmp.Compare(x.Origin, y.Origin))
	}
	return append([]statsOrigin{}, slices.SortedFunc(maps.Values(sums), bySize)...)
}

// topOrigins is how many origins are shown to people.
const topOrigins = 5

func (a *app) statsText(v statsJSON) string {
	text := fields(
		"directory", v.Dir,
		"layers", fmt.Sprintf("%d (%s present, %d remembered)", v.Layers, count(int64(v.Present), "blob"), v.Remembered),
		"on disk", v.disk(),
		"ratio", v.Compression.String(),
		"pairs", fmt.Sprintf("%d verified, %d claimed, %d refuted", v.Pairs.Verified, v.Pairs.Claimed, v.Pairs.Refuted),
		"used", v.used(a.now()),
		"served", v.served(),
		"unused", fmt.Sprintf("%s of %s", size(v.Unused.Bytes), size(v.Bytes)),
		"keys", fmt.Sprint(v.Keys),
		"pins", v.pins(),
	)
	if len(v.Origins) == 0 {
		return text
	}
	var rows [][]string
	for _, o := range v.Origins[:min(len(v.Origins), topOrigins)] {
		rows = append(rows, []string{
			cut(printable(or(o.Origin, "not known")), 50), fmt.Sprint(o.Present), size(o.Bytes), fmt.Sprintf("%.0f%%", share(o.Bytes, v.Bytes)*100),
		})
	}
	text += "\n" + a.table("ORIGIN BLOBS SIZE SHARE", rows)
	if more := len(v.Origins) - topOrigins; more > 0 {
		text += fmt.Sprintf("and %d more: see -o json\n", more)
	}
	return text
}

func (v *statsJSON) disk() string {
	var forms []string
	for _, f := range v.Forms {
		if f.Present > 0 {
			forms = append(forms, size(f.Bytes)+" "+string(f.Form))
		}
	}
	if len(forms) == 0 {
		return "nothing"
	}
	return size(v.Bytes) + ": " + strings.Join(forms, ", ")
}

func (c statsCompression) String() string {
	if c.Ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f to 1: %s in %s, of %s", c.Ratio, size(c.Uncompressed), size(c.Compressed), count(int64(c.Blobs), "blob"))
}

func (v *statsJSON) used(now time.Time) string {
	if v.LastUsed == nil {
		return "never"
	}
	return fmt.Sprintf("%s, the last %s", count(v.Uses, "time"), age(now, *v.LastUsed))
}

func (v *statsJSON) served() string {
	switch {
	case v.Served == 0:
		return "nothing yet"
	case v.Bytes == 0:
		return "about " + size(v.Served)
	}
	return fmt.Sprintf("about %s, %.1f times what is on disk", size(v.Served), float64(v.Served)/float64(v.Bytes))
}

func (v *statsJSON) pins() string {
	var names []string
	for _, name := range v.Pins {
		names = append(names, printable(name))
	}
	return or(cut(strings.Join(names, ", "), 68), "none")
}
