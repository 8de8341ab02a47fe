package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// adoptJSON is what adopt prints. Sizes are in bytes.
type adoptJSON struct {
	Layout string         `json:"layout"`
	Images int            `json:"images"`
	Blobs  []adoptionJSON `json:"blobs"`
	Copied int64          `json:"copied"`
	Absent int            `json:"absent"` // that the layout names and does not have

	own bool // the layout is the cache's directory
}

type adoptionJSON struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	State  string `json:"state"` // stateAdopted, stateCached or stateFailed
	Error  string `json:"error,omitempty"`
}

const stateAdopted = "adopted"

func (a *app) adoptCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "adopt LAYOUT",
		Short: "Take the layers of an OCI image layout",
		Long: `Copy the layers of all images in an OCI image layout into the cache; those that
are there already are not copied again. What the images say that their layers
decompress to is taken as a claim, and checked when it is first needed. The
layout may be a cache's directory; it is not changed. The cache is made if there
is none.`,
		Example: `  ocicache pull --format oci debian:12 debian-layout
  ocicache adopt debian-layout`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.adopt(cmd.Context(), args[0]) },
	}
}

func (a *app) adopt(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err != nil { // before a cache is made
		return noLayout(dir, err)
	}
	bar := a.progress("copied", "layer")
	defer bar.end()
	return a.create(func(c *cache.Cache) error {
		r, err := c.Adopt(ctx, dir)
		bar.end()
		if err != nil {
			return errors.Join(noLayout(dir, err), a.partial(a.adoptOf(dir, r), len(r.Blobs) > 0))
		}
		v := a.adoptOf(dir, r)
		if err := a.report(v, a.adoptText(v)); err != nil {
			return err
		}
		return v.failed()
	}, cache.WithProgress(bar.show), cache.WithLogger(bar.logger()))
}

// noLayout says what is wrong with a layout that cannot be read.
func noLayout(dir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, cache.ErrNotLayout):
		return fmt.Errorf("%s is no OCI image layout: name a directory that has an oci-layout file", dir)
	case errors.Is(err, cache.ErrVersion), errors.Is(err, cache.ErrMalformed), errors.Is(err, fs.ErrInvalid): // for which there is other advice on the cache itself
		return fmt.Errorf("the layout cannot be read: %s: have the tool that wrote it write it again", err.Error())
	}
	return err
}

func (a *app) adoptOf(dir string, r cache.AdoptReport) adoptJSON {
	v := adoptJSON{own: a.isOwn(dir), Layout: dir, Images: r.Images, Blobs: []adoptionJSON{}, Absent: r.Absent}
	for _, b := range r.Blobs {
		x := adoptionJSON{Digest: b.Digest, Size: b.Size, State: stateAdopted}
		switch {
		case b.Err != nil:
			x.State, x.Error = stateFailed, b.Err.Error()
		case b.Present:
			x.State = stateCached
		case !v.own:
			v.Copied += b.Size
		}
		v.Blobs = append(v.Blobs, x)
	}
	return v
}

// failed is an error if there is something that could not be taken.
func (v adoptJSON) failed() error {
	failed, why := int64(0), ""
	for _, x := range v.Blobs {
		if x.State == stateFailed {
			failed, why = failed+1, x.Error
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%s could not be taken, the last for: %s: copy the layout anew, and adopt it again", count(failed, "blob"), why)
}

// how returns how the blobs came into the cache.
func (v adoptJSON) how() string {
	if v.own {
		return "in the cache's own directory"
	}
	return size(v.Copied) + " copied"
}

func (a *app) adoptText(v adoptJSON) string {
	var rows [][]string
	for _, x := range v.Blobs {
		digest := printable(x.Digest) // whatever the layout has for one
		if h, err := v1.NewHash(x.Digest); err == nil {
			digest = short(h)
		}
		rows = append(rows, []string{digest, size(x.Size), x.State})
	}
	text := a.table("BLOB SIZE STATE", rows) + fmt.Sprintf("\n%s: %s, %s, %s", printable(v.Layout), count(int64(v.Images), "image"), count(int64(len(v.Blobs)), "blob"), v.how())
	if v.Absent > 0 {
		text += fmt.Sprintf("; %s not in the layout", count(int64(v.Absent), "blob"))
	}
	return text + "\n"
}
