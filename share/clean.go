package share

import (
	"context"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// clean deletes the tags that are of no use any more: contributions that are
// older than the grace period, all of which the tag holds, and shards that
// nothing names, unless somebody else may be about to name them. It reports
// whether shards went. What fails is no error of the push.
func (p *push) clean(ctx context.Context, tags *listing) (shardsWent bool) {
	keep := map[string]bool{}
	for _, h := range p.last.shards {
		keep[shardTag(p.tag.TagStr(), h)] = true
	}
	young := false
	var stuck []string
	for _, tag := range tags.contributions {
		c := p.contributions[tag]
		old := c.at.Before(tags.old)
		if old && p.remove(ctx, p.tagOf(tag), c.digest) {
			continue
		}
		if old {
			stuck = append(stuck, tag)
		}
		young = young || !old && (p.own == nil || tag != p.own.tag)
		for _, h := range c.shards {
			keep[shardTag(p.tag.TagStr(), h)] = true
		}
	}
	p.note(func(r *PushReport) { r.Undeleted = len(stuck) })
	p.mark(ctx, stuck)
	if young {
		return false
	}
	for _, tag := range slices.Sorted(maps.Keys(tags.shards)) {
		switch {
		case keep[tag] || ctx.Err() != nil:
		case p.removeShard(ctx, p.tagOf(tag), tags):
			shardsWent = true
		default:
			p.note(func(r *PushReport) { r.Undeleted++ })
		}
	}
	return shardsWent
}

// maxStuck is how many contributions that cannot be deleted each push reads.
const maxStuck = 8

// mark spares those who push later the reading of contributions that the tag
// holds, and that cannot be deleted: a mark is as good as deleting all that
// are as old.
func (p *push) mark(ctx context.Context, stuck []string) {
	if p.own == nil || len(stuck) <= maxStuck {
		return
	}
	s, err := encodeContribution(p.own.tag, p.own.entries) // something that is there
	if err == nil {
		last := p.contributions[stuck[len(stuck)-1]].at
		err = p.putIndex(ctx, markTag(p.tag.TagStr(), last), s.index)
	}
	if err != nil {
		p.o.log.Warn("cannot mark contributions", "tag", p.tag, "err", err)
	}
}

// remove deletes a tag, and the manifest that no other tag names.
func (p *push) remove(ctx context.Context, tag name.Tag, h v1.Hash) bool {
	removed := p.delete(ctx, tag)
	if h != (v1.Hash{}) {
		removed = p.delete(ctx, p.tag.Digest(h.String())) || removed
	}
	return removed || p.isGone(ctx, tag)
}

func (p *push) isGone(ctx context.Context, tag name.Tag) bool {
	_, err := p.remote.head(ctx, tag)
	return isNotFound(err)
}

// removeShard deletes the tag of a shard; another snapshot may have the same
// shard. If the registry deletes no tags, the shard is deleted, unless there is
// another snapshot in the repository: whoever pushes to that may have just put it.
func (p *push) removeShard(ctx context.Context, tag name.Tag, tags *listing) bool {
	if p.delete(ctx, tag) {
		return true
	}
	d, err := p.remote.head(ctx, tag)
	if err != nil || tags.elsewhere {
		return isNotFound(err)
	}
	if _, err := p.remote.entries(ctx, *d); err != nil { // to put it back
		return false
	}
	return p.delete(ctx, p.tag.Digest(d.Digest.String()))
}

func (p *push) delete(ctx context.Context, ref name.Reference) bool {
	_, isTag := ref.(name.Tag)
	if p.noDelete[isTag] {
		return false
	}
	err := redact(p.remote.pusher.Delete(ctx, ref))
	if err != nil && !isNotFound(err) {
		p.noDelete[isTag] = isForbidden(err)
		p.o.log.Warn("cannot delete", "ref", ref, "err", err)
	}
	return err == nil
}
