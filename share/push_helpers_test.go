package share_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/share"
)

// A bytesLayer is a layer in memory.
type bytesLayer struct {
	blob, tar []byte
	mediaType types.MediaType
}

// numbered returns the gzip layer of a number.
func numbered(n int) *bytesLayer {
	tar := bytes.Repeat([]byte(fmt.Sprintf("layer %d\n", n)), 100)
	var blob bytes.Buffer
	w := gzip.NewWriter(&blob)
	_, _ = w.Write(tar)
	_ = w.Close()
	return &bytesLayer{blob.Bytes(), tar, types.OCILayer}
}

func sumHash(b []byte) v1.Hash {
	h, _, _ := v1.SHA256(bytes.NewReader(b))
	return h
}

func (l *bytesLayer) Digest() (v1.Hash, error)            { return sumHash(l.blob), nil }
func (l *bytesLayer) DiffID() (v1.Hash, error)            { return sumHash(l.tar), nil }
func (l *bytesLayer) Size() (int64, error)                { return int64(len(l.blob)), nil }
func (l *bytesLayer) MediaType() (types.MediaType, error) { return l.mediaType, nil }
func (l *bytesLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.blob)), nil
}
func (l *bytesLayer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.tar)), nil
}

func (l *bytesLayer) digest() string { return sumHash(l.blob).String() }
func (l *bytesLayer) diffID() string { return sumHash(l.tar).String() }

// cacheOf returns a cache that holds the layers of some numbers.
func cacheOf(t testing.TB, numbers ...int) *cache.Cache {
	t.Helper()
	c := openCache(t, t.TempDir())
	fill(t, c, numbers...)
	return c
}

func fill(t testing.TB, c *cache.Cache, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if err := c.Fill(t.Context(), numbered(n)); err != nil {
			t.Fatal(err)
		}
	}
}

var quick = remote.Backoff{Duration: time.Millisecond, Factor: 1, Steps: 3}

// pushTo pushes to a hub.
func pushTo(ctx context.Context, t testing.TB, h *hub, c *cache.Cache, ref string, opts ...share.Option) (share.PushReport, error) {
	t.Helper()
	opts = append([]share.Option{share.WithTransport(h), share.WithBackoff(quick), share.WithoutPause()}, opts...)
	return share.Push(ctx, c, hubTag(t, ref), opts...)
}

func mustPush(t testing.TB, h *hub, c *cache.Cache, ref string, opts ...share.Option) share.PushReport {
	t.Helper()
	r, err := pushTo(t.Context(), t, h, c, ref, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantLayers asserts that a tag holds the layers of some numbers, and no
// others.
func wantLayers(t testing.TB, h *hub, repo, tag string, numbers ...int) {
	t.Helper()
	got := h.snapshot(t, repo, tag)
	for _, n := range numbers {
		l := numbered(n)
		p, ok := got[l.digest()]
		if !ok {
			t.Errorf("layer %d is not in %s", n, tag)
		}
		if ok && p.diffID != l.diffID() {
			t.Errorf("layer %d: got the diffID %q, want %s", n, p.diffID, l.diffID())
		}
		delete(got, l.digest())
	}
	for digest := range got {
		t.Errorf("%s is in %s", digest, tag)
	}
}

func upTo(n int) (numbers []int) {
	for i := range n {
		numbers = append(numbers, i)
	}
	return numbers
}
