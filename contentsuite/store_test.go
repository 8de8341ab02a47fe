package contentsuite_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocicache/ocicache/layout"
)

// A store is a content store over a layout. Bytes are in the layout alone,
// and what was committed is known from its journal alone. In memory the
// store keeps what a layout does not have: which ref an ingest goes by.
type store struct {
	layout  *layout.Layout
	catalog *catalog

	mu       sync.Mutex
	partials map[string]*partial // by ref, guarded by mu
}

var _ content.Store = (*store)(nil)

func openStore(dir string) (*store, error) {
	l, err := layout.Open(dir, layout.Options{})
	if err != nil {
		return nil, err
	}
	s := &store{layout: l, catalog: &catalog{}, partials: map[string]*partial{}}
	if err := l.Load(s.catalog); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

// Info catches up first: the blob may be another process's.
func (s *store) Info(_ context.Context, d digest.Digest) (content.Info, error) {
	if err := s.layout.CatchUp(); err != nil {
		return content.Info{}, err
	}
	return s.lookup(d)
}

// lookup is Info of what is known already. The journal has times and labels,
// the size is the file's.
func (s *store) lookup(d digest.Digest) (content.Info, error) {
	info, known := s.catalog.get(d)
	if !known {
		return content.Info{}, fmt.Errorf("content %s: %w", d, errdefs.ErrNotFound)
	}
	size, _, err := s.layout.StatBlob(hash(d))
	if err != nil {
		return content.Info{}, translate(err)
	}
	info.Size = size
	return info, nil
}

func (s *store) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	if _, err := s.Info(ctx, desc.Digest); err != nil {
		return nil, err
	}
	b, err := s.layout.Blob(hash(desc.Digest))
	if err != nil {
		return nil, translate(err)
	}
	return reader{b, b, b.Size}, nil
}

type reader struct {
	io.ReaderAt
	io.Closer
	size int64
}

func (r reader) Size() int64 { return r.size }

// commit makes an ingest's bytes a blob. That it is not there yet is looked
// at under the writers' lock, so that of several commits one succeeds.
func (s *store) commit(ctx context.Context, in *layout.Ingest, info content.Info) error {
	return s.layout.Update(ctx, func(tx *layout.Tx) error {
		if err := absent(s.lookup(info.Digest)); err != nil {
			return err
		}
		if _, err := tx.Commit(in, hash(info.Digest)); err != nil {
			return err
		}
		info.CreatedAt = time.Now().UTC()
		info.UpdatedAt = info.CreatedAt
		return record{Put: &info}.appendTo(tx) // the commit point
	})
}

func (s *store) Update(ctx context.Context, info content.Info, fieldpaths ...string) (content.Info, error) {
	var updated content.Info
	err := s.layout.Update(ctx, func(tx *layout.Tx) (err error) {
		if updated, err = s.lookup(info.Digest); err != nil {
			return err
		}
		if updated.Labels, err = relabel(updated.Labels, info.Labels, fieldpaths); err != nil {
			return err
		}
		updated.UpdatedAt = time.Now().UTC()
		return record{Put: &updated}.appendTo(tx)
	})
	return updated, err
}

// relabel returns the labels that fieldpaths name as they are in given, and
// the others as they were. No fieldpath stands for all.
func relabel(labels, given map[string]string, fieldpaths []string) (map[string]string, error) {
	if len(fieldpaths) == 0 {
		return given, nil
	}
	if labels == nil {
		labels = map[string]string{}
	}
	for _, path := range fieldpaths {
		key, ok := strings.CutPrefix(path, "labels.")
		if !ok {
			return nil, fmt.Errorf("field %q: %w", path, errdefs.ErrInvalidArgument)
		}
		labels[key] = given[key]
	}
	maps.DeleteFunc(labels, func(_, value string) bool { return value == "" })
	return labels, nil
}

func (s *store) Delete(ctx context.Context, d digest.Digest) error {
	return s.layout.Update(ctx, func(tx *layout.Tx) error {
		if _, err := s.lookup(d); err != nil {
			return err
		}
		if err := (record{Delete: d}).appendTo(tx); err != nil {
			return err
		}
		return tx.Trash(hash(d))
	})
}

// Walk goes by digest. Filters are containerd's own affair.
func (s *store) Walk(ctx context.Context, fn content.WalkFunc, filters ...string) error {
	if len(filters) > 0 {
		return fmt.Errorf("filters: %w", errdefs.ErrNotImplemented)
	}
	if err := s.layout.CatchUp(); err != nil {
		return err
	}
	for _, d := range s.catalog.digests() {
		info, err := s.lookup(d)
		if err == nil {
			err = fn(info)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// absent makes an error of a lookup that found something.
func absent(info content.Info, err error) error {
	if err == nil {
		return fmt.Errorf("content %s: %w", info.Digest, errdefs.ErrAlreadyExists)
	}
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// hash leaves it to the layout what can name a blob.
func hash(d digest.Digest) v1.Hash {
	algorithm, hex, _ := strings.Cut(d.String(), ":")
	return v1.Hash{Algorithm: algorithm, Hex: hex}
}

func translate(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errdefs.ErrNotFound, err)
	}
	return err
}
