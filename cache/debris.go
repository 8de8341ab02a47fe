package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/layout"
)

const (
	// pruneGrace is how old a blob must be that nothing lists: another tool
	// may be about to list it.
	pruneGrace = time.Hour
	// quarantineGrace is how long somebody may look at what was put aside.
	quarantineGrace = 7 * 24 * time.Hour
)

// debris removes what dead processes left, what nothing lists or reaches, and
// what was put aside long ago.
func (pr *pruner) debris(ctx context.Context, p PrunePolicy, generation int, reached map[string]bool) error {
	if !p.DryRun {
		pr.c.layout.Sweep()
	}
	pr.quarantined(p)
	blobs, _, err := pr.c.layout.Blobs()
	if err != nil {
		return err
	}
	for _, h := range blobs {
		if reached[h.String()] || pr.isGone(h) {
			continue
		}
		if err := pr.unlisted(ctx, p, generation, h); err != nil && !errors.Is(err, errNotPruned) {
			return err
		}
	}
	return nil
}

// unlisted removes a blob that nothing lists.
func (pr *pruner) unlisted(ctx context.Context, p PrunePolicy, generation int, h v1.Hash) error {
	c := pr.c
	isOld := func() (size int64, is bool) {
		_, listed := c.catalog.get(h)
		size, modTime, err := c.layout.StatBlob(h)
		return size, !listed && err == nil && c.o.clock().Sub(time.Unix(0, modTime)) >= pruneGrace
	}
	size, is := isOld()
	if !is {
		return nil
	}
	err := pr.update(ctx, p, func(tx *layout.Tx) error {
		if c.catalog.generation() != generation {
			return errOutdated
		}
		if size, is = isOld(); !is {
			return errNotPruned
		}
		if p.DryRun {
			return nil
		}
		return tx.Trash(h)
	})
	if err == nil {
		pr.note(p, Removal{Digest: h, Bytes: size, Reason: "nothing lists it", Forgotten: true})
	}
	return err
}

// quarantined removes what was put aside.
func (pr *pruner) quarantined(p PrunePolicy) {
	qs, err := pr.c.layout.Quarantined()
	pr.c.faulted(err)
	for _, q := range qs {
		if pr.aside[q.Name] || !p.forgetsAll() && pr.c.o.clock().Sub(q.Since) < quarantineGrace {
			continue
		}
		if !p.DryRun {
			if err := pr.c.layout.RemoveQuarantined(q.Name); err != nil {
				pr.c.fault(err)
				continue
			}
		}
		pr.aside[q.Name] = true
		h, _ := v1.NewHash(strings.Replace(q.Name, "-", ":", 1)) // an index.json has none
		reason := fmt.Sprintf("quarantine/%s was put aside on %s", q.Name, q.Since.Format(time.DateOnly))
		pr.tell(p, Removal{Digest: h, Bytes: q.Size, Reason: reason, Forgotten: true})
	}
}
