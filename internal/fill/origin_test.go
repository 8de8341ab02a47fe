package fill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/ocicache/ocicache/internal/fill"
)

// For each offset i at which the origin fails and each offset j that a reader
// has come to by then: the own reader gets the error as it is, a joiner all
// bytes.
func TestOriginErrorAtEachOffset(t *testing.T) {
	wrapsEOF := fmt.Errorf("broken: %w", io.EOF)
	for _, test := range []struct {
		name string
		err  error
		with bool
		want error
	}{
		{"alone", errOrigin, false, errOrigin},
		{"with bytes", errOrigin, true, errOrigin},
		{"wraps EOF", wrapsEOF, false, wrapsEOF},
		{"wraps EOF, with bytes", wrapsEOF, true, wrapsEOF},
		{"unexpected EOF", io.ErrUnexpectedEOF, false, io.ErrUnexpectedEOF},
		{"too short", io.EOF, false, errMismatch},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const size = 13
				for i := range size {
					for j := range i + 1 {
						testOriginError(t, content(size), i, j, test.err, test.with, test.want)
					}
				}
			})
		})
	}
}

func testOriginError(t *testing.T, data []byte, i, j int, failure error, with bool, want error) {
	r := newRig(data)
	r.origin.data, r.origin.err, r.origin.with = data[:i], failure, with
	r.origin.step, r.origin.gate = 2, i
	if with {
		r.origin.gate = max(0, i-1)
	}
	own, joined, late := r.own(), r.join(t), r.join(t)
	prefix := readN(t, joined, min(j, r.origin.gate))
	synctest.Wait()
	r.origin.release(-1)

	out, err := drain(own, 3)
	if err != want {
		t.Errorf("failing at %d: the own reader got %v, want %v", i, err, want)
	}
	if !bytes.HasPrefix(data, out) {
		t.Errorf("failing at %d: the own reader got wrong bytes", i)
	}
	if _, again := own.Read(make([]byte, 1)); again != err {
		t.Errorf("failing at %d: got %v the second time, %v before", i, again, err)
	}
	r.wantAll(t, joined, prefix, 2)
	r.wantAll(t, late, nil, 5)
	if got := joined.Offset(); got != int64(len(data)) {
		t.Errorf("failing at %d: got offset %d after falling back at %d, want %d", i, got, j, len(data))
	}
	own.Close()
	joined.Close()
	late.Close()
	r.finish(t)
	r.wantCommits(t, 0)
	if got := r.fallbacks.Load(); got != 2 {
		t.Errorf("failing at %d: got %d fallbacks, want 2", i, got)
	}
}

// When all bytes came and the origin then says that they are wrong, the error
// is both its own and Check's.
func TestErrorAfterAllBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		r.origin.data, r.origin.err = append(content(99), 'x'), errOrigin
		own, joined := r.own(), r.join(t)
		if _, err := drain(own, 64); !errors.Is(err, errOrigin) || !errors.Is(err, errMismatch) {
			t.Errorf("got %v, want %v and %v", err, errMismatch, errOrigin)
		}
		r.wantAll(t, joined, nil, 64)
		own.Close()
		joined.Close()
		r.finish(t)
		r.wantCommits(t, 0)
	})
}

func TestCheckError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100))
		r.cfg.Check = func([]byte, int64) error { return errMismatch }
		own, joined := r.own(), r.join(t)
		bare := fill.NewReader(r.f.Join(), fill.Options{})
		for _, rd := range []*fill.Reader{own, bare} {
			if out, err := drain(rd, 30); err != errMismatch || !bytes.HasPrefix(r.content, out) {
				t.Errorf("got %d bytes and %v, want %v", len(out), err, errMismatch)
			}
			rd.Close()
		}
		r.wantAll(t, joined, nil, 30)
		joined.Close()
		r.finish(t)
		r.wantCommits(t, 0)
	})
}

func TestOpenError(t *testing.T) {
	for _, test := range []struct{ failure, want error }{
		{errOrigin, errOrigin},
		{io.EOF, io.ErrUnexpectedEOF},
	} {
		bubble(t, func(t *testing.T) {
			r := newRig(content(100))
			opening := make(chan struct{})
			r.cfg.Open = func(context.Context) (io.ReadCloser, error) {
				<-opening
				return nil, test.failure
			}
			ref := r.start()
			joined := r.join(t)
			close(opening)
			var oerr *fill.OriginError
			if err := ref.Opened(false); !errors.As(err, &oerr) || oerr.Err != test.failure {
				t.Errorf("Opened: got %v, want %v of the origin", err, test.failure)
			}
			own := fill.NewReader(ref, fill.Options{Own: true, Again: r.again})
			if _, err := drain(own, 10); err != test.want {
				t.Errorf("got %v, want %v", err, test.want)
			}
			r.wantAll(t, joined, nil, 10)
			if r.f.Join() != nil {
				t.Error("a failed fill was joined")
			}
			own.Close()
			joined.Close()
			r.finish(t)
		})
	}
}

func TestOriginSizes(t *testing.T) {
	data := content(100_000)
	for _, test := range []struct {
		name      string
		size      int64
		data      []byte
		want      error
		mayCommit bool
	}{
		{"as said", 100_000, data, io.EOF, true},
		{"unknown", -1, data, io.EOF, true},
		{"shorter", 100_000, data[:99_999], errMismatch, false},
		{"longer by one", 99_999, data, errMismatch, false},
		{"much longer", 10, data, errMismatch, false},
		{"empty", 0, nil, io.EOF, true},
		{"empty, unknown", -1, nil, io.EOF, true},
		{"empty, said not to be", 10, nil, errMismatch, false},
		{"not empty, said to be", 0, data, errMismatch, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(data)
				if test.mayCommit {
					r = newRig(test.data)
				}
				r.origin.data, r.cfg.Size = test.data, test.size
				check := r.cfg.Check
				r.cfg.Check = func(sum []byte, n int64) error {
					if test.size >= 0 && n != test.size {
						return errMismatch
					}
					return check(sum, n)
				}
				rd := r.own()
				out, err := drain(rd, 7777)
				if err != test.want {
					t.Errorf("got %v, want %v", err, test.want)
				}
				if test.mayCommit && !bytes.Equal(out, test.data) || !bytes.HasPrefix(data, out) {
					t.Error("got wrong bytes")
				}
				rd.Close()
				r.finish(t)
				if test.mayCommit {
					r.wantCommits(t, 1)
				} else {
					r.wantCommits(t, 0)
				}
				if max := test.size + 64<<10; test.size >= 0 && int64(r.origin.off) > max {
					t.Errorf("read %d bytes of an origin that should have %d", r.origin.off, test.size)
				}
			})
		})
	}
}

// An origin whose Close fails has failed, unless all its bytes are there.
type failingClose struct{ *origin }

func (o failingClose) Close() error {
	o.origin.Close()
	return errOrigin
}

func TestOriginCloseError(t *testing.T) {
	for _, test := range []struct {
		size int64
		want error
	}{{100, io.EOF}, {-1, errOrigin}} {
		bubble(t, func(t *testing.T) {
			r := newRig(content(100))
			r.cfg.Size = test.size
			r.cfg.Open = func(context.Context) (io.ReadCloser, error) {
				r.opens.Add(1)
				return failingClose{r.origin}, nil
			}
			rd := r.own()
			if _, err := drain(rd, 10); err != test.want {
				t.Errorf("size %d: got %v, want %v", test.size, err, test.want)
			}
			rd.Close()
			r.finish(t)
		})
	}
}

// Many readers that all fall back at once do not get in each other's way.
func TestAllFallBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(100_000))
		r.origin.data, r.origin.err = r.content[:70_000], errOrigin
		r.origin.gate = 0
		own := r.own()
		var readers sync.WaitGroup
		for i := range 16 {
			rd := r.join(t)
			readers.Go(func() {
				r.wantAll(t, rd, nil, 1000+i*997)
				rd.Close()
			})
		}
		for range 7 {
			r.origin.release(10_000)
			synctest.Wait()
		}
		r.origin.release(-1)
		readers.Wait()
		own.Close()
		r.finish(t)
	})
}
