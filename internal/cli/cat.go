package cli

import (
	"context"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

func (a *app) catCommand() *cobra.Command {
	var uncompressed bool
	cmd := &cobra.Command{
		Use:   "cat HASH",
		Short: "Write a layer's bytes to standard output",
		Long: `Write the bytes of a hash to standard output, after checking them: of a digest,
the blob as registries have it; of a diffID, the tar. Nothing is fetched, and no
tar is kept that was not there before.`,
		Example: `  ocicache cat $(ocicache ls -q form==compressed,present | head -n 1) > layer
  ocicache cat --uncompressed $(ocicache ls -q present | head -n 1) | tar t`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch err := parseHash(cmd, args[0]); {
			case err != nil:
				return err
			case a.output == outputJSON:
				return usagef(cmd, "a layer's bytes are no JSON: leave -o json out, or see ocicache inspect --files")
			case isTerminal(a.stdout):
				return usagef(cmd, "a layer is nothing for a terminal: redirect it, or pipe it into tar t")
			}
			return a.with(func(c *cache.Cache) error {
				return closing(cmd.Context(), c, func() error { return a.cat(cmd.Context(), c, args, uncompressed) })
			}, append(a.reading(), cache.WithVerifyReads())...)
		},
	}
	cmd.Flags().BoolVar(&uncompressed, "uncompressed", false, "write the tar, also of a digest")
	return cmd
}

func (a *app) cat(ctx context.Context, c *cache.Cache, args []string, uncompressed bool) error {
	hs, usages, err := a.resolveAll(ctx, c, args)
	if err != nil {
		return err
	}
	h := hs[0]
	form := v1.Layer.Uncompressed
	for _, u := range usages {
		if u.Digest == h && u.Form != cache.FormUncompressed && !uncompressed {
			form = v1.Layer.Compressed
		}
	}
	l, err := c.Get(h)
	if err != nil {
		return gone(c, h, err)
	}
	rc, err := form(l)
	if err != nil {
		return gone(c, h, err)
	}
	_, err = io.Copy(a.stdout, reader{ctx, rc})
	return errors.Join(err, rc.Close())
}

// reading returns how a cache is opened whose layers are read: what was not
// there stays away, and what is found to be bad is told.
func (a *app) reading() []cache.Option {
	return []cache.Option{cache.WithoutTar(), cache.WithLogger(a.progress("", "").logger())}
}

// A reader ends when its context does.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
