package share

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A registry is a repository, and the requests that sharing makes of it. It is
// safe for concurrent use.
type registry struct {
	repo   name.Repository
	puller *remote.Puller
	pusher *remote.Pusher
}

func connect(repo name.Repository, o options) (*registry, error) {
	opts := []remote.Option{
		remote.WithAuthFromKeychain(o.keychain), remote.WithTransport(patient{guard{o.transport}}),
		remote.WithUserAgent("ocicache"), remote.WithJobs(o.jobs),
	}
	if o.backoff != nil {
		opts = append(opts, remote.WithRetryBackoff(*o.backoff))
	}
	puller, err := remote.NewPuller(opts...)
	if err != nil {
		return nil, err
	}
	pusher, err := remote.NewPusher(opts...)
	if err != nil {
		return nil, err
	}
	return &registry{repo: repo, puller: puller, pusher: pusher}, nil
}

// isNotFound reports whether a registry answered that something is not there;
// that the registry itself is not there tells nothing.
func isNotFound(err error) bool {
	var terr *transport.Error
	return errors.As(err, &terr) && terr.StatusCode == http.StatusNotFound &&
		terr.Request != nil && terr.Request.URL.Path != "/v2/"
}

// manifest returns a tag's manifest.
func (r *registry) manifest(ctx context.Context, ref name.Reference) (*remote.Descriptor, error) {
	desc, err := r.puller.Get(expect(ctx, maxIndex, v1.Hash{}), ref)
	return desc, redact(err)
}

// head returns the descriptor of a tag's manifest.
func (r *registry) head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	desc, err := r.puller.Head(ctx, ref)
	return desc, redact(err)
}

// has reports whether the repository has a blob.
func (r *registry) has(ctx context.Context, h v1.Hash) (bool, error) {
	l, err := r.puller.Layer(ctx, r.repo.Digest(h.String()))
	if err != nil {
		return false, redact(err)
	}
	ok, err := partial.Exists(l)
	return ok, redact(err)
}

// put sends a manifest.
func (r *registry) put(ctx context.Context, ref name.Reference, mediaType types.MediaType, raw []byte) error {
	return redact(r.pusher.Put(ctx, ref, &taggable{mediaType, raw}))
}

// A taggable is a manifest as it stands.
type taggable struct {
	mediaType types.MediaType
	raw       []byte
}

func (t *taggable) RawManifest() ([]byte, error)        { return t.raw, nil }
func (t *taggable) MediaType() (types.MediaType, error) { return t.mediaType, nil }
func (t *taggable) Digest() (v1.Hash, error)            { return partial.Digest(t) }
func (t *taggable) Size() (int64, error)                { return int64(len(t.raw)), nil }
