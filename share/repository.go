package share

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// A repository is a registry's, and what is known of the shards in it: they
// never change. It is safe for concurrent use.
type repository struct {
	*registry

	mu     sync.Mutex
	shards map[v1.Hash][]entry // guarded by mu
}

func newRepository(r *registry) *repository {
	return &repository{registry: r, shards: map[v1.Hash][]entry{}}
}

// know notes what shards hold that were made here.
func (r *repository) know(shards []shard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range shards {
		r.shards[s.digest()] = s.entries
	}
}

// entries returns the entries of a shard. It reads it the first time.
func (r *repository) entries(ctx context.Context, d v1.Descriptor) ([]entry, error) {
	r.mu.Lock()
	entries, ok := r.shards[d.Digest]
	r.mu.Unlock()
	if ok {
		return entries, nil
	}
	entries, err := r.registry.entries(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("shard %s: %w", d.Digest, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shards[d.Digest] = entries
	return entries, nil
}

// A tagged is a snapshot as a tag holds it.
type tagged struct {
	digest  v1.Hash   // zero if there is no such tag
	shards  []v1.Hash // as the index lists them
	entries []entry   // sorted by digest
	broken  bool      // a shard is not there any more; its entries are missing
}

// read reads the shards of an index.
func (r *repository) read(ctx context.Context, d *remote.Descriptor, jobs, most int) (*tagged, error) {
	children, err := decodeIndex(d.Manifest)
	if err != nil {
		return nil, err
	}
	lists := make([][]entry, len(children))
	missing := make([]bool, len(children))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for n, child := range children {
		g.Go(func() (err error) {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			if lists[n], err = r.entries(gctx, child); isNotFound(err) {
				missing[n], err = true, nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	t := &tagged{digest: d.Digest}
	total := 0
	for n, child := range children {
		t.shards = append(t.shards, child.Digest)
		t.broken = t.broken || missing[n]
		if total += len(lists[n]); total > most {
			return nil, fmt.Errorf("%w: more than %d", ErrTooManyEntries, most)
		}
	}
	t.entries = unite(lists...)
	return t, nil
}

// upload sends a blob, unless it is there.
func (r *repository) upload(ctx context.Context, l v1.Layer) error {
	return redact(r.pusher.Upload(ctx, r.repo, l))
}

// putShard sends a shard to a tag. Its layers must be there.
func (r *repository) putShard(ctx context.Context, tag name.Tag, s shard) error {
	config := static.NewLayer(s.config, types.MediaType(s.configType()))
	if err := r.upload(ctx, config); err != nil {
		return fmt.Errorf("config of shard %s: %w", s.digest(), err)
	}
	if err := r.put(ctx, tag, types.OCIManifestSchema1, s.manifest); err != nil {
		return fmt.Errorf("%s: %w", tag, err)
	}
	r.know([]shard{s})
	return nil
}

// isIncomplete reports whether a registry refused a manifest because something
// that it names is not there.
func isIncomplete(err error) bool {
	var terr *transport.Error
	if !errors.As(err, &terr) {
		return false
	}
	for _, d := range terr.Errors {
		switch d.Code {
		case transport.ManifestBlobUnknownErrorCode, transport.BlobUnknownErrorCode, transport.ManifestUnknownErrorCode:
			return true
		}
	}
	return terr.StatusCode == http.StatusNotFound
}

// isForbidden reports whether a registry does not allow, or does not know, a
// request.
func isForbidden(err error) bool {
	var terr *transport.Error
	return errors.As(err, &terr) && terr.StatusCode >= 400 && terr.StatusCode < 500 && !terr.Temporary()
}

func (s shard) digest() v1.Hash { return hashOf(s.manifest) }

func (s snapshot) digests() (digests []v1.Hash) {
	for _, sh := range s.shards {
		digests = append(digests, sh.digest())
	}
	return digests
}

func hashOf(b []byte) v1.Hash {
	d := sumOf(b)
	return v1.Hash{Algorithm: d.Algorithm().String(), Hex: d.Encoded()}
}
