package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// pullJSON is what pull prints. Sizes are in bytes, of compressed layers.
type pullJSON struct {
	Image  string      `json:"image"`
	Digest string      `json:"digest"`
	Layers []layerJSON `json:"layers"`
	Read   int64       `json:"read"`  // from the registry
	Saved  int64       `json:"saved"` // was in the cache already, and good
}

type layerJSON struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	State  string `json:"state"` // one of the states below

	hash v1.Hash // Digest's
}

// What became of a layer.
const (
	stateCached  = "cached" // it was there
	statePulled  = "pulled"
	stateNotKept = "not kept"
	stateFailed  = "failed"
)

// A pull is one image's way into the cache.
type pull struct {
	a        *app
	image    string
	platform string
	both     bool
	format   string
	dir      string // for the image itself; "" for none
}

func (a *app) pullCommand() *cobra.Command {
	p := pull{a: a}
	cmd := &cobra.Command{
		Use:   "pull IMAGE [DIR]",
		Short: "Bring an image's layers into the cache",
		Long: `Bring the layers of an image into the cache; those that are there already are
not fetched again. The cache is made if there is none. Credentials are those of
docker login and crane auth login.

With --format oci, the whole image is written to DIR too, an OCI image layout
that is made if there is none; an image of that name in it is replaced. Several
pulls may write to one DIR at once. What comes of the cache is hashed before.`,
		Example: `  ocicache pull debian:12
  ocicache pull --platform linux/arm64 --both debian:12
  ocicache pull --format oci debian:12 debian-layout`,
		Args: between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.image = args[0]
			if len(args) > 1 {
				p.dir = args[1]
			}
			if err := p.checkFormat(cmd); err != nil {
				return err
			}
			return p.run(cmd)
		},
	}
	cmd.Flags().StringVar(&p.platform, "platform", "linux/"+runtime.GOARCH, "of an image for several, the `OS/ARCH` to pull")
	cmd.Flags().BoolVar(&p.both, "both", false, "keep the uncompressed forms too")
	cmd.Flags().StringVar(&p.format, "format", "", "write the image to DIR in this format: oci")
	return cmd
}

// checkFormat looks at --format and DIR.
func (p *pull) checkFormat(cmd *cobra.Command) error {
	switch {
	case p.format != "" && p.format != "oci":
		return usagef(cmd, "--format is %q, want oci", p.format)
	case p.format != "" && p.dir == "":
		return usagef(cmd, "--format %s needs a directory: want %s", p.format, form(cmd))
	case p.format == "" && p.dir != "":
		return usagef(cmd, "what is to be written to %s: want --format oci with a directory", p.dir)
	case p.dir == "":
		return nil
	}
	return p.a.checkTarget(p.dir)
}

func (p *pull) run(cmd *cobra.Command) error {
	ref, err := name.ParseReference(p.image)
	if err != nil {
		return usagef(cmd, "%w: want an image as in debian:12", err)
	}
	platform, err := v1.ParsePlatform(p.platform)
	if err != nil {
		return usagef(cmd, "--platform is %q, want OS/ARCH as in linux/amd64: %w", p.platform, err)
	}
	img, err := remote.Image(ref, remote.WithContext(cmd.Context()), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(*platform), remote.WithUserAgent("ocicache"))
	if err != nil {
		return fmt.Errorf("pull %s: %w", ref, &pullError{err: err})
	}
	bar := p.a.progress("pulled", "layer")
	defer bar.end()
	opts := []cache.Option{cache.WithProgress(bar.show), cache.WithLogger(bar.logger())}
	if p.dir != "" {
		opts = append(opts, cache.WithVerifyReads()) // no rot goes on to others
	}
	return p.a.create(func(c *cache.Cache) error {
		v, err := p.fill(cmd.Context(), c, img)
		v.Image = ref.Name()
		bar.end()
		if err != nil {
			return errors.Join(fmt.Errorf("pull %s: %w", ref, err), p.a.partial(v, len(v.Layers) > 0))
		}
		if p.dir != "" {
			if err := export(cmd.Context(), c, p.dir, v.Image, c.Image(img)); err != nil {
				return err
			}
		}
		if err := p.a.report(v, p.a.pullText(v)); err != nil {
			return err
		}
		return p.kept(v)
	}, opts...)
}

// fill brings the layers into the cache. If that fails, it returns what became
// of them so far.
func (p *pull) fill(ctx context.Context, c *cache.Cache, img v1.Image) (v pullJSON, err error) {
	digest, layers, err := layersOf(c.Image(img))
	if err != nil {
		return v, &pullError{err: err}
	}
	v.Digest = digest.String()
	before, err := present(ctx, c)
	if err != nil {
		return v, err
	}
	otherwise := stateNotKept
	if p.both {
		err = c.FillUncompressed(ctx, layers...)
	} else {
		err = c.Fill(ctx, layers...)
	}
	if err != nil {
		err, otherwise = &pullError{err: err, layers: true}, stateFailed
	}
	after, perr := present(context.WithoutCancel(ctx), c)
	if perr != nil {
		return v, errors.Join(err, perr)
	}
	v.Read = c.Stats().BytesRead
	return v, errors.Join(err, v.add(layers, before, after, otherwise))
}

// layersOf returns an image's digest and its layers, each once.
func layersOf(img v1.Image) (digest v1.Hash, once []v1.Layer, err error) {
	if digest, err = img.Digest(); err != nil {
		return digest, nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return digest, nil, err
	}
	once, err = distinct(layers)
	return digest, once, err
}

// distinct returns the layers, each once.
func distinct(layers []v1.Layer) (once []v1.Layer, err error) {
	seen := map[v1.Hash]bool{}
	for _, l := range layers {
		h, err := l.Digest()
		if err != nil {
			return nil, err
		}
		if !seen[h] {
			seen[h] = true
			once = append(once, l)
		}
	}
	return once, nil
}

// add lists the layers, those that are not there with a state of their own.
func (v *pullJSON) add(layers []v1.Layer, before, after map[v1.Hash]bool, otherwise string) error {
	v.Layers = []layerJSON{}
	var all int64
	for _, l := range layers {
		h, err := l.Digest()
		if err != nil {
			return err
		}
		n, err := l.Size()
		if err != nil {
			return err
		}
		all += n
		state := otherwise
		switch {
		case before[h]:
			state = stateCached
		case after[h]:
			state = statePulled
		}
		v.Layers = append(v.Layers, layerJSON{h.String(), n, state, h})
	}
	v.Saved = max(all-v.Read, 0) // what is there may be bad, and read again
	return nil
}

// present returns the digests whose bytes are there.
func present(ctx context.Context, c *cache.Cache) (map[v1.Hash]bool, error) {
	usages, err := c.DiskUsage(ctx, "present")
	if err != nil {
		return nil, err
	}
	there := map[v1.Hash]bool{}
	for _, u := range usages {
		there[u.Digest] = true
	}
	return there, nil
}

// kept is an error if the cache could not take all layers.
func (p *pull) kept(v pullJSON) error {
	var lost int64
	for _, l := range v.Layers {
		if l.State == stateNotKept {
			lost++
		}
	}
	if lost == 0 {
		return nil
	}
	return fmt.Errorf("%s could not be kept: look for room on the disk, or run %s", count(lost, "layer"), p.a.command("prune --max-bytes 10GB"))
}

func (a *app) pullText(v pullJSON) string {
	var rows [][]string
	for _, l := range v.Layers {
		rows = append(rows, []string{short(l.hash), size(l.Size), l.State})
	}
	return a.table("LAYER SIZE STATE", rows) +
		fmt.Sprintf("\n%s, %s read, %s saved: %s@%s\n", count(int64(len(v.Layers)), "layer"), size(v.Read), size(v.Saved), v.Image, v.Digest)
}
