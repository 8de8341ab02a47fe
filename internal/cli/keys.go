package cli

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// keyJSON is a build key as keys ls prints it.
type keyJSON struct {
	Key       string     `json:"key"`
	Digest    string     `json:"digest"`
	Shareable bool       `json:"shareable"`
	Created   *time.Time `json:"created,omitempty"`
}

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keys",
		Short:   "List and forget build keys",
		Example: `  ocicache keys ls`,
		Args:    noSubcommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(a.keysLsCommand(), a.keysRmCommand())
	return cmd
}

func (a *app) keysLsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List the build keys, and the layers that they stand for",
		Example: `  ocicache keys ls -o json`,
		Args:    exactly(0),
		RunE: func(*cobra.Command, []string) error {
			return a.with(func(c *cache.Cache) error {
				keys, err := c.Keys()
				if err != nil {
					return err
				}
				slices.SortFunc(keys, func(x, y cache.Key) int { return cmp.Compare(x.Key, y.Key) })
				all, rows := []keyJSON{}, [][]string{}
				for _, k := range keys {
					all = append(all, keyJSON{k.Key, full(k.Digest), k.Shareable, timeOf(k.Created)})
					rows = append(rows, []string{printable(k.Key), short(k.Digest), age(a.now(), k.Created), scope(k)})
				}
				return a.emit(all, a.table("KEY DIGEST CREATED SCOPE", rows))
			})
		},
	}
}

// scope returns who may see a key.
func scope(k cache.Key) string {
	if k.Shareable {
		return "shareable"
	}
	return "local"
}

func (a *app) keysRmCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rm KEY...",
		Short:   "Forget build keys; the layers stay",
		Example: `  ocicache keys rm go-build-linux`,
		Args:    atLeast(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.with(func(c *cache.Cache) error {
				keys, err := c.Keys()
				if err != nil {
					return err
				}
				text := ""
				for _, arg := range args {
					text += fmt.Sprintf("forgot %s\n", printable(arg))
					if !slices.ContainsFunc(keys, func(k cache.Key) bool { return k.Key == arg }) {
						return fmt.Errorf("no such key: %q: ocicache keys ls lists them", arg)
					}
				}
				if err := c.DropKeys(args...); err != nil {
					return err
				}
				return a.report(map[string][]string{"forgotten": args}, text)
			})
		},
	}
}
