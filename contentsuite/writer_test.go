package contentsuite_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/ocicache/ocicache/layout"
)

// A partial is an ingest that goes by a ref. It outlasts its writer: closing
// that is a pause. A layout discards an ingest that is closed, so this one
// stays open until it is committed or aborted.
type partial struct {
	ref       string
	total     int64
	startedAt time.Time

	// Guarded by the store's mu. The writer alone changes in, and may use it
	// without.
	in        *layout.Ingest
	updatedAt time.Time
	busy      bool // a writer has it
}

// Writer starts an ingest, or goes on with one.
func (s *store) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	if o.Ref == "" {
		return nil, fmt.Errorf("a writer without a ref: %w", errdefs.ErrInvalidArgument)
	}
	if err := absent(s.Info(ctx, o.Desc.Digest)); err != nil {
		return nil, err
	}
	p, err := s.acquire(o.Ref, o.Desc.Size)
	if err != nil {
		return nil, err
	}
	w := &writer{store: s, partial: p, digester: digest.Canonical.Digester()}
	if err := w.rehash(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (s *store) acquire(ref string, total int64) (*partial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.partials[ref]; p != nil {
		if p.busy {
			return nil, fmt.Errorf("ref %s: %w", ref, errdefs.ErrUnavailable)
		}
		p.busy = true
		return p, nil
	}
	in, err := s.layout.Ingest()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	p := &partial{ref: ref, total: total, startedAt: now, in: in, updatedAt: now, busy: true}
	s.partials[ref] = p
	return p, nil
}

// drop ends an ingest. What was not committed is gone.
func (s *store) drop(p *partial) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.partials, p.ref)
	return p.in.Close()
}

// Abort is for refs that no writer has.
func (s *store) Abort(_ context.Context, ref string) error {
	s.mu.Lock()
	p := s.partials[ref]
	busy := p != nil && p.busy
	s.mu.Unlock()
	switch {
	case p == nil:
		return fmt.Errorf("ref %s: %w", ref, errdefs.ErrNotFound)
	case busy:
		return fmt.Errorf("ref %s: %w", ref, errdefs.ErrUnavailable)
	}
	return s.drop(p)
}

func (s *store) Status(_ context.Context, ref string) (content.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partials[ref]
	if p == nil {
		return content.Status{}, fmt.Errorf("ref %s: %w", ref, errdefs.ErrNotFound)
	}
	return p.status()
}

func (s *store) ListStatuses(_ context.Context, filters ...string) ([]content.Status, error) {
	if len(filters) > 0 {
		return nil, fmt.Errorf("filters: %w", errdefs.ErrNotImplemented)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []content.Status
	for _, p := range s.partials {
		st, err := p.status()
		if err != nil {
			return nil, err
		}
		list = append(list, st)
	}
	return list, nil
}

// status takes the offset from the file. The file's time would not do: its
// clock is coarser than the suite's. The store's mu is held.
func (p *partial) status() (content.Status, error) {
	fi, err := p.in.Stat()
	if err != nil {
		return content.Status{}, err
	}
	return content.Status{Ref: p.ref, Offset: fi.Size(), Total: p.total, StartedAt: p.startedAt, UpdatedAt: p.updatedAt}, nil
}

// A writer writes to a partial, which no other writer has meanwhile.
type writer struct {
	store    *store
	partial  *partial
	digester digest.Digester
	closed   bool
}

// rehash reads what was written before, so that going on stands on the bytes
// in the file and not on what an earlier writer remembered of them.
func (w *writer) rehash() error {
	fi, err := w.partial.in.Stat()
	if err != nil {
		return err
	}
	_, err = io.Copy(w.digester.Hash(), io.NewSectionReader(w.partial.in, 0, fi.Size()))
	return err
}

func (w *writer) Write(b []byte) (int, error) {
	if w.closed {
		return 0, fs.ErrClosed
	}
	n, err := w.partial.in.Write(b)
	w.digester.Hash().Write(b[:n])
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.partial.updatedAt = time.Now()
	return n, err
}

// Truncate starts another ingest: an ingest cannot go back.
func (w *writer) Truncate(size int64) error {
	if w.closed {
		return fs.ErrClosed
	}
	if size != 0 {
		return fmt.Errorf("truncate to %d bytes: %w", size, errdefs.ErrNotImplemented)
	}
	in, err := w.store.layout.Ingest()
	if err != nil {
		return err
	}
	w.digester.Hash().Reset()
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	old := w.partial.in
	w.partial.in = in
	return old.Close()
}

func (w *writer) Digest() digest.Digest { return w.digester.Digest() }

func (w *writer) Status() (content.Status, error) {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	return w.partial.status()
}

// Commit keeps the partial if the bytes are not those expected: a later
// writer may make them so.
func (w *writer) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	if w.closed {
		return fmt.Errorf("commit of a closed writer: %w", errdefs.ErrFailedPrecondition)
	}
	defer w.Close()
	info := content.Info{Digest: w.Digest()}
	for _, opt := range opts {
		if err := opt(&info); err != nil {
			return err
		}
	}
	if err := w.check(size, expected); err != nil {
		return err
	}
	err := w.store.commit(ctx, w.partial.in, info)
	if err == nil || errdefs.IsAlreadyExists(err) {
		err = errors.Join(err, w.store.drop(w.partial))
	}
	return err
}

// check takes the digest from what was hashed on the way, as the cache does,
// and the size from the file.
func (w *writer) check(size int64, expected digest.Digest) error {
	fi, err := w.partial.in.Stat()
	if err != nil {
		return err
	}
	if size > 0 && size != fi.Size() {
		return fmt.Errorf("%d bytes, want %d: %w", fi.Size(), size, errdefs.ErrFailedPrecondition)
	}
	if got := w.Digest(); expected != "" && expected != got {
		return fmt.Errorf("digest %s, want %s: %w", got, expected, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// Close lets another writer go on.
func (w *writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.partial.busy = false
	return nil
}
