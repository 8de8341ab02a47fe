package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// pinJSON is a pin as pin and pins print it.
type pinJSON struct {
	Name   string   `json:"name"`
	Hashes []string `json:"hashes"`
}

// unpinJSON is what unpin prints.
type unpinJSON struct {
	Unpinned []string `json:"unpinned"`
}

func pinOf(name string, hs []v1.Hash) pinJSON {
	p := pinJSON{Name: name, Hashes: []string{}}
	for _, h := range hs {
		p.Hashes = append(p.Hashes, h.String())
	}
	return p
}

func (a *app) pinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pin NAME HASH...",
		Short: "Keep layers from being pruned",
		Long: `Keep the bytes of hashes from being pruned, until unpin is called with the same
name. An earlier pin of that name is replaced.`,
		Example: `  ocicache pin release $(ocicache ls -q form==compressed,present)`,
		Args:    atLeast(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if err := parseHashes(cmd, args[1:]); err != nil {
				return err
			}
			return a.with(func(c *cache.Cache) error {
				hs, _, err := a.resolveAll(cmd.Context(), c, args[1:])
				if err != nil {
					return err
				}
				err = c.PinAs(name, hs...)
				if errors.Is(err, cache.ErrNotFound) {
					return fmt.Errorf("%w: only bytes that are there can be pinned; pull an image that has them", err)
				}
				if err != nil {
					return err
				}
				return a.report(pinOf(name, hs), fmt.Sprintf("pinned %s as %s\n", hashCount(len(hs)), printable(name)))
			})
		},
	}
}

func (a *app) unpinCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "unpin NAME...",
		Short:   "Let layers be pruned again",
		Example: `  ocicache unpin release`,
		Args:    atLeast(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.with(func(c *cache.Cache) error { return a.unpin(c, args) })
		},
	}
}

// unpin removes pins up to the first that it cannot, and reports those.
func (a *app) unpin(c *cache.Cache, names []string) (err error) {
	done, text := unpinJSON{Unpinned: []string{}}, ""
	for _, name := range names {
		if err = c.Unpin(name); err != nil {
			break
		}
		done.Unpinned = append(done.Unpinned, name)
		text += fmt.Sprintf("unpinned %s\n", printable(name))
	}
	if errors.Is(err, cache.ErrNotFound) {
		err = fmt.Errorf("no such pin: %q: %s lists them", names[len(done.Unpinned)], a.command("pins"))
	}
	return errors.Join(err, a.report(done, text))
}

func (a *app) pinsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "pins",
		Short:   "List the pins, and what they hold",
		Example: `  ocicache pins`,
		Args:    exactly(0),
		RunE: func(*cobra.Command, []string) error {
			return a.with(func(c *cache.Cache) error {
				pins, err := c.Pins()
				if err != nil {
					return err
				}
				all, rows := []pinJSON{}, [][]string{}
				for _, name := range slices.Sorted(maps.Keys(pins)) {
					all = append(all, pinOf(name, pins[name]))
					for _, h := range pins[name] {
						rows = append(rows, []string{short(h), printable(name)})
					}
				}
				return a.emit(all, a.table("HASH PIN", rows))
			})
		},
	}
}

func hashCount(n int) string {
	if n == 1 {
		return "1 hash"
	}
	return fmt.Sprintf("%d hashes", n)
}
