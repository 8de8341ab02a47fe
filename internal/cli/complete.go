package cli

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// filterFields are what filters go by.
var filterFields = [...]string{
	"digest", "diffid", "pair", "mediatype", "form", "size", "present", "created", "lastused",
	"touched", "usecount", "pinned", "pins", "inuse", "keys", "origin", "remakable", "shared",
}

// complete says what arguments and flags are completed with. Others are
// completed with nothing, above all not with the names of files.
func (a *app) complete(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	none, hashes, pins, keys := cobra.NoFileCompletions, a.known(hashesOf), a.known(pinsOf), a.known(keysOf)
	for _, args := range []struct {
		command string
		with    cobra.CompletionFunc
	}{
		{"pull", first(none, completeDirs)},
		{"adopt", first(completeDirs, none)},
		{"ls", completeFilter},
		{"du", completeFilter},
		{"inspect", first(hashes, none)},
		{"cat", first(hashes, none)},
		{"rm", hashes},
		{"pin", first(pins, hashes)},
		{"unpin", pins},
		{"keys rm", keys},
		{"man", first(completeDirs, none)},
	} {
		if cmd, rest, err := root.Find(strings.Fields(args.command)); err == nil && len(rest) == 0 {
			cmd.ValidArgsFunction = args.with
		}
	}
	for _, flag := range []struct {
		command, name string
		with          cobra.CompletionFunc
	}{
		{"", "dir", completeDirs},
		{"", "output", cobra.FixedCompletions([]string{outputText, outputJSON}, cobra.ShellCompDirectiveNoFileComp)},
		{"pull", "format", cobra.FixedCompletions([]string{"oci"}, cobra.ShellCompDirectiveNoFileComp)},
		{"prune", "filter", completeFilter},
		{"prune", "policy", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveFilterFileExt)},
	} {
		if cmd, rest, err := root.Find(strings.Fields(flag.command)); err == nil && len(rest) == 0 {
			_ = cmd.RegisterFlagCompletionFunc(flag.name, flag.with) // of a flag that is not there, nothing is completed
		}
	}
}

// first completes the first argument with one thing, and others with another.
func first(one, others cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return one(cmd, args, begun)
		}
		return others(cmd, args, begun)
	}
}

func completeDirs(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeFilter completes the name of the field that a filter's last part
// begins with.
func completeFilter(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	before := begun[:strings.LastIndexByte(begun, ',')+1]
	var found []cobra.Completion
	for _, field := range filterFields {
		if strings.HasPrefix(before+field, begun) {
			found = append(found, before+field)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func completeCommands(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var found []cobra.Completion
	if of, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
		for _, sub := range of.Commands() {
			if sub.IsAvailableCommand() && strings.HasPrefix(sub.Name(), begun) {
				found = append(found, cobra.CompletionWithDesc(sub.Name(), sub.Short))
			}
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// A candidate is what a word may be completed to.
type candidate struct{ text, about string }

// known completes with what is in the cache and was not given yet. It takes no
// lock.
func (a *app) known(list func(ctx context.Context, c *cache.Cache, begun string) ([]candidate, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var found []cobra.Completion
		err := a.with(func(c *cache.Cache) error {
			all, err := list(cmd.Context(), c, begun)
			for _, x := range all {
				// What cannot be printed, a shell might take for something else.
				if strings.HasPrefix(x.text, begun) && !slices.Contains(args, x.text) && printable(x.text) == x.text {
					found = append(found, cobra.CompletionWithDesc(x.text, x.about))
				}
			}
			return err
		}, cache.WithReadOnly())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// hashesOf lists digests, without their algorithm if they were begun so.
func hashesOf(ctx context.Context, c *cache.Cache, begun string) (all []candidate, err error) {
	usages, err := c.DiskUsage(ctx)
	for _, u := range usages {
		text := u.Digest.String()
		if begun != "" && strings.HasPrefix(u.Digest.Hex, begun) {
			text = u.Digest.Hex
		}
		all = append(all, candidate{text, string(u.Form) + ", " + size(u.Size)})
	}
	return all, err
}

func pinsOf(_ context.Context, c *cache.Cache, _ string) (all []candidate, err error) {
	pins, err := c.Pins()
	for _, name := range slices.Sorted(maps.Keys(pins)) {
		all = append(all, candidate{name, hashCount(len(pins[name]))})
	}
	return all, err
}

func keysOf(_ context.Context, c *cache.Cache, _ string) (all []candidate, err error) {
	keys, err := c.Keys()
	for _, k := range keys {
		all = append(all, candidate{k.Key, short(k.Digest)})
	}
	return all, err
}
