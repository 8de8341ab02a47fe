package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/compression"
)

// packs is making the compressed form, and its digest, of a layer that is
// known only as a tar, as a push of it would.
func packs(e *env) *group {
	p := &packing{e: e}
	return &group{
		prepare: p.prepare,
		most:    3,
		rows: []row{
			{name: "compress a tar (tarball; pgzip)", unit: seconds, ours: "ours", ggcr: "tarball", bare: "bare", aim: atMost("≤ 0.9 s", 0.9)},
			{name: "compress a tar (partial; pgzip)", unit: seconds, ours: "ours", ggcr: "partial", bare: "bare"},
			{name: "compress a tar: size", unit: bytesOf, ours: "ours size", ggcr: "partial size", bare: "bare size", aim: ofGGCR(1.02)},
		},
		trials: []trial{p.ours, p.tarball, p.partial, p.bare},
	}
}

type packing struct {
	e     *env
	big   *bigLayer
	cache *cache.Cache
}

// prepare makes a cache that has the tar and nothing else.
func (p *packing) prepare() (err error) {
	if p.big, err = p.e.big.get(); err != nil {
		return err
	}
	if p.cache, err = cache.Open(p.e.path()); err != nil {
		return err
	}
	p.e.atEnd = append(p.e.atEnd, p.cache.Close)
	inner, err := p.big.tarOnly()
	if err != nil {
		return err
	}
	l, err := p.cache.Put(inner)
	if err != nil {
		return err
	}
	return errors.Join(verify(l.Uncompressed, p.big.diffID), p.cache.Flush())
}

func (p *packing) ours(s *samples) error {
	var l v1.Layer
	err := p.time(s, "ours", func() (_ v1.Layer, err error) {
		l, err = p.cache.Get(p.big.diffID)
		return l, err
	})
	if err != nil {
		return err
	}
	h, err := l.Digest()
	if err != nil {
		return err
	}
	if err := verify(l.Compressed, h); err != nil {
		return err
	}
	if err := verify(gunzipped(l.Compressed), p.big.diffID); err != nil {
		return err
	}
	// For the next turn; Flush, so that nothing goes on behind the others'.
	if err := errors.Join(p.cache.Delete(h), p.cache.Flush()); err != nil {
		return err
	}
	if _, err := p.cache.Get(h); !errors.Is(err, ggcrcache.ErrNotFound) {
		return fmt.Errorf("%s was deleted: %w", h, err)
	}
	return nil
}

func (p *packing) tarball(s *samples) error {
	return p.time(s, "tarball", func() (v1.Layer, error) { return tarball.LayerFromOpener(p.big.openTar) })
}

// partial knows the diffID, as ours does.
func (p *packing) partial(s *samples) error { return p.time(s, "partial", p.big.tarOnly) }

// time asks for the digest and reads the compressed form.
func (p *packing) time(s *samples, name string, open func() (v1.Layer, error)) error {
	var size int64
	err := s.time(name, func() error {
		l, err := open()
		if err != nil {
			return err
		}
		if _, err := l.Digest(); err != nil {
			return err
		}
		if size, err = l.Size(); err != nil {
			return err
		}
		return readLoop(l.Compressed, size)
	})
	s.add(name+" size", float64(size))
	return err
}

// bare compresses with our codec, and hashes, into nothing.
func (p *packing) bare(s *samples) error {
	out := newCounter()
	err := s.time("bare", func() error {
		f, err := os.Open(p.big.tarPath)
		if err != nil {
			return err
		}
		defer f.Close()
		z, err := compression.NewWriter(out, compression.DefaultSettings())
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(z, struct{ io.Reader }{f}, make([]byte, 64<<10))
		return errors.Join(err, z.Close())
	})
	s.add("bare size", float64(out.n))
	return err
}

// gunzipped opens the uncompressed form of what open opens.
func gunzipped(open opener) opener {
	return func() (io.ReadCloser, error) {
		rc, err := open()
		if err != nil {
			return nil, err
		}
		z, err := compression.NewReader(rc)
		if err != nil {
			return nil, errors.Join(err, rc.Close())
		}
		return struct {
			io.Reader
			io.Closer
		}{z, rc}, nil
	}
}
