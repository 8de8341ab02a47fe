package main

import (
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"
)

// A form is one of the two forms of the big layer.
type form struct {
	name string
	open func(v1.Layer) opener
	file func(*bigLayer) (path string, hash v1.Hash, size int64)
}

var (
	compressed = form{"compressed", func(l v1.Layer) opener { return l.Compressed }, func(b *bigLayer) (string, v1.Hash, int64) {
		return b.gzipPath, b.digest, b.gzipSize
	}}
	uncompressed = form{"uncompressed", func(l v1.Layer) opener { return l.Uncompressed }, func(b *bigLayer) (string, v1.Hash, int64) {
		return b.tarPath, b.diffID, b.tarSize
	}}
)

// A manner is how all is read.
type manner struct {
	name string
	read func(opener, int64) error
}

var manners = []manner{{"64 KiB reads", readLoop}, {"io.Copy", readCopy}}

// warmReads is Get and reading to the end of what is there, against opening
// and reading the file.
func warmReads(e *env) *group {
	g := &group{}
	for _, f := range []form{compressed, uncompressed} {
		for _, m := range manners {
			name := "warm " + f.name + ", " + m.name
			g.rows = append(g.rows, row{name: name, unit: seconds, ours: "ours " + name, ggcr: "ggcr " + name, bare: "bare " + name, aim: ofBare(1.15)})
		}
	}
	var warm *warmCache
	var big *bigLayer
	g.prepare = func() (err error) {
		if big, err = e.big.get(); err != nil {
			return err
		}
		warm, err = e.warm.get()
		return err
	}
	for _, f := range []form{compressed, uncompressed} {
		g.trials = append(g.trials,
			func(s *samples) error { return warmOurs(s, f, warm, big) },
			func(s *samples) error { return warmGGCR(s, f, warm.ggcr, big) })
	}
	return g
}

// warmOurs takes turns with a bare read of the very file that is in the cache:
// how fast another copy of it is read depends on how that was written.
func warmOurs(s *samples, f form, w *warmCache, big *bigLayer) error {
	_, hash, size := f.file(big)
	file := opener(func() (rc io.ReadCloser, err error) { return os.Open(w.blob(hash)) })
	cached := opener(func() (io.ReadCloser, error) { return openFrom(w.ours, f, hash) })
	for range 5 {
		for _, m := range manners {
			name := "warm " + f.name + ", " + m.name
			if err := s.time("bare "+name, func() error { return m.read(file, size) }); err != nil {
				return err
			}
			if err := s.time("ours "+name, func() error { return m.read(cached, size) }); err != nil {
				return err
			}
		}
	}
	return verify(cached, hash)
}

func openFrom(c ggcrcache.Cache, f form, h v1.Hash) (io.ReadCloser, error) {
	l, err := c.Get(h)
	if err != nil {
		return nil, err
	}
	return f.open(l)()
}

// warmGGCR asks once for the layer, which takes most of the time, and adds
// the time of each manner of reading to that.
func warmGGCR(s *samples, f form, c ggcrcache.Cache, big *bigLayer) error {
	_, hash, size := f.file(big)
	var l v1.Layer
	get := newSamples()
	err := get.time("get", func() (err error) {
		l, err = c.Get(hash)
		return err
	})
	if err != nil {
		return err
	}
	for _, m := range manners {
		name := "ggcr warm " + f.name + ", " + m.name
		if err := get.time(name, func() error { return m.read(f.open(l), size) }); err != nil {
			return err
		}
		s.add(name, get.median("get")+get.median(name))
	}
	return nil
}
