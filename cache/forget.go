package cache

import (
	"context"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/internal/filter"
	"github.com/ocicache/ocicache/layout"
)

// worthRemembering reports whether an entry says something without its bytes.
func (u *Usage) worthRemembering() bool {
	return u.Form == FormCompressed && u.DiffID != (v1.Hash{}) || len(u.Keys) > 0
}

// forget removes what is remembered and too much.
func (pr *pruner) forget(ctx context.Context, p PrunePolicy, f *filter.Filter, all []Usage) error {
	remembered := slices.DeleteFunc(all, func(u Usage) bool { return u.Present })
	goes, reason := pr.candidates(p, f, remembered), "all is to go"
	if !p.forgetsAll() {
		goes = pr.excess(remembered)
		reason = fmt.Sprintf("more than %d are remembered", pr.c.o.maxRemembered)
	}
	for batch := range slices.Chunk(goes, pruneBatch) {
		if err := pr.forgetSome(ctx, p, batch, reason); err != nil {
			return err
		}
	}
	return nil
}

// excess returns what is remembered beyond what may be: first the pairs, then
// what builds made, each by rank.
func (pr *pruner) excess(remembered []Usage) []Usage {
	var pairs, built []Usage
	for _, u := range remembered {
		switch {
		case u.Pinned || u.foreign:
		case len(u.Keys) > 0:
			built = append(built, u)
		default:
			pairs = append(pairs, u)
		}
	}
	rank(pairs)
	rank(built)
	all := append(pairs, built...)
	return all[:max(0, len(all)-pr.c.o.maxRemembered)]
}

// forgetSome forgets some entries, unless they have bytes by now.
func (pr *pruner) forgetSome(ctx context.Context, p PrunePolicy, batch []Usage, reason string) error {
	var done []Removal
	forgotten := func(u Usage) { done = append(done, Removal{Digest: u.Digest, Reason: reason, Forgotten: true}) }
	var err error
	if p.DryRun {
		for _, u := range batch {
			forgotten(u)
		}
	} else {
		err = pr.update(ctx, p, func(tx *layout.Tx) error {
			for _, u := range batch {
				there, err := pr.c.isThere(u.Digest)
				if err != nil {
					return err
				}
				if _, ok := pr.c.catalog.get(u.Digest); !ok || there || len(pr.c.catalog.pinsOf(u.Digest)) > 0 {
					continue
				}
				if err := tx.Append(index.DropRecord(u.Digest)); err != nil {
					return err
				}
				forgotten(u)
			}
			return nil
		})
	}
	for _, r := range done {
		pr.note(p, r)
	}
	return err
}
