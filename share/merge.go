package share

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// ErrContended is returned by a [Push] that could not bring what it has sent
// into the tag, since others kept writing it, or the registry does not show
// what was written. Pushing again goes on from there.
var ErrContended = errors.New("the tag does not come to rest")

// maxRounds is how often a push tries. Each of those who push at the same time
// costs it two at most.
const maxRounds = 40

// merge brings fresh entries into the tag. A registry cannot replace a tag only
// if it is still what was read, so any of those who push at the same time may
// overwrite what another wrote. None loses anything by that:
//
//   - Before a push writes the tag, it publishes what it adds as a contribution
//     under a tag of its own.
//   - After it has written the tag, it lists the contributions, then reads the
//     tag, and is done only if that holds all of them. Else it unites them, and
//     writes again.
//
// Whoever writes last lists afterwards: all that was published by then is in
// what it wrote. Whoever publishes later has yet to write.
//
// A contribution goes only after it was in the tag, and when it is older than
// the grace period. Whoever writes the tag listed less than a third of that
// before, so it has seen it, or read the tag after it went.
func (p *push) merge(ctx context.Context, fresh []entry) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.o.grace/3, fmt.Errorf("%w: for a third of the grace period", ErrContended))
	defer cancel()
	err := p.mergeUntil(ctx, fresh)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (p *push) mergeUntil(ctx context.Context, fresh []entry) error {
	if len(fresh) > 0 {
		now := p.o.clock()
		p.own = &contribution{tag: newContributionTag(p.tag.TagStr(), now), at: now, entries: fresh}
	}
	tags, err := p.settle(ctx)
	if err != nil {
		return err
	}
	p.note(func(r *PushReport) { r.Digest, r.Merged = p.last.digest, p.others(p.last.entries) })
	if p.clean(ctx, tags) { // what was deleted may be wanted by now
		_, err = p.settle(ctx)
	}
	return err
}

// settle writes the tag until it holds everything, and returns what was listed
// last.
func (p *push) settle(ctx context.Context) (*listing, error) {
	var why error
	for round := range maxRounds {
		if round > 1 {
			p.o.pause(ctx, round)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var tags *listing
		var err error
		if tags, why, err = p.round(ctx); err != nil {
			return nil, err
		}
		if why == nil {
			return tags, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrContended, why)
}

// round looks at the tag once, and writes it if it does not hold everything.
// It returns what was wrong with it.
func (p *push) round(ctx context.Context) (tags *listing, why, err error) {
	if p.own != nil && !p.published {
		if refused := p.publish(ctx, p.own); refused != nil {
			return nil, refused, p.mend(ctx, refused)
		}
		p.published = true
	}
	if tags, err = p.list(ctx); err != nil {
		return nil, nil, err
	}
	contributions, err := p.readContributions(ctx, tags)
	if err != nil {
		return nil, nil, err
	}
	there, err := p.look(ctx) // after listing: what was deleted is in it
	if err != nil {
		return nil, nil, err
	}
	if why = p.unsettled(there, tags, contributions); why == nil {
		return tags, nil, nil
	}
	p.published = p.published && !p.isUnlisted(tags) // else somebody deleted it, or the listing lags
	if refused := p.write(ctx, there, tags, contributions); refused != nil {
		why = refused
		err = p.mend(ctx, refused)
	}
	return tags, why, err
}

// unsettled says why the tag is not as it should be, nil if it is.
func (p *push) unsettled(there *tagged, tags *listing, contributions []contribution) error {
	switch {
	case p.rewrite || there.broken:
		return errors.New("shards are missing")
	case len(p.lost) > 0 && !p.wrote:
		return errors.New("it lists what the registry has lost")
	case p.isUnlisted(tags):
		return fmt.Errorf("the registry does not list %s", p.own.tag)
	case len(lacking(there.entries, p.mine)) > 0:
		return errors.New("it lacks what is to be in it")
	}
	for _, c := range contributions {
		if len(lacking(there.entries, c.entries)) > 0 {
			return fmt.Errorf("it lacks what %s adds", c.tag)
		}
	}
	for _, h := range there.shards {
		if tag := shardTag(p.tag.TagStr(), h); !tags.shards[tag] {
			return fmt.Errorf("the registry does not list %s", tag)
		}
	}
	return nil
}

func (p *push) isUnlisted(tags *listing) bool {
	if p.own == nil {
		return false
	}
	for _, tag := range tags.contributions {
		if tag == p.own.tag {
			return false
		}
	}
	return true
}

// write writes all that is known into the tag.
func (p *push) write(ctx context.Context, there *tagged, tags *listing, contributions []contribution) error {
	lists := [][]entry{p.mine, without(there.entries, p.lost)}
	for _, c := range contributions {
		lists = append(lists, c.entries)
	}
	united := unite(lists...)
	s, err := encode(united)
	if err != nil {
		return err
	}
	var missing []shard
	for _, sh := range s.shards {
		if p.rewrite || there.broken || !tags.shards[shardTag(p.tag.TagStr(), sh.digest())] {
			missing = append(missing, sh)
		}
	}
	if err := p.putShards(ctx, missing); err != nil {
		return err
	}
	if err := p.putIndex(ctx, p.tag.TagStr(), s.index); err != nil {
		return err
	}
	p.remote.know(s.shards)
	p.rewrite, p.wrote = false, true
	p.last = &tagged{digest: hashOf(s.index), shards: s.digests(), entries: united}
	return nil
}

// mend sees what a registry lacks that refused a manifest. Other errors it
// returns.
func (p *push) mend(ctx context.Context, refused error) error {
	if !isIncomplete(refused) {
		return refused
	}
	p.rewrite = true
	var shard *incompleteError
	if !errors.As(refused, &shard) {
		return nil // the index: a shard has gone
	}
	gone, err := p.gone(ctx, shard.shard.entries)
	if err != nil || len(gone) == 0 {
		return err
	}
	p.lose(gone)
	var again []entry
	for _, e := range p.mine {
		if p.lost[e.digest] {
			again = append(again, e)
		}
	}
	_, err = p.upload(ctx, again)
	return err
}

// look returns what the tag holds.
func (p *push) look(ctx context.Context) (*tagged, error) {
	if p.last != nil {
		d, err := p.remote.head(ctx, p.tag)
		if err == nil && d.Digest == p.last.digest {
			return p.last, nil
		}
	}
	var t *tagged
	for range maxRounds {
		d, err := p.remote.manifest(ctx, p.tag)
		if isNotFound(err) {
			t = &tagged{}
			break
		}
		if err != nil {
			return nil, err
		}
		if t, err = p.remote.read(ctx, d, p.o.jobs, p.o.maxEntries); err != nil {
			return nil, err
		}
		if !t.broken {
			break
		}
		if now, err := p.remote.head(ctx, p.tag); err == nil && now.Digest == t.digest { // else it was replaced meanwhile
			break
		}
	}
	p.last = t
	return t, nil
}

// checkAll asks for everything that the tag holds.
func (p *push) checkAll(ctx context.Context, there *tagged) error {
	tags, err := p.list(ctx)
	if err != nil {
		return err
	}
	contributions, err := p.readContributions(ctx, tags)
	if err != nil {
		return err
	}
	lists := [][]entry{there.entries}
	for _, c := range contributions {
		lists = append(lists, c.entries)
	}
	gone, err := p.gone(ctx, unite(lists...))
	if err != nil {
		return err
	}
	p.lose(gone)
	for _, h := range there.shards {
		_, err := p.remote.head(ctx, p.tag.Digest(h.String()))
		if isNotFound(err) {
			there.broken = true
			continue
		}
		if err != nil {
			return fmt.Errorf("shard %s: %w", h, err)
		}
	}
	return nil
}

// gone returns the entries whose blobs the registry does not have.
func (p *push) gone(ctx context.Context, entries []entry) (gone []entry, err error) {
	missing := make([]bool, len(entries))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(p.o.jobs)
	for n, e := range entries {
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			has, err := p.remote.has(gctx, e.digest)
			if err != nil {
				return fmt.Errorf("%s: %w", e.digest, err)
			}
			missing[n] = !has
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for n, e := range entries {
		if missing[n] {
			gone = append(gone, e)
		}
	}
	return gone, nil
}

// lose drops entries from what the tag and the contributions that were read
// say. Contributions that come later may be of somebody who sent the blob again.
func (p *push) lose(gone []entry) {
	mine := map[v1.Hash]bool{}
	for _, e := range p.mine {
		mine[e.digest] = true
	}
	for _, e := range gone {
		p.lost[e.digest] = true
		if !mine[e.digest] {
			p.drop(e.digest, e.size, "the registry has lost it")
		}
	}
	for tag, c := range p.contributions {
		c.entries = without(c.entries, p.lost)
		p.contributions[tag] = c
	}
	if p.own != nil {
		p.own.entries = without(p.own.entries, p.lost)
	}
}
