package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"

	"github.com/ocicache/ocicache/cache"
)

// smallFills is filling an empty cache with many small layers.
func smallFills(e *env) *group {
	f := &filling{e: e}
	name := fmt.Sprintf("fill %s layers of 1 KiB", thousands(e.small))
	return &group{
		most: 3,
		rows: []row{
			{name: name, unit: seconds, ours: "ours", ggcr: "ggcr", bare: "bare", aim: ofBare(3)},
			{name: "the same with Fill", unit: seconds, ours: "Fill", ggcr: "ggcr", bare: "bare", aim: ofBare(3)},
			{name: "Flush after it", unit: seconds, ours: "Flush"},
		},
		trials: []trial{f.ours, f.ggcr, f.bare, f.fill},
	}
}

type filling struct{ e *env }

// with calls fn with new layers and an empty cache.
func (f *filling) with(fn func(*cache.Cache, []v1.Layer) error) error {
	layers, err := f.e.smallLayers(f.e.small)
	if err != nil {
		return err
	}
	return f.e.inTemp(func(dir string) error {
		c, err := cache.Open(dir)
		if err != nil {
			return err
		}
		if err := fn(c, layers); err != nil {
			return errors.Join(err, c.Close())
		}
		return errors.Join(allKept(c, layers), c.Close())
	})
}

func (f *filling) ours(s *samples) error {
	return f.with(func(c *cache.Cache, layers []v1.Layer) error {
		if err := s.time("ours", func() error { return putAll(through(c), layers) }); err != nil {
			return err
		}
		return s.time("Flush", c.Flush)
	})
}

func (f *filling) fill(s *samples) error {
	return f.with(func(c *cache.Cache, layers []v1.Layer) error {
		return s.time("Fill", func() error { return c.Fill(context.Background(), layers...) })
	})
}

func (f *filling) ggcr(s *samples) error {
	layers, err := f.e.smallLayers(f.e.small)
	if err != nil {
		return err
	}
	return f.e.inTemp(func(dir string) error {
		c := ggcrcache.NewFilesystemCache(dir)
		if err := s.time("ggcr", func() error { return putAll(through(c), layers) }); err != nil {
			return err
		}
		return allKept(c, layers)
	})
}

// bare also appends a line for each layer to a journal.
func (f *filling) bare(s *samples) error {
	layers, err := f.e.smallLayers(f.e.small)
	if err != nil {
		return err
	}
	return f.e.inTemp(func(dir string) error {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		journal, err := os.Create(filepath.Join(dir, "journal"))
		if err != nil {
			return err
		}
		put := withJournal(journal, bareFile(dir))
		return errors.Join(s.time("bare", func() error { return putAll(put, layers) }), journal.Close())
	})
}
