package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/index"
)

// A putter keeps a small layer.
type putter func(v1.Layer) error

// through keeps a layer by reading it through a cache to its end.
func through(c ggcrcache.Cache) putter {
	return func(inner v1.Layer) error {
		l, err := c.Put(inner)
		if err != nil {
			return err
		}
		return readLoop(l.Compressed, 1024)
	}
}

// bareFile keeps a layer in a directory: temporary file, hash, rename.
func bareFile(dir string) putter {
	return func(l v1.Layer) (err error) {
		rc, err := l.Compressed()
		if err != nil {
			return err
		}
		defer rc.Close()
		f, err := os.CreateTemp(dir, "tmp-")
		if err != nil {
			return err
		}
		h := sha256.New()
		if _, err := io.Copy(io.MultiWriter(f, h), rc); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := f.Close(); err != nil {
			return err
		}
		return os.Rename(f.Name(), filepath.Join(dir, hex.EncodeToString(h.Sum(nil))))
	}
}

// withJournal appends a record of each layer to a file, after it was put.
func withJournal(f *os.File, put putter) putter {
	return func(l v1.Layer) error {
		if err := put(l); err != nil {
			return err
		}
		h, err := l.Digest()
		if err != nil {
			return err
		}
		_, err = f.Write(append(index.PutRecord(index.Entry{Digest: h, Size: 1024, DiffID: h, Pair: index.Verified}), '\n'))
		return err
	}
}

// inLayout keeps a layer in an OCI image layout as go-containerregistry does.
func inLayout(p layout.Path) putter {
	return func(l v1.Layer) error {
		h, err := l.Digest()
		if err != nil {
			return err
		}
		rc, err := l.Compressed()
		if err != nil {
			return err
		}
		if err := p.WriteBlob(h, rc); err != nil {
			return err
		}
		return p.AppendDescriptor(v1.Descriptor{MediaType: types.OCIUncompressedLayer, Size: 1024, Digest: h})
	}
}

// puts compares ours with ggcr's cache and files, and with ggcr's layout.
func puts(e *env) *group {
	g := &group{}
	for _, n := range []int{e.few, e.many} {
		p := &putting{e: e, entries: n}
		name := fmt.Sprintf("Put 1 KiB at %s entries", thousands(n))
		ours := fmt.Sprint("ours", n)
		g.rows = append(g.rows,
			row{name: name, unit: seconds, ours: ours, ggcr: fmt.Sprint("ggcr", n), bare: fmt.Sprint("bare", n), aim: ofBare(3)},
			row{name: name + " (layout)", unit: seconds, ours: ours, ggcr: fmt.Sprint("layout", n)},
		)
		g.trials = append(g.trials, p.ours, p.ggcr, p.bare, p.layout)
		g.prepare = both(g.prepare, p.prepare)
	}
	return g
}

func both(a, b func() error) func() error {
	return func() error {
		if a != nil {
			if err := a(); err != nil {
				return err
			}
		}
		return b()
	}
}

// putting is Put into something that has so many entries already.
type putting struct {
	e       *env
	entries int
	cache   *cache.Cache
	theirs  ggcrcache.Cache
	dir     string
	path    layout.Path
}

func (p *putting) prepare() error {
	if p.entries == p.e.many {
		w, err := p.e.full.get()
		if err != nil {
			return err
		}
		p.cache, p.theirs = w.ours, w.ggcr
	} else if err := p.prepareSmall(); err != nil {
		return err
	}
	p.dir = p.e.path()
	if err := emptyFiles(p.dir, p.entries, ""); err != nil {
		return err
	}
	var err error
	p.path, err = p.e.makeLayout(p.entries)
	return err
}

func (p *putting) prepareSmall() error {
	dir, theirDir := p.e.path(), p.e.path()
	if err := p.e.writeEntries(dir, p.entries, true); err != nil {
		return err
	}
	c, err := cache.Open(dir)
	if err != nil {
		return err
	}
	p.e.atEnd = append(p.e.atEnd, c.Close)
	p.cache, p.theirs = c, ggcrcache.NewFilesystemCache(theirDir)
	return emptyFiles(theirDir, p.entries, "sha256:")
}

// makeLayout makes a layout of go-containerregistry's with n descriptors.
func (e *env) makeLayout(n int) (layout.Path, error) {
	dir := e.path()
	if _, err := layout.Write(dir, empty.Index); err != nil {
		return "", err
	}
	f, err := os.Create(filepath.Join(dir, "index.json"))
	if err != nil {
		return "", err
	}
	return layout.Path(dir), errors.Join(catalog(n).Encode(f, ""), f.Close())
}

func (p *putting) ours(s *samples) error {
	layers, err := p.put(s, "ours", p.e.puts, through(p.cache))
	if err != nil {
		return err
	}
	// The others are not to be measured while ours are being synced.
	return errors.Join(allKept(p.cache, layers), p.cache.Flush())
}

func (p *putting) ggcr(s *samples) error {
	layers, err := p.put(s, "ggcr", p.e.puts, through(p.theirs))
	if err != nil {
		return err
	}
	return allKept(p.theirs, layers)
}

func (p *putting) bare(s *samples) error {
	_, err := p.put(s, "bare", p.e.puts, bareFile(p.dir))
	return err
}

// layout puts one layer, if there are many entries: that takes long enough.
func (p *putting) layout(s *samples) error {
	n := p.e.puts
	if p.entries == p.e.many {
		n = 1
	}
	_, err := p.put(s, "layout", n, inLayout(p.path))
	return err
}

// put puts n layers, and records the time of each in the mean.
func (p *putting) put(s *samples, who string, n int, put putter) ([]v1.Layer, error) {
	layers, err := p.e.smallLayers(n)
	if err != nil {
		return nil, err
	}
	took, err := timed(func() error { return putAll(put, layers) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", who, err)
	}
	s.add(fmt.Sprint(who, p.entries), took/float64(n))
	return layers, nil
}

func putAll(put putter, layers []v1.Layer) error {
	for _, l := range layers {
		if err := put(l); err != nil {
			return err
		}
	}
	return nil
}

// allKept reads what was put.
func allKept(c ggcrcache.Cache, layers []v1.Layer) error {
	for _, l := range layers {
		if err := isKept(c, l); err != nil {
			return err
		}
	}
	return nil
}

func isKept(c ggcrcache.Cache, l v1.Layer) error {
	h, err := l.Digest()
	if err != nil {
		return err
	}
	want, err := contentOf(l)
	if err != nil {
		return err
	}
	cached, err := c.Get(h)
	if err != nil {
		return err
	}
	// ggcr's cache takes any plain file for a tar to compress.
	rc, err := cached.Uncompressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	got, err := io.ReadAll(rc)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s was kept wrong", h)
	}
	return err
}
