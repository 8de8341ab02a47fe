package fill_test

import (
	"bytes"
	"io"
	"testing"
)

// A writer fails at its n-th byte, or is short there.
type writer struct {
	n   int
	err error
}

func (w *writer) Write(p []byte) (int, error) {
	if len(p) > w.n {
		return w.n, w.err
	}
	w.n -= len(p)
	return len(p), nil
}

func TestWriteTo(t *testing.T) {
	const size = 200_000
	for _, test := range []struct {
		name string
		w    writer
		n    int64
		err  error
	}{
		{"all", writer{size, errDisk}, size, nil},
		{"failing", writer{100_000, errDisk}, 100_000, errDisk},
		{"short", writer{100_000, nil}, 100_000, io.ErrShortWrite},
		{"failing with EOF", writer{0, io.EOF}, 0, io.EOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(content(size))
				rd := r.own()
				if n, err := rd.WriteTo(&test.w); n != test.n || err != test.err {
					t.Errorf("got %d, %v, want %d, %v", n, err, test.n, test.err)
				}
				rd.Close()
				r.finish(t)
			})
		})
	}
}

func TestWriteToPassesOnErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		r.origin.data, r.origin.err = r.content[:50], errOrigin
		rd := r.own()
		var out bytes.Buffer
		if _, err := io.Copy(&out, rd); err != errOrigin {
			t.Errorf("got %v, want %v", err, errOrigin)
		}
		rd.Close()
		r.finish(t)
	})
}
