package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"

	"github.com/ocicache/ocicache/cache"
)

// coldFills is reading an image's layer from a registry through an empty
// cache, and then its other form.
func coldFills(e *env) *group {
	g := &group{rows: []row{
		coldRow("cold compressed", "compressed", ofGGCR(1.15)),
		coldRow("cold compressed: GETs", "compressed GETs", atMost("1", 1)),
		coldRow("then uncompressed (ref: gunzip)", "compressed then", ofBare(1.15)),
		coldRow("then uncompressed: GETs", "compressed then GETs", atMost("0", 0)),
		coldRow("cold uncompressed, ours keeps both", "uncompressed", aim{"< ggcr", func(ours, ggcr, _ float64) bool { return ours < ggcr }}),
		coldRow("cold uncompressed: GETs", "uncompressed GETs", atMost("1", 1)),
		coldRow("then compressed", "uncompressed then", aim{}),
		coldRow("then compressed: GETs", "uncompressed then GETs", atMost("0", 0)),
	}}
	c := &cold{e: e}
	g.prepare = func() (err error) {
		if c.big, err = e.big.get(); err != nil {
			return err
		}
		c.reg, err = e.reg.get()
		return err
	}
	for _, order := range [][2]form{{compressed, uncompressed}, {uncompressed, compressed}} {
		for _, k := range contestants {
			g.trials = append(g.trials, func(s *samples) error {
				return e.inTemp(func(dir string) error { return c.trial(s, k, dir, order[0], order[1]) })
			})
		}
	}
	g.trials = append(g.trials, c.gunzip)
	return g
}

func coldRow(name, sample string, a aim) row {
	r := row{name: name, unit: seconds, ours: "ours " + sample, ggcr: "ggcr " + sample, bare: "bare " + sample, aim: a}
	if strings.HasSuffix(name, "GETs") {
		r.unit = number
	}
	return r
}

// A contestant puts a cache between an image and its reader.
type contestant struct {
	name string
	open func(dir string) (*opened, error)
}

// opened is a contestant's empty cache.
type opened struct {
	wrap  func(v1.Image) v1.Image
	blob  func(v1.Hash) opener // what was kept; nil if nothing is
	close func() error
}

var contestants = []contestant{
	{"ours", func(dir string) (*opened, error) {
		c, err := cache.Open(dir)
		if err != nil {
			return nil, err
		}
		kept := func(h v1.Hash) opener {
			return func() (io.ReadCloser, error) { return os.Open(filepath.Join(dir, "blobs", h.Algorithm, h.Hex)) }
		}
		return &opened{c.Image, kept, c.Close}, nil
	}},
	{"ggcr", func(dir string) (*opened, error) {
		c := ggcrcache.NewFilesystemCache(dir)
		kept := func(h v1.Hash) opener {
			return func() (io.ReadCloser, error) { return os.Open(filepath.Join(dir, h.String())) }
		}
		return &opened{func(img v1.Image) v1.Image { return ggcrcache.Image(img, c) }, kept, func() error { return nil }}, nil
	}},
	{"bare", func(string) (*opened, error) { // no cache at all
		return &opened{func(img v1.Image) v1.Image { return img }, nil, func() error { return nil }}, nil
	}},
}

type cold struct {
	e   *env
	big *bigLayer
	reg *registryServer
}

// trial reads one form of the layer, and then the other one.
func (c *cold) trial(s *samples, k contestant, dir string, first, then form) (err error) {
	o, l, err := c.open(k, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	name := k.name + " " + first.name
	if err := c.read(s, name, l, first); err != nil || o.blob == nil {
		return err
	}
	if err := c.read(s, name+" then", l, then); err != nil {
		return err
	}
	for _, f := range []form{first, then} {
		_, hash, _ := f.file(c.big)
		if err := verify(o.blob(hash), hash); err != nil {
			return err
		}
	}
	return nil
}

// open returns the layer as it is read through an empty cache.
func (c *cold) open(k contestant, dir string) (*opened, v1.Layer, error) {
	img, err := c.reg.image()
	if err != nil {
		return nil, nil, err
	}
	o, err := k.open(dir)
	if err != nil {
		return nil, nil, err
	}
	layers, err := o.wrap(img).Layers()
	if err != nil {
		return nil, nil, errors.Join(err, o.close())
	}
	return o, layers[0], nil
}

func (c *cold) read(s *samples, name string, l v1.Layer, f form) error {
	_, _, size := f.file(c.big)
	before := c.reg.gets.Load()
	if err := s.time(name, func() error { return readLoop(f.open(l), size) }); err != nil {
		return err
	}
	s.add(name+" GETs", float64(c.reg.gets.Load()-before))
	return nil
}

// gunzip is what a local decompression costs at least.
func (c *cold) gunzip(s *samples) error {
	return s.time("bare compressed then", func() error {
		return readLoop(gunzipped(c.big.Compressed), c.big.tarSize)
	})
}
