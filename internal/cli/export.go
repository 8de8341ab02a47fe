package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocicache/ocicache/cache"
)

// exportLock is the file that is locked while a layout's index.json is changed.
const exportLock = ".lock"

// An exportError is of the directory that an image is written to, not of the
// cache.
type exportError struct{ err error }

func (e *exportError) Error() string { return e.err.Error() }

func (e *exportError) Unwrap() error { return e.err }

// checkTarget refuses a directory that an image cannot be written to: the
// cache's own, and one that holds something else than a layout.
func (a *app) checkTarget(dir string) error {
	if a.isOwn(dir) {
		return fmt.Errorf("%s is the cache itself: name another directory for the image", dir)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &exportError{err}
	}
	isOther := func(e fs.DirEntry) bool { return e.Name() != exportLock }
	if _, err := layout.FromPath(dir); err != nil && slices.ContainsFunc(entries, isOther) {
		return fmt.Errorf("%s holds something else than an OCI image layout: name an empty directory, or a new one", dir)
	}
	return nil
}

// export writes an image into an OCI image layout, in place of the one of that
// name, and makes the layout if there is none. The cache is closed if ctx ends
// meanwhile: checking a blob may take long.
func export(ctx context.Context, c *cache.Cache, dir, name string, img v1.Image) error {
	return closing(ctx, c, func() error {
		img := contextImage{img, ctx}
		var p layout.Path
		err := exclusive(ctx, dir, func() (err error) {
			if p, err = layout.FromPath(dir); err != nil {
				p, err = layout.Write(dir, empty.Index)
			}
			return err
		})
		if err == nil {
			err = p.WriteImage(img)
		}
		if err == nil {
			err = exclusive(ctx, dir, func() error { return list(p, name, img) })
		}
		if err != nil {
			return &exportError{fmt.Errorf("write %s to %s: %w", name, dir, err)}
		}
		return nil
	})
}

// list puts an image into index.json, in place of the one of that name. Who
// reads the file meanwhile has the old one or the new one.
func list(p layout.Path, name string, img v1.Image) error {
	idx, err := p.ImageIndex()
	if err != nil {
		return err
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	desc, err := partial.Descriptor(img)
	if err != nil {
		return err
	}
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	m.Manifests = append(slices.DeleteFunc(m.Manifests, match.Name(name)), *desc)
	b, err := json.MarshalIndent(m, "", "   ")
	if err != nil {
		return err
	}
	const next = ocispec.ImageIndexFile + ".new"
	if err := p.WriteFile(next, b, 0o666); err != nil {
		return err
	}
	return os.Rename(filepath.Join(string(p), next), filepath.Join(string(p), ocispec.ImageIndexFile))
}

// exclusive runs f while no other pull is at a layout's index.json.
func exclusive(ctx context.Context, dir string, f func() error) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(dir, exportLock))
	if _, err := lock.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return err
	}
	defer lock.Close()
	return f()
}

// A contextImage is one whose layers can be read until a context ends.
type contextImage struct {
	v1.Image
	ctx context.Context
}

func (i contextImage) Layers() ([]v1.Layer, error) {
	layers, err := i.Image.Layers()
	for n, l := range layers {
		layers[n] = contextLayer{l, i.ctx}
	}
	return layers, err
}

type contextLayer struct {
	v1.Layer
	ctx context.Context
}

func (l contextLayer) Compressed() (io.ReadCloser, error) {
	rc, err := l.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{reader{l.ctx, rc}, rc}, nil
}
