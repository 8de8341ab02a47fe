package main

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// builds is Build of a key that is known, in a cache with many entries, beside
// what it skips: reading, hashing and compressing the layer, as ggcr does for
// one that is known as a tar.
func builds(e *env) *group {
	b := &building{e: e}
	return &group{
		prepare: b.prepare,
		most:    3,
		rows: []row{
			{name: fmt.Sprintf("build-key hit, %s entries", thousands(e.many)), unit: seconds, ours: "hit", ggcr: "skipped", aim: atMost("≤ 10 µs", 10e-6)},
			{name: "build-key hit: allocs", ours: "allocs"},
		},
		trials: []trial{b.hit, b.skipped},
	}
}

type building struct {
	e    *env
	big  *bigLayer
	full *warmCache
}

const buildKey = "bench"

func (b *building) prepare() (err error) {
	if b.big, err = b.e.big.get(); err != nil {
		return err
	}
	if b.full, err = b.e.full.get(); err != nil {
		return err
	}
	_, err = b.build(func(context.Context) (v1.Layer, error) { return b.big.layer() })
	return err
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

func (b *building) skipped(s *samples) error {
	return s.time("skipped", func() error {
		l, err := b.big.tarOnly()
		if err != nil {
			return err
		}
		_, err = l.Digest()
		return err
	})
}
