package cli

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// inspectJSON is what inspect prints of a layer.
type inspectJSON struct {
	Hash   string      `json:"hash"`
	DiffID string      `json:"diffid,omitempty"`
	Blobs  []usageJSON `json:"blobs"`          // the tar and all compressed forms
	Files  []fileJSON  `json:"files,omitzero"` // nil unless they were asked for
}

type fileJSON struct {
	Name string `json:"name"`
	Mode string `json:"mode"`
	Size int64  `json:"size"`
	Link string `json:"link,omitempty"`
}

func (a *app) inspectCommand() *cobra.Command {
	var files bool
	cmd := &cobra.Command{
		Use:   "inspect HASH",
		Short: "Show all that is known of a layer",
		Long: `Show what is known of the layer of a digest or a diffID: all its forms, where
they came from, when they were used, and what holds them.

Listing its files reads the layer, and keeps no tar that was not there before.`,
		Example: `  ocicache inspect $(ocicache ls -q present | head -n 1)
  ocicache inspect --files -o json $(ocicache ls -q present | head -n 1)`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := parseHash(cmd, args[0]); err != nil {
				return err
			}
			return a.with(func(c *cache.Cache) error { return a.inspect(cmd.Context(), c, args, files) }, a.reading()...)
		},
	}
	cmd.Flags().BoolVar(&files, "files", false, "list the files in the layer too")
	return cmd
}

func (a *app) inspect(ctx context.Context, c *cache.Cache, args []string, files bool) error {
	hs, usages, err := a.resolveAll(ctx, c, args)
	if err != nil {
		return err
	}
	h := hs[0]
	diffID, blobs := formsOf(usages, h)
	v := inspectJSON{Hash: h.String(), DiffID: full(diffID), Blobs: usagesOf(blobs)}
	if files {
		if v.Files, err = filesOf(ctx, c, h); err != nil {
			return gone(c, h, err)
		}
	}
	return a.emit(v, a.inspectText(v, blobs))
}

// formsOf returns a layer's diffID, zero if it is not known, and its blobs.
func formsOf(usages []cache.Usage, h v1.Hash) (diffID v1.Hash, blobs []cache.Usage) {
	diffID = h
	for _, u := range usages {
		if u.Digest == h {
			diffID = u.DiffID
		}
	}
	for _, u := range usages {
		if u.Digest == h || u.DiffID == diffID && diffID != (v1.Hash{}) {
			blobs = append(blobs, u)
		}
	}
	return diffID, blobs
}

// filesOf lists a layer's files.
func filesOf(ctx context.Context, c *cache.Cache, h v1.Hash) (files []fileJSON, err error) {
	l, err := c.Get(h)
	if err != nil {
		return nil, err
	}
	rc, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	files = []fileJSON{}
	tr := tar.NewReader(reader{ctx, rc})
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("files of %s: %w", h, err)
		}
		files = append(files, fileJSON{header.Name, header.FileInfo().Mode().String(), header.Size, header.Linkname})
	}
}

func (a *app) inspectText(v inspectJSON, blobs []cache.Usage) string {
	text := fields("layer", v.Hash, "diffid", or(v.DiffID, "not known"))
	for _, u := range blobs {
		text += "\n" + fields(
			"digest", u.Digest.String(),
			"form", string(u.Form)+", "+strings.ReplaceAll(flags(u), ",", ", "),
			"pair", u.Pair,
			"type", string(u.MediaType),
			"size", fmt.Sprintf("%s (%d bytes)", size(u.Size), u.Size),
			"created", age(a.now(), u.Created),
			"lastused", fmt.Sprintf("%s, %s in all", age(a.now(), u.LastUsed), count(u.UseCount, "use")),
			"origin", u.Origin,
			"keys", strings.Join(u.Keys, ", "),
			"pins", strings.Join(u.Pins, ", "),
		)
	}
	if v.Files == nil {
		return text
	}
	var rows [][]string
	for _, f := range v.Files {
		name := f.Name
		if f.Link != "" {
			name += " -> " + f.Link
		}
		rows = append(rows, []string{f.Mode, size(f.Size), printable(name)})
	}
	return text + "\n" + a.table("MODE SIZE FILE", rows)
}

// fields returns names and values, a line each, without the empty ones.
func fields(namesValues ...string) string {
	var text strings.Builder
	for i := 0; i < len(namesValues); i += 2 {
		if namesValues[i+1] != "" {
			fmt.Fprintf(&text, "%-8s %s\n", namesValues[i], printable(namesValues[i+1]))
		}
	}
	return text.String()
}
