package share

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/ocicache/ocicache/cache"
)

// upload sees to it that the registry has the blobs of entries. Those that it
// has not, and that are not here either, are left out, of mine too.
func (p *push) upload(ctx context.Context, entries []entry) (there []entry, err error) {
	total := countOf(entries)
	m := newMeter(p.o.progress, Progress{Total: total.Layers, BytesTotal: total.Bytes})
	defer m.end()
	gone := make([]bool, len(entries))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(p.o.jobs)
	for n, e := range entries {
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			err := p.send(gctx, e, m)
			if errors.Is(err, cache.ErrNotFound) && gctx.Err() == nil {
				gone[n] = true
				p.drop(e.digest, e.size, "its bytes are neither here nor in the registry")
				err = nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", e.digest, err)
			}
			m.add(1, 0)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	missing := map[v1.Hash]bool{}
	for n, e := range entries {
		if gone[n] {
			missing[e.digest] = true
		}
	}
	p.mine = without(p.mine, missing)
	return without(entries, missing), nil
}

// send sends a blob, unless the registry has it.
func (p *push) send(ctx context.Context, e entry, m *meter) error {
	u := &upload{ctx: ctx, c: p.c, e: e, meter: m}
	home, mountable := p.mountable(e)
	if mountable {
		has, err := p.remote.has(ctx, e.digest)
		if err != nil {
			return err
		}
		if has {
			p.sent(e, func(r *PushReport) *Count { return &r.Present })
			u.finish()
			return nil
		}
		err = p.remote.upload(ctx, &remote.MountableLayer{Layer: u, Reference: home})
		if err == nil && !u.opened.Load() {
			p.sent(e, func(r *PushReport) *Count { return &r.Mounted })
			u.finish()
			return nil
		}
		if err != nil { // it may not be ours to read there
			p.o.log.Warn("cannot mount a layer", "from", home.Context(), "digest", e.digest, "err", err)
		}
	}
	if err := p.remote.upload(ctx, u); err != nil {
		return err
	}
	if u.opened.Load() {
		p.sent(e, func(r *PushReport) *Count { return &r.Sent })
	} else {
		p.sent(e, func(r *PushReport) *Count { return &r.Present })
	}
	u.finish()
	return nil
}

func (p *push) sent(e entry, how func(r *PushReport) *Count) {
	p.note(func(r *PushReport) { how(r).add(e.size) })
}

// mountable returns where a layer came from, if that is another repository of
// the same registry.
func (p *push) mountable(e entry) (home name.Digest, ok bool) {
	repo, err := name.NewRepository(p.origins[e.digest])
	if err != nil || repo.RegistryStr() != p.tag.RegistryStr() || repo.RepositoryStr() == p.tag.RepositoryStr() {
		return home, false
	}
	return p.tag.Registry.Repo(repo.RepositoryStr()).Digest(e.digest.String()), true
}

// An upload is a blob on its way. It is a v1.Layer.
type upload struct {
	ctx     context.Context // remote reads in a goroutine of its own
	c       *cache.Cache
	e       entry
	meter   *meter
	opened  atomic.Bool
	counted atomic.Int64 // bytes, of the attempt under way
}

func (u *upload) Digest() (v1.Hash, error)             { return u.e.digest, nil }
func (u *upload) DiffID() (v1.Hash, error)             { return u.e.diffID, nil }
func (u *upload) Size() (int64, error)                 { return u.e.size, nil }
func (u *upload) MediaType() (types.MediaType, error)  { return u.e.mediaType, nil }
func (u *upload) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

func (u *upload) Compressed() (io.ReadCloser, error) {
	l, err := u.c.Get(u.e.digest)
	if err != nil {
		return nil, err
	}
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	u.opened.Store(true)
	u.count(-u.counted.Load()) // it is sent from the start
	return &uploading{rc, u}, nil
}

func (u *upload) count(n int64) {
	u.counted.Add(n)
	u.meter.add(0, n)
}

// finish counts what need not be sent.
func (u *upload) finish() { u.count(u.e.size - u.counted.Load()) }

type uploading struct {
	io.ReadCloser
	u *upload
}

func (r *uploading) Read(p []byte) (int, error) {
	if r.u.ctx.Err() != nil {
		return 0, context.Cause(r.u.ctx)
	}
	n, err := r.ReadCloser.Read(p)
	r.u.count(int64(n))
	return n, err
}
