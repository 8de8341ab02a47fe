package main

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"
)

// gets is Get of the big layer, of which ggcr's cache reads all each time.
func gets(e *env) *group {
	g := &group{}
	hashes := []string{"digest", "diffID"}
	sizes := []int{10, e.many}
	for _, by := range hashes {
		for _, n := range sizes {
			ours := fmt.Sprint("ours", by, n)
			of := fmt.Sprintf("Get by %s, %s entries", by, thousands(n))
			g.rows = append(g.rows,
				row{name: of, unit: seconds, ours: ours, ggcr: "ggcr" + by, aim: atMost("≤ 5 µs", 5e-6)},
				row{name: of + ": allocs", ours: ours + "allocs", aim: atMost("≤ 2", 2)})
		}
	}
	var warm, full *warmCache
	var big *bigLayer
	g.prepare = func() (err error) {
		if big, err = e.big.get(); err != nil {
			return err
		}
		if warm, err = e.warm.get(); err != nil {
			return err
		}
		full, err = e.full.get()
		return err
	}
	for _, by := range hashes {
		hash := func() v1.Hash {
			if by == "digest" {
				return big.digest
			}
			return big.diffID
		}
		g.trials = append(g.trials,
			func(s *samples) error { return getOurs(s, fmt.Sprint("ours", by, 10), warm.ours, hash()) },
			func(s *samples) error { return s.time("ggcr"+by, func() error { return getOne(warm.ggcr, hash()) }) },
			func(s *samples) error { return getOurs(s, fmt.Sprint("ours", by, e.many), full.ours, hash()) })
	}
	return g
}

func getOurs(s *samples, name string, c ggcrcache.Cache, h v1.Hash) error {
	took, allocs, err := perOp(func() error { return getOne(c, h) })
	s.add(name, took)
	s.add(name+"allocs", allocs)
	return err
}

func getOne(c ggcrcache.Cache, h v1.Hash) error {
	_, err := c.Get(h)
	return err
}

// thousands writes 100000 as 100,000.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
