package cache_test

import (
	"context"
	"errors"
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/cache"
)

// Confirm decompresses a blob once, whatever was claimed of it, and keeps no
// tar.
func TestConfirm(t *testing.T) {
	want := makeLayer(1, 10_000)
	for name, claim := range map[string]v1.Hash{"unknown": {}, "true": want.diffID(), "false": digestOf([]byte("a lie"))} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := openDir(t, dir)
			_, err := c.Remember(t.Context(), []cache.Remembered{{Descriptor: v1.Descriptor{
				Digest: want.digest(), Size: int64(len(want.blob)), MediaType: want.mediaType,
			}, DiffID: claim}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Confirm(t.Context(), want.digest()); !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("without bytes: got %v, want ErrNotFound", err)
			}
			if _, err := tryRead(c.Layer(fake(want)).Compressed); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got, err := c.Confirm(t.Context(), want.digest()); err != nil || got != want.diffID() {
					t.Errorf("got %s, %v; want %s", got, err, want.diffID())
				}
			}
			if got := c.Stats().Decompressions; got != 1 {
				t.Errorf("got %d decompressions, want 1", got)
			}
			us, err := c.DiskUsage(t.Context(), "digest=="+want.digest().String())
			if err != nil || len(us) != 1 || us[0].Pair != ocicache.PairVerified || us[0].DiffID != want.diffID() || !us[0].Distributed {
				t.Errorf("got %+v, %v", us, err)
			}
			if got := len(blobs(t, dir)); got != 1 {
				t.Errorf("%d blobs, want no tar", got)
			}
		})
	}
}

func TestConfirmFails(t *testing.T) {
	dir := t.TempDir()
	c := openDir(t, dir)
	good, broken := makeLayer(1, 10_000), makeLayer(2, 10_000)
	broken.blob = append([]byte{}, broken.blob[:len(broken.blob)/2]...)
	for _, l := range []content{good, broken} {
		if _, err := tryRead(c.Layer(fake(l)).Compressed); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Confirm(t.Context(), broken.digest()); !errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if _, err := c.Confirm(ctx, good.digest()); !errors.Is(err, stopped) {
		t.Errorf("got %v, want the context's cause", err)
	}
	if err := os.Remove(blobPath(dir, good.digest())); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Confirm(t.Context(), good.digest()); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Confirm(t.Context(), good.digest()); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// A tar that stands beside its blob is no layer that a registry has.
func TestDistributed(t *testing.T) {
	c := open(t)
	want := makeLayer(1, 1000)
	readAll(t, c.Layer(fake(want)).Uncompressed)
	us, err := c.DiskUsage(t.Context())
	if err != nil || len(us) != 2 {
		t.Fatalf("got %v, %v", us, err)
	}
	for _, u := range us {
		if got := u.Distributed; got != (u.Digest == want.digest()) {
			t.Errorf("%s: got %t", u.Digest, got)
		}
	}
}
