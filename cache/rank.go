package cache

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/internal/filter"
)

// rank sorts usages by what is to go first: as in BuildKit, the places that a
// blob has by its last use and by its use count, each as a share of how many
// places there are, added up. Of equals the lesser digest goes first.
func rank(us []Usage) {
	score := make(map[v1.Hash]float64, len(us))
	places := func(compare func(a, b Usage) int) {
		slices.SortFunc(us, compare)
		place := 0
		at := make([]int, len(us))
		for i := range us {
			if i > 0 && compare(us[i-1], us[i]) != 0 {
				place++
			}
			at[i] = place
		}
		for i, u := range us {
			score[u.Digest] += float64(at[i]) / float64(max(place, 1))
		}
	}
	places(func(a, b Usage) int { return a.touched().Compare(b.touched()) })
	places(func(a, b Usage) int { return cmp.Compare(a.UseCount, b.UseCount) })
	slices.SortFunc(us, func(a, b Usage) int {
		return cmp.Or(cmp.Compare(score[a.Digest], score[b.Digest]), strings.Compare(a.Digest.String(), b.Digest.String()))
	})
}

// A step is the removal of a blob's bytes, and why.
type step struct {
	Usage
	reason string
}

// plan returns what goes of total bytes, in order, until so many are kept.
func (pr *pruner) plan(p PrunePolicy, f *filter.Filter, all []Usage, total, keep int64) []step {
	cs := slices.DeleteFunc(pr.candidates(p, f, all), func(u Usage) bool { return !u.Present })
	rank(cs)
	var steps []step
	taken := map[v1.Hash]bool{}
	take := func(u Usage, why string) {
		if total > keep && total-u.Size >= p.ReservedBytes {
			steps = append(steps, step{u, why + p.why(total-keep)})
			taken[u.Digest] = true
			total -= u.Size
		}
	}
	// Bytes that can be made again go first: tars, since decompressing is
	// quick, then blobs that we compressed. Each needs its source to stay.
	goes := func(h v1.Hash) bool { return taken[h] || pr.isGone(h) }
	for _, form := range []Form{FormUncompressed, FormCompressed} {
		for _, u := range cs {
			if stays := slices.DeleteFunc(slices.Clone(u.sources), goes); len(stays) > 0 && u.Form == form {
				take(u, fmt.Sprintf("can be made again from %s; ", stays[0]))
			}
		}
	}
	for _, u := range cs {
		if !taken[u.Digest] {
			take(u, "")
		}
	}
	return steps
}

// removal returns what removing a step's blob is, of so many bytes.
func (s step) removal(p PrunePolicy, size int64) Removal {
	return Removal{Digest: s.Digest, Bytes: size, Reason: s.reason, Forgotten: p.forgetsAll() || !s.worthRemembering()}
}

// why says what of a policy asks for a removal, when so many bytes are too
// many.
func (p PrunePolicy) why(excess int64) string {
	switch {
	case p.hasLimit():
		return fmt.Sprintf("%d bytes over the limit", excess)
	case p.All:
		return "all is to go"
	case len(p.Filters) > 0:
		return "a filter matches"
	}
	return fmt.Sprintf("not used for %v", p.KeepDuration)
}
