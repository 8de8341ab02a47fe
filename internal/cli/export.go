package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// checkTarget refuses a directory that an image cannot be written to: the
// cache's own, and one that holds something else than a layout.
func checkTarget(dir, cacheDir string) error {
	target, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if own, err := os.Stat(cacheDir); err == nil && os.SameFile(own, target) {
		return fmt.Errorf("%s is the cache itself: name another directory for the image", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if _, err := layout.FromPath(dir); err != nil && len(entries) > 0 {
		return fmt.Errorf("%s holds something else than an OCI image layout: name an empty directory, or a new one", dir)
	}
	return nil
}

// writeLayout writes an image into an OCI image layout, in place of the one of
// that name, and makes the layout if there is none.
func writeLayout(dir, name string, img v1.Image) error {
	p, err := layout.FromPath(dir)
	if err != nil {
		p, err = layout.Write(dir, empty.Index)
	}
	if err != nil {
		return err
	}
	named := layout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: name})
	return p.ReplaceImage(img, match.Name(name), named)
}
