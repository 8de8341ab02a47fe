package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"
)

// builds is Build of a key that is known, in a cache with many entries, beside
// what it skips after a build: making a tar of a program, hashing that,
// compressing it and hashing again, as ko does with ggcr, and the same with
// klauspost's gzip.
func builds(e *env) *group {
	b := &building{e: e}
	return &group{
		prepare: b.prepare,
		rows: []row{
			{name: fmt.Sprintf("build-key hit, %s (ko; klauspost)", thousands(e.many)), unit: seconds, ours: "hit", ggcr: "ko", bare: "klauspost", aim: atMost("≤ 10 µs", 10e-6)},
			{name: "build-key hit: allocs", ours: "allocs"},
		},
		trials: []trial{b.hit, b.ko, b.klauspost},
	}
}

type building struct {
	e      *env
	full   *warmCache
	binary []byte
}

const buildKey = "bench"

func (b *building) prepare() (err error) {
	if b.binary, err = program(b.e.binary); err != nil {
		return err
	}
	if b.full, err = b.e.full.get(); err != nil {
		return err
	}
	_, err = b.build(func(context.Context) (v1.Layer, error) { return b.layer() })
	return errors.Join(err, b.full.ours.Flush())
}

// program returns so many bytes of this program, over and over: a compressor
// does not look back that far.
func program(size int64) ([]byte, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	exe, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return bytes.Repeat(exe, int(size)/len(exe)+1)[:size], nil
}

func (b *building) build(build func(context.Context) (v1.Layer, error)) (v1.Layer, error) {
	return b.full.ours.Build(context.Background(), buildKey, build)
}

func (b *building) hit(s *samples) error {
	took, allocs, err := perOp(func() error {
		l, err := b.build(func(context.Context) (v1.Layer, error) { return nil, errors.New("it was built again") })
		if err != nil {
			return err
		}
		_, err = l.Digest()
		return err
	})
	s.add("hit", took)
	s.add("allocs", allocs)
	return err
}

func (b *building) ko(s *samples) error {
	return s.time("ko", func() error {
		l, err := b.layer()
		if err != nil {
			return err
		}
		_, err = l.Digest()
		return err
	})
}

// layer makes a layer of the program as ko does.
func (b *building) layer() (v1.Layer, error) {
	var buf bytes.Buffer
	if err := b.writeTar(&buf); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	}, tarball.WithCompressedCaching)
}

func (b *building) writeTar(w io.Writer) error {
	tw := tar.NewWriter(w)
	if err := tw.WriteHeader(&tar.Header{Name: "ko-app/program", Mode: 0o555, Size: int64(len(b.binary))}); err != nil {
		return err
	}
	if _, err := tw.Write(b.binary); err != nil {
		return err
	}
	return tw.Close()
}

// klauspost does it in one pass, and keeps nothing.
func (b *building) klauspost(s *samples) error {
	return s.time("klauspost", func() error {
		digest, diffID := newCounter(), newCounter()
		z, err := gzip.NewWriterLevel(digest, gzip.BestSpeed)
		if err != nil {
			return err
		}
		return errors.Join(b.writeTar(io.MultiWriter(diffID, z)), z.Close())
	})
}
