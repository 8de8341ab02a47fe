package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

const filterHelp = `Filters are containerd's, and compare numbers and times as well. A blob is taken
that any of them matches; a filter matches if all its parts, between commas, do.
Fields: digest, diffid, pair, mediatype, form, size, present, created, lastused,
touched, usecount, pinned, pins, inuse, keys, origin, remakable, shared. What
was never read has a lastused before all times; its touched is when it was made.`

func (a *app) lsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls [FILTER...]",
		Short: "List what the cache has and remembers",
		Long: `List the blobs that the cache has, and those that it remembers: their bytes are
gone, and what they decompress to is still known. With --quiet, only the digests
are printed, for other commands to take.

` + filterHelp,
		Example: `  ocicache ls
  ocicache ls 'form==uncompressed,size>100MB'
  ocicache ls -o json 'touched<7d'
  ocicache ls -q 'lastused==never'`,
		RunE: func(cmd *cobra.Command, filters []string) error {
			return a.with(func(c *cache.Cache) error {
				usages, err := c.DiskUsage(cmd.Context(), filters...)
				if err != nil {
					return err
				}
				if a.quiet {
					return a.emit(usagesOf(usages), digests(usages))
				}
				return a.emit(usagesOf(usages), a.usageTable(usages))
			})
		},
	}
}

// usageTable has first what a narrow terminal should show.
func (a *app) usageTable(usages []cache.Usage) string {
	var rows [][]string
	for _, u := range usages {
		rows = append(rows, []string{
			short(u.Digest), diffIDOf(u), string(u.Form), size(u.Size),
			shortAge(age(a.now(), u.LastUsed)), marks(u), or(u.Pair, "-"), shortAge(age(a.now(), u.Created)),
		})
	}
	return a.table("DIGEST DIFFID FORM SIZE USED STATE PAIR MADE", rows)
}

// shortAge returns an age as a table has it.
func shortAge(age string) string { return shortAges.Replace(age) }

var shortAges = strings.NewReplacer(" ago", "", "just now", "now", " minutes", " min", " minute", " min")

// diffIDOf returns a blob's diffID as a table has it.
func diffIDOf(u cache.Usage) string {
	if u.DiffID == u.Digest {
		return "same"
	}
	return short(u.DiffID)
}

// marks is flags for a table: of what is there, only what is special.
func marks(u cache.Usage) string { return strings.TrimPrefix(flags(u), "present,") }

// digests returns the digests, a line each.
func digests(usages []cache.Usage) string {
	var text strings.Builder
	for _, u := range usages {
		text.WriteString(u.Digest.String() + "\n")
	}
	return text.String()
}

// flags returns what else ls says of a blob.
func flags(u cache.Usage) string {
	words := []string{"present"}
	if !u.Present {
		words = []string{"remembered"}
	}
	for _, w := range []struct {
		is   bool
		word string
	}{{u.Pinned, "pinned"}, {u.Remakable, "remakable"}, {u.Shared, "shared"}} {
		if w.is {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ",")
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
