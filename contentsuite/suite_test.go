package contentsuite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/testsuite"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Every case passes, and none is left out. Running digests, labels, refs and
// the times of what is being written are the adapter's alone; ingests, commits,
// reads and what the journal makes visible are the layout's. After each case
// the directory is checked. README.md says what each case shows.
func TestContentSuite(t *testing.T) {
	t.Run("one", func(t *testing.T) { testsuite.ContentSuite(t, "one", one) })
	t.Run("two", func(t *testing.T) { testsuite.ContentSuite(t, "two", two) })
}

// one opens a directory once.
func one(ctx context.Context, dir string) (context.Context, content.Store, func() error, error) {
	s, err := openStore(dir)
	return ctx, s, func() error { return finish(dir, s) }, err
}

// two opens a directory twice, as two processes would: what one store
// commits, the other one finds and reads.
func two(ctx context.Context, dir string) (context.Context, content.Store, func() error, error) {
	a, err := openStore(dir)
	if err != nil {
		return ctx, nil, nil, err
	}
	b, err := openStore(dir)
	if err != nil {
		return ctx, nil, nil, errors.Join(err, a.layout.Close())
	}
	both := struct {
		content.Ingester
		content.IngestManager
		content.Manager
		content.Provider
	}{a, a, b, b}
	return ctx, both, func() error { return errors.Join(b.layout.Close(), finish(dir, a)) }, nil
}

// finish checks what a case leaves: nothing of unfinished work stays, and
// opened anew the directory holds what it held, each blob has the bytes of
// its digest, and all can be deleted.
func finish(dir string, s *store) error {
	ctx := context.Background()
	want, err := s.end(ctx)
	if err := errors.Join(err, checkDir(dir, len(want))); err != nil {
		return err // before opening it again, which would sweep it
	}
	again, err := openStore(dir)
	if err != nil {
		return err
	}
	got, err := again.list(ctx)
	if err == nil && !reflect.DeepEqual(got, want) {
		err = fmt.Errorf("opened again: got %v, want %v", got, want)
	}
	for _, info := range want {
		err = errors.Join(err, again.checkBlob(ctx, info.Digest), again.Delete(ctx, info.Digest))
	}
	return errors.Join(err, again.layout.Close(), checkDir(dir, 0))
}

// end aborts what was not committed, closes the store, and returns what it
// held.
func (s *store) end(ctx context.Context) ([]content.Info, error) {
	unfinished, err := s.ListStatuses(ctx)
	for _, st := range unfinished {
		err = errors.Join(err, s.Abort(ctx, st.Ref))
	}
	infos, lerr := s.list(ctx)
	return infos, errors.Join(err, lerr, s.layout.Close())
}

func (s *store) list(ctx context.Context) (infos []content.Info, err error) {
	err = s.Walk(ctx, func(info content.Info) error {
		infos = append(infos, info)
		return nil
	})
	return infos, err
}

func (s *store) checkBlob(ctx context.Context, want digest.Digest) error {
	b, err := content.ReadBlob(ctx, s, ocispec.Descriptor{Digest: want})
	if got := digest.FromBytes(b); err == nil && got != want {
		err = fmt.Errorf("the bytes of %s hash to %s", want, got)
	}
	return err
}

// checkDir looks at the files themselves.
func checkDir(dir string, blobs int) error {
	err := checkCount(filepath.Join(dir, "blobs", "sha256"), blobs)
	for _, name := range []string{"ingest", "trash", "quarantine"} {
		err = errors.Join(err, checkCount(filepath.Join(dir, ".ocicache", name), 0))
	}
	return err
}

func checkCount(dir string, want int) error {
	files, err := os.ReadDir(dir)
	if err == nil && len(files) != want {
		err = fmt.Errorf("%s: got %v, want %d files", dir, files, want)
	}
	return err
}
