package share

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// entries reads a shard, and looks that its config says the same.
func (r *registry) entries(ctx context.Context, d v1.Descriptor) ([]entry, error) {
	raw, err := r.shard(ctx, d)
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != d.Size {
		return nil, fmt.Errorf("%w: %d bytes, and the index says %d", ErrMalformed, len(raw), d.Size)
	}
	entries, desc, err := decodeShard(raw)
	if err != nil {
		return nil, err
	}
	config, err := encodeConfig(entries)
	if err == nil && sumOf(config) != desc.Digest { // else it need not be read
		config, err = r.config(ctx, string(desc.Digest))
	}
	if err != nil {
		return nil, err
	}
	return entries, checkConfig(config, entries)
}

// shard returns a shard's manifest, which has its digest.
func (r *registry) shard(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	desc, err := r.puller.Get(expect(ctx, d.Size, d.Digest), r.repo.Digest(d.Digest.String()))
	if err != nil {
		return nil, redact(err)
	}
	return desc.Manifest, nil
}

// maxConfig bounds a shard's config, in bytes: 250 of the longest diffIDs take
// half as much.
const maxConfig = 64 << 10

// config returns a shard's config, which has its digest.
func (r *registry) config(ctx context.Context, digest string) ([]byte, error) {
	h, err := v1.NewHash(digest)
	if err != nil {
		return nil, fmt.Errorf("%w: config: %w", ErrMalformed, err)
	}
	l, err := r.puller.Layer(expect(ctx, maxConfig, h), r.repo.Digest(h.String()))
	if err != nil {
		return nil, redact(err)
	}
	rc, err := l.Compressed()
	if err != nil {
		return nil, redact(err)
	}
	defer rc.Close()
	return io.ReadAll(rc)
}
