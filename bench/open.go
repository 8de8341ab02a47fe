package main

import (
	"fmt"
	"runtime"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"oras.land/oras-go/v2/content/oci"

	"github.com/ocicache/ocicache/cache"
)

// opens is opening a cache of many entries, and what memory it then holds.
// Nobody else keeps a catalog of layers; the nearest is reading a layout's
// index.
func opens(e *env) *group {
	o := &opening{e: e}
	name := fmt.Sprintf("Open at %s entries (layout; oras)", thousands(e.many))
	return &group{
		prepare: func() (err error) {
			o.dir, err = e.index.get()
			return err
		},
		rows: []row{
			{name: name, unit: seconds, ours: "ours", ggcr: "layout", bare: "oras", aim: atMost("≤ 0.1 s", 0.1)},
			{name: name[:len(name)-len(" (layout; oras)")] + ": heap kept", unit: bytesOf, ours: "ours heap", ggcr: "layout heap", bare: "oras heap", aim: atMost("≤ 30 MB", 30e6)},
		},
		trials: []trial{o.ours, o.layout, o.oras},
	}
}

type opening struct {
	e   *env
	dir string
}

func (o *opening) ours(s *samples) error {
	return heapKept(s, "ours", func() (any, error) {
		return cache.Open(o.dir)
	}, func(c any) error { return c.(*cache.Cache).Close() })
}

func (o *opening) layout(s *samples) error {
	return heapKept(s, "layout", func() (any, error) {
		idx, err := layout.ImageIndexFromPath(o.dir)
		if err != nil {
			return nil, err
		}
		return idx.IndexManifest()
	}, func(any) error { return nil })
}

func (o *opening) oras(s *samples) error {
	return heapKept(s, "oras", func() (any, error) {
		return oci.New(o.dir)
	}, func(any) error { return nil })
}

// heapKept records how long open takes, and what the heap has grown by once
// the garbage is gone.
func heapKept(s *samples, name string, open func() (any, error), closeIt func(any) error) error {
	before := heap()
	var v any
	err := s.time(name, func() (err error) {
		v, err = open()
		return err
	})
	if err != nil {
		return err
	}
	s.add(name+" heap", max(0, heap()-before))
	defer runtime.KeepAlive(v)
	return closeIt(v)
}

func heap() float64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
