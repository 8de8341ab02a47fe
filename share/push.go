package share

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// maxTag is how long a tag may be, so that the names of contributions and
// shards, which begin with it, are tags.
const maxTag = 80

// Push adds what a cache has to a tag: the layers whose bytes are here, or
// that are verified and in the registry already, with what they decompress to
// and the build keys that are shareable. A layer that only a local key stands
// for is sent without it. What the tag has from others stays, also if they push
// at the same time. If nothing is new to the tag, nothing is written.
//
// A cache may hold layers of private images. What is sent can be limited by
// [WithFilters], and [DryRun] says first from which repositories it came.
//
// What cannot be had, or cannot stand in a snapshot, is in the report. The errors
// are [ErrMalformed] for a tag that is something else, which stays untouched,
// [ErrTooManyEntries], [ErrContended], those of the registry, and the context's. A push that was interrupted does not send
// again what it sent, and the tag is as it was, or whole.
func Push(ctx context.Context, c *cache.Cache, ref name.Reference, opts ...Option) (PushReport, error) {
	o := makeOptions(opts)
	tag, ok := ref.(name.Tag)
	if !ok || len(tag.TagStr()) > maxTag {
		return PushReport{}, fmt.Errorf("share: push to %s: want a tag of at most %d characters", ref, maxTag)
	}
	r, err := connect(tag.Repository, o)
	if err != nil {
		return PushReport{}, fmt.Errorf("share: push to %s: %w", ref, err)
	}
	p := &push{
		c: c, o: o, tag: tag, remote: newRepository(r), origins: map[v1.Hash]string{},
		contributions: map[string]contribution{}, lost: map[v1.Hash]bool{}, noDelete: map[bool]bool{},
	}
	err = p.run(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return p.report(), fmt.Errorf("share: push to %s: %w", ref, err)
	}
	return p.report(), nil
}

// A push is one Push under way.
type push struct {
	reporter
	c      *cache.Cache
	o      options
	tag    name.Tag
	remote *repository

	mine    []entry            // that the tag is to have, sorted by digest
	origins map[v1.Hash]string // of these, the repositories that they came from

	// What follows is of merging.
	own           *contribution           // nil if there is nothing to contribute
	last          *tagged                 // what the tag was last seen to hold; nil if that is not known
	contributions map[string]contribution // that were read, by tag
	lost          map[v1.Hash]bool        // blobs that the registry was found not to have
	published     bool                    // own is
	wrote         bool                    // the tag, at least once
	rewrite       bool                    // all of the tag's shards, whether they seem to be there or not
	noDelete      map[bool]bool           // whether the registry refuses to delete tags, and digests
}

func (p *push) run(ctx context.Context) error {
	if err := p.choose(ctx); err != nil {
		return err
	}
	same, err := p.isUnchanged(ctx)
	if same || err != nil {
		return err
	}
	there, err := p.look(ctx)
	if err != nil {
		return err
	}
	if p.o.check {
		if err := p.checkAll(ctx, there); err != nil {
			return err
		}
	}
	fresh := p.fresh(there)
	p.reportNew(there, fresh)
	if p.o.dryRun {
		return nil
	}
	if fresh, err = p.upload(ctx, fresh); err != nil {
		return err
	}
	if len(fresh) == 0 && !there.broken && len(p.lost) == 0 {
		p.note(func(r *PushReport) { r.Unchanged, r.Digest = true, there.digest })
		return nil
	}
	p.rewrite = there.broken
	return p.merge(ctx, fresh)
}

// isUnchanged reports whether the tag is what it would be if nobody else had
// pushed: one request tells.
func (p *push) isUnchanged(ctx context.Context) (bool, error) {
	if len(p.mine) == 0 || p.o.check {
		return false, nil
	}
	s, err := encode(p.mine)
	if err != nil {
		return false, err
	}
	p.remote.know(s.shards)
	d, err := p.remote.head(ctx, p.tag)
	if err != nil || digestOf(d.Digest) != sumOf(s.index) {
		return false, nil // whoever reads it will see
	}
	p.note(func(r *PushReport) { r.Unchanged, r.Digest, r.Selected = true, d.Digest, countOf(p.mine) })
	return true, nil
}

// fresh returns what of mine the tag does not have, or not all that is known
// of it, or whose blob the registry has lost.
func (p *push) fresh(there *tagged) []entry {
	return lacking(without(there.entries, p.lost), p.mine)
}

// lacking returns the entries of list that have lacks, or lacks a diffID or a
// key of.
func lacking(have, list []entry) (lacks []entry) {
	was := make(map[v1.Hash]entry, len(have))
	for _, e := range have {
		was[e.digest] = e
	}
	changed := map[v1.Hash]bool{}
	for _, e := range unite(have, list) {
		old, ok := was[e.digest]
		changed[e.digest] = !ok || old.diffID != e.diffID || !slices.Equal(old.keys, e.keys)
	}
	for _, e := range list {
		if changed[e.digest] {
			lacks = append(lacks, e)
		}
	}
	return lacks
}

// without returns the entries that are not of some digests.
func without(entries []entry, digests map[v1.Hash]bool) []entry {
	if len(digests) == 0 {
		return entries
	}
	return slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return digests[e.digest] })
}

func (p *push) reportNew(there *tagged, fresh []entry) {
	origins := map[string]*Origin{}
	for _, e := range fresh {
		repo := p.origins[e.digest]
		if origins[repo] == nil {
			origins[repo] = &Origin{Repository: repo}
		}
		origins[repo].add(e.size)
	}
	p.note(func(r *PushReport) {
		r.Selected, r.New, r.Merged = countOf(p.mine), countOf(fresh), p.others(there.entries)
		for _, repo := range slices.SortedFunc(maps.Keys(origins), cmp.Compare[string]) {
			r.Origins = append(r.Origins, *origins[repo])
		}
		if len(fresh) == 0 {
			r.Digest = there.digest
		}
	})
}

// others counts the entries that are not mine.
func (p *push) others(entries []entry) Count {
	mine := map[v1.Hash]bool{}
	for _, e := range p.mine {
		mine[e.digest] = true
	}
	return countOf(without(entries, mine))
}
