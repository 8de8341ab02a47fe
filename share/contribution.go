package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ocicache/ocicache"
)

// Beside TAG there are, in its repository:
//
//	TAG.s.<32 hex>          a shard, by the beginning of its digest
//	TAG.c.<time>.<16 hex>   a contribution, by when it was made, in seconds to base 36
//	TAG.m.<time>            a mark: the contributions that are as old need not be read
//
// A referrers' fallback tag has no dot, so none of them is one.
const (
	shardInfix        = ".s."
	contributionInfix = ".c."
	markInfix         = ".m."
	shardDigits       = 32
)

// A contribution is what one push adds to a tag, under a tag of its own.
type contribution struct {
	tag     string
	at      time.Time // when it was made, by the clock of who made it
	digest  v1.Hash
	shards  []v1.Hash
	entries []entry
}

func newContributionTag(tag string, now time.Time) string {
	return fmt.Sprintf("%s%s%s.%016x", tag, contributionInfix, strconv.FormatInt(now.Unix(), 36), rand.Uint64())
}

func markTag(tag string, at time.Time) string {
	return tag + markInfix + strconv.FormatInt(at.Unix(), 36)
}

// contributionTime returns when the contribution of a tag was made. It reports
// false for a tag that is none's.
func contributionTime(tag, of string) (at time.Time, ok bool) {
	rest, ok := strings.CutPrefix(tag, of+contributionInfix)
	seconds, random, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || len(random) != 16 || !isHex(random) {
		return time.Time{}, false
	}
	return parseTime(seconds)
}

func parseTime(s string) (at time.Time, ok bool) {
	n, err := strconv.ParseInt(s, 36, 64)
	return time.Unix(n, 0), err == nil
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// encodeContribution returns entries as a snapshot whose digest is no other's,
// so that it can be deleted.
func encodeContribution(tag string, entries []entry) (snapshot, error) {
	s, err := encode(entries)
	if err != nil {
		return s, err
	}
	var idx ocispec.Index
	if err := json.Unmarshal(s.index, &idx); err != nil {
		return s, err
	}
	idx.Annotations[ocicache.AnnotationContribution] = tag
	s.index, err = json.Marshal(idx)
	return s, err
}

// publish makes entries known to whoever pushes at the same time.
func (p *push) publish(ctx context.Context, c *contribution) error {
	s, err := encodeContribution(c.tag, c.entries)
	if err != nil {
		return err
	}
	if err := p.putShards(ctx, s.shards); err != nil {
		return err
	}
	if err := p.putIndex(ctx, c.tag, s.index); err != nil {
		return err
	}
	c.digest, c.shards = hashOf(s.index), s.digests()
	p.contributions[c.tag] = *c
	return nil
}

// putShards sends shards, in parallel.
func (p *push) putShards(ctx context.Context, shards []shard) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(p.o.jobs)
	for _, s := range shards {
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			err := p.remote.putShard(gctx, p.tagOf(shardTag(p.tag.TagStr(), s.digest())), s)
			if isIncomplete(err) {
				err = &incompleteError{s, err}
			}
			return err
		})
	}
	return g.Wait()
}

func (p *push) putIndex(ctx context.Context, tag string, index []byte) error {
	if err := p.remote.put(ctx, p.tagOf(tag), types.OCIImageIndex, index); err != nil {
		return fmt.Errorf("%s: %w", tag, err)
	}
	return nil
}

// An incompleteError says that a registry lacks what a shard names.
type incompleteError struct {
	shard shard
	err   error
}

func (e *incompleteError) Error() string { return e.err.Error() }
func (e *incompleteError) Unwrap() error { return e.err }

func (p *push) tagOf(tag string) name.Tag { return p.tag.Context().Tag(tag) }

func shardTag(tag string, h v1.Hash) string { return tag + shardInfix + h.Hex[:shardDigits] }

// maxTags bounds how many tags are looked at.
const maxTags = 1_000_000

// A listing is what tags there are beside a snapshot's.
type listing struct {
	old           time.Time       // what is from before that is older than the grace period
	shards        map[string]bool // tags
	contributions []string        // tags, sorted and so the oldest first, save what is marked
	mark          time.Time       // the last one's; zero if there is none
	elsewhere     bool            // there is another snapshot in the repository
}

// list lists the tags of the repository.
func (p *push) list(ctx context.Context) (*listing, error) {
	l := &listing{old: p.o.clock().Add(-p.o.grace), shards: map[string]bool{}}
	lister, err := p.remote.puller.Lister(ctx, p.tag.Repository)
	if isNotFound(err) {
		return l, nil // nothing was ever put there
	}
	if err != nil {
		return nil, fmt.Errorf("tags of %s: %w", p.tag.Repository, redact(err))
	}
	for n := 0; lister.HasNext(); {
		page, err := lister.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("tags of %s: %w", p.tag.Repository, redact(err))
		}
		if n += len(page.Tags) + 1; n > maxTags {
			return nil, fmt.Errorf("%w: %s has more than %d tags", ErrMalformed, p.tag.Repository, maxTags)
		}
		for _, tag := range page.Tags {
			l.add(p.tag.TagStr(), tag)
		}
	}
	slices.Sort(l.contributions)
	l.contributions = slices.DeleteFunc(slices.Compact(l.contributions), func(tag string) bool {
		at, _ := contributionTime(tag, p.tag.TagStr())
		return !at.After(l.mark)
	})
	return l, nil
}

func (l *listing) add(of, tag string) {
	if _, ok := contributionTime(tag, of); ok {
		l.contributions = append(l.contributions, tag)
		return
	}
	if rest, ok := strings.CutPrefix(tag, of+markInfix); ok {
		if at, ok := parseTime(rest); ok && at.After(l.mark) && at.Before(l.old) { // else a clock is wrong
			l.mark = at
		}
		return
	}
	at := len(tag) - shardDigits
	snapshot, ok := strings.CutSuffix(tag[:max(at, 0)], shardInfix)
	switch {
	case !ok || !isHex(tag[at:]):
	case snapshot == of:
		l.shards[tag] = true
	default:
		l.elsewhere = true
	}
}

// readContributions reads the contributions that are listed and were not read
// yet, and returns all of them.
func (p *push) readContributions(ctx context.Context, l *listing) (all []contribution, err error) {
	for _, tag := range l.contributions {
		c, ok := p.contributions[tag]
		if !ok {
			if c, ok, err = p.readContribution(ctx, tag); err != nil {
				return nil, err
			}
		}
		if ok {
			p.contributions[tag] = c
			all = append(all, c)
		}
	}
	return all, nil
}

// isContribution reports whether a manifest is the contribution of a tag.
func isContribution(raw []byte, tag string) bool {
	var idx ocispec.Index
	return json.Unmarshal(raw, &idx) == nil && idx.Annotations[ocicache.AnnotationContribution] == tag
}

// readContribution reads one. It reports false if it has been deleted: whoever
// did that saw its entries in the tag. What is malformed, or far too much, counts as empty, so
// that nobody can stop all pushes.
func (p *push) readContribution(ctx context.Context, tag string) (c contribution, ok bool, err error) {
	c.tag = tag
	c.at, _ = contributionTime(tag, p.tag.TagStr())
	d, err := p.remote.manifest(ctx, p.tagOf(tag))
	if isNotFound(err) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("%s: %w", tag, err)
	}
	if !isContribution(d.Manifest, tag) {
		p.o.log.Warn("passing over what is no contribution", "tag", tag)
		return c, true, nil // without a digest: what it names is not its own
	}
	c.digest = d.Digest
	t, err := p.remote.read(ctx, d, p.o.jobs, p.o.maxEntries)
	switch {
	case errors.Is(err, ErrMalformed), errors.Is(err, ErrTooManyEntries):
		p.o.log.Warn("passing over a contribution", "tag", tag, "err", err)
		return c, true, nil
	case err != nil:
		return c, false, fmt.Errorf("%s: %w", tag, err)
	case t.broken:
		p.o.log.Warn("a contribution lacks shards", "tag", tag)
	}
	c.shards, c.entries = t.shards, t.entries
	return c, true, nil
}
