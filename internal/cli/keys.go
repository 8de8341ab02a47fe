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

// keysRmJSON is what keys rm prints.
type keysRmJSON struct {
	Forgotten []string `json:"forgotten"` // sorted
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
					rows = append(rows, []string{short(k.Digest), age(a.now(), k.Created), scope(k), printable(k.Key)})
				}
				return a.emit(all, a.table("DIGEST CREATED SCOPE KEY", rows))
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
	var olderThan time.Duration
	cmd := &cobra.Command{
		Use:   "rm KEY...",
		Short: "Forget build keys; the layers stay",
		Long: `Forget build keys, and those that were recorded longer ago than --older-than.
The layers stay. A key whose age is not known is not old.`,
		Example: `  ocicache keys rm go-build-linux
  ocicache keys rm --older-than 30d`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !cmd.Flags().Changed("older-than") {
				return usagef(cmd, "too few arguments: want %s or --older-than DURATION", form(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *cache.Cache) error {
				keys, err := c.Keys()
				if err != nil {
					return err
				}
				chosen, err := a.named(keys, args)
				if err != nil {
					return err
				}
				if cmd.Flags().Changed("older-than") {
					chosen = append(chosen, before(keys, a.now().Add(-olderThan))...)
				}
				return a.forget(c, slices.Compact(slices.Sorted(slices.Values(chosen))))
			})
		},
	}
	cmd.Flags().Var((*durationValue)(&olderThan), "older-than", "forget all that were recorded longer ago, as in 36h or 30d")
	return cmd
}

// named returns the keys that were named, if there are such.
func (a *app) named(keys []cache.Key, args []string) ([]string, error) {
	for _, arg := range args {
		if !slices.ContainsFunc(keys, func(k cache.Key) bool { return k.Key == arg }) {
			return nil, fmt.Errorf("no such key: %q: %s lists them", arg, a.command("keys ls"))
		}
	}
	return args, nil
}

// before returns the keys that were recorded before a time.
func before(keys []cache.Key, t time.Time) (old []string) {
	for _, k := range keys {
		if !k.Created.IsZero() && k.Created.Before(t) {
			old = append(old, k.Key)
		}
	}
	return old
}

// forget drops keys, and reports them.
func (a *app) forget(c *cache.Cache, keys []string) error {
	if err := c.DropKeys(keys...); err != nil {
		return err
	}
	text := ""
	for _, key := range keys {
		text += fmt.Sprintf("forgot %s\n", printable(key))
	}
	return a.report(keysRmJSON{append([]string{}, keys...)}, or(text, "no key is that old\n"))
}
