package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// minPrefix is how many hex digits of a hash have to be given.
const minPrefix = 6

var hashForm = regexp.MustCompile(`^([a-z0-9]+:)?[0-9a-f]+$`)

// parseHash looks at a hash, or the prefix of one, without asking what there is.
func parseHash(cmd *cobra.Command, arg string) error {
	digits := arg[strings.IndexByte(arg, ':')+1:]
	switch {
	case !hashForm.MatchString(arg):
		return usagef(cmd, "%q is no hash: want sha256:… or at least %d of its hex digits", arg, minPrefix)
	case len(digits) < minPrefix:
		return usagef(cmd, "%q is too short: give at least %d hex digits", arg, minPrefix)
	}
	return nil
}

// parseHashes is parseHash for several.
func parseHashes(cmd *cobra.Command, args []string) error {
	for _, arg := range args {
		if err := parseHash(cmd, arg); err != nil {
			return err
		}
	}
	return nil
}

// resolve returns the hash, a digest or diffID, that the cache knows and that
// begins so.
func (a *app) resolve(usages []cache.Usage, arg string) (v1.Hash, error) {
	found := map[v1.Hash]bool{}
	for _, u := range usages {
		for _, h := range []v1.Hash{u.Digest, u.DiffID} {
			if h != (v1.Hash{}) && (strings.HasPrefix(h.Hex, arg) || strings.HasPrefix(h.String(), arg)) {
				found[h] = true
			}
		}
	}
	var names []string
	for h := range found {
		if len(found) == 1 {
			return h, nil
		}
		names = append(names, short(h))
	}
	if len(names) == 0 {
		return v1.Hash{}, fmt.Errorf("no such hash: %s: %s shows what there is", arg, a.command("ls"))
	}
	slices.Sort(names)
	return v1.Hash{}, fmt.Errorf("%s is the beginning of %d hashes: give more of it: %s", arg, len(names), strings.Join(names, ", "))
}

// resolveAll resolves hashes, and returns what the cache knows as well.
func (a *app) resolveAll(ctx context.Context, c *cache.Cache, args []string) ([]v1.Hash, []cache.Usage, error) {
	usages, err := c.DiskUsage(ctx)
	if err != nil {
		return nil, nil, err
	}
	var hs []v1.Hash
	for _, arg := range args {
		h, err := a.resolve(usages, arg)
		if err != nil {
			return nil, nil, err
		}
		hs = append(hs, h)
	}
	return hs, usages, nil
}

// gone says what to do about a hash that is known, and whose bytes are not
// there.
func gone(c *cache.Cache, h v1.Hash, err error) error {
	switch {
	case errors.Is(err, cache.ErrNotFound) && c.Stats().Repairs > 0:
		return fmt.Errorf("the bytes of %s had changed on disk, and were put into quarantine: pull an image that has it", h)
	case errors.Is(err, cache.ErrNotFound):
		return fmt.Errorf("the bytes of %s are not in the cache: pull an image that has it", h)
	}
	return err
}

// short returns as much of a hash as tables show.
func short(h v1.Hash) string {
	if h == (v1.Hash{}) {
		return "-"
	}
	return h.Hex[:min(12, len(h.Hex))]
}

// full returns a hash as JSON has it.
func full(h v1.Hash) string {
	if h == (v1.Hash{}) {
		return ""
	}
	return h.String()
}
