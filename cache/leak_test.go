package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// endless is an origin that always has more.
type endless struct{ closed chan struct{} }

func (e *endless) Read(p []byte) (int, error) {
	select {
	case <-e.closed:
		return 0, errors.New("closed")
	default:
		return copy(p, bytes.Repeat([]byte("more"), len(p)/4+1)), nil
	}
}

func (e *endless) Close() error {
	close(e.closed)
	return nil
}

// Readers of every kind are dropped without Close. What they held goes with
// them: the helpers' checkers look for goroutines, files, and debris.
func TestDroppedReaders(t *testing.T) {
	c := open(t, cache.WithCloseTimeout(time.Millisecond))
	for i := range uint64(3) {
		want := makeLayer(i, 300_000)
		for _, form := range []func(v1.Layer) (io.ReadCloser, error){v1.Layer.Compressed, v1.Layer.Uncompressed} {
			drop(t, c.Layer(fake(want)), form) // a fill, or one that is nearly over
			checkForms(t, c.Layer(fake(want)), want)
			drop(t, c.Layer(fake(want)), form) // a hit
			drop(t, mustGet(t, c, want.diffID()), form)
			if err := c.Delete(want.diffID()); err != nil {
				t.Fatal(err)
			}
			drop(t, c.Layer(fake(want)), v1.Layer.Uncompressed) // a decompression
		}
	}
	forever := fake(makeLayer(9, 100))
	forever.compressed = func() (io.ReadCloser, error) { return &endless{make(chan struct{})}, nil }
	drop(t, c.Layer(forever), v1.Layer.Compressed)
}

func drop(t *testing.T, l v1.Layer, form func(v1.Layer) (io.ReadCloser, error)) {
	t.Helper()
	rc, err := form(l)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(rc, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
}

// Close comes in the middle of fills whose origins do not end: it ends them,
// and their readers get ErrClosed.
func TestCloseInFills(t *testing.T) {
	c := open(t, cache.WithCloseTimeout(time.Millisecond))
	var readers []io.ReadCloser
	for i := range uint64(4) {
		l := fake(makeLayer(i, 100))
		l.compressed = stalled
		rc, err := c.Layer(l).Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(rc, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		readers = append(readers, rc)
	}
	ctx, cancel := context.WithCancel(t.Context())
	filling := make(chan error)
	go func() {
		l := fake(makeLayer(9, 100))
		l.compressed = stalled
		filling <- c.Fill(ctx, l)
	}()
	cancel()
	if err := <-filling; !errors.Is(err, context.Canceled) {
		t.Errorf("Fill: got %v, want context.Canceled", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, rc := range readers {
		if _, err := io.ReadAll(rc); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		rc.Close()
	}
}

// stalled opens an origin that gives a byte, and then nothing until it is
// closed.
func stalled() (io.ReadCloser, error) {
	return &stalledReader{first: []byte{0}, blocked: make(chan struct{}), closed: make(chan struct{})}, nil
}
