package fill_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/ocicache/ocicache/internal/fill"
)

// broken starts a fill that fails in the middle, and returns a joiner that
// has read a third by then.
func (r *rig) broken(t *testing.T, o fill.Options) *fill.Reader {
	half := len(r.content) / 2
	r.origin.data, r.origin.err, r.origin.gate = r.content[:half], errOrigin, half
	own := r.own()
	rd := fill.NewReader(r.f.Join(), o)
	readN(t, rd, len(r.content)/3)
	r.origin.release(-1)
	if _, err := drain(own, 100); err != errOrigin {
		t.Errorf("got %v, want %v", err, errOrigin)
	}
	own.Close()
	return rd
}

// Again may bring other bytes than were delivered already.
func TestAgainDiffers(t *testing.T) {
	data := content(300)
	for i := range 100 {
		bubble(t, func(t *testing.T) {
			r := newRig(data)
			other := bytes.Clone(data)
			other[i] ^= 1
			o := newOrigin(other)
			rd := r.broken(t, fill.Options{Again: func() (io.ReadCloser, error) { return o, nil }})
			if out, err := drain(rd, 10); err != errOrigin || len(out) != 0 {
				t.Errorf("byte %d differs: got %d bytes and %v, want %v", i, len(out), err, errOrigin)
			}
			if got := o.closed(); got != 1 {
				t.Errorf("byte %d differs: closed %d times, want once", i, got)
			}
			rd.Close()
			if got := o.closed(); got != 1 {
				t.Errorf("byte %d differs: closed %d times, want once", i, got)
			}
			r.finish(t)
		})
	}
}

func TestAgainFails(t *testing.T) {
	errAgain := errors.New("again broke")
	data := content(300)
	for _, test := range []struct {
		name string
		data []byte // nil: cannot be opened
		err  error
		want error
	}{
		{"at open", nil, errAgain, errAgain},
		{"at open, with EOF", nil, io.EOF, io.ErrUnexpectedEOF},
		{"at once", data[:0], errAgain, errAgain},
		{"in the prefix", data[:99], errAgain, errAgain},
		{"ends in the prefix", data[:99], io.EOF, errOrigin},
		{"after the prefix", data[:100], errAgain, errAgain},
		{"further on", data[:200], errAgain, errAgain},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(data)
				o := newOrigin(test.data)
				o.err = test.err
				rd := r.broken(t, fill.Options{Again: func() (io.ReadCloser, error) {
					if test.data == nil {
						return nil, test.err
					}
					return o, nil
				}})
				for range 2 {
					out, err := drain(rd, 10)
					if err != test.want || !bytes.HasPrefix(data[100:], out) {
						t.Errorf("got %d bytes and %v, want %v", len(out), err, test.want)
					}
				}
				rd.Close()
				if got := o.closed(); test.data != nil && got != 1 {
					t.Errorf("closed %d times, want once", got)
				}
				r.finish(t)
			})
		})
	}
}

func TestNoAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(300))
		rd := r.broken(t, fill.Options{})
		if out, err := drain(rd, 10); err != errOrigin || len(out) != 0 {
			t.Errorf("got %d bytes and %v, want %v", len(out), err, errOrigin)
		}
		rd.Close()
		r.finish(t)
	})
}

func TestFallbackIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(300))
		var causes []error
		rd := r.broken(t, fill.Options{Again: r.again, Fallback: func(err error) { causes = append(causes, err) }})
		r.wantAll(t, rd, r.content[:100], 7)
		rd.Close()
		r.finish(t)
		if len(causes) != 1 || !errors.Is(causes[0], errOrigin) {
			t.Errorf("got causes %v, want the origin's error", causes)
		}
	})
}

// Close lets a Read go on that reads again what was delivered already.
func TestCloseWhileFallingBack(t *testing.T) {
	for gate := range 250 {
		if gate%50 != 0 {
			continue
		}
		bubble(t, func(t *testing.T) {
			r := newRig(content(300))
			o := newOrigin(r.content)
			o.gate = gate
			rd := r.broken(t, fill.Options{Again: func() (io.ReadCloser, error) { return o, nil }})
			read := make(chan error)
			go func() {
				_, err := drain(rd, 10)
				read <- err
			}()
			synctest.Wait()
			rd.Close()
			if err := <-read; err == nil || err == io.EOF {
				t.Errorf("got %v, want an error", err)
			}
			if got := o.closed(); got != 1 {
				t.Errorf("own origin closed %d times, want once", got)
			}
			r.finish(t)
		})
	}
}

// Close while Again is being opened.
func TestCloseWhileOpeningAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(300))
		o := newOrigin(r.content)
		opening := make(chan struct{})
		rd := r.broken(t, fill.Options{Again: func() (io.ReadCloser, error) {
			<-opening
			return o, nil
		}})
		read := make(chan error)
		go func() {
			_, err := rd.Read(make([]byte, 1))
			read <- err
		}()
		synctest.Wait()
		rd.Close()
		close(opening)
		if err := <-read; err == nil || err == io.EOF {
			t.Errorf("got %v, want an error", err)
		}
		if got := o.closed(); got != 1 {
			t.Errorf("own origin closed %d times, want once", got)
		}
		if o.off != 0 {
			t.Errorf("%d bytes of an origin were read for a closed reader", o.off)
		}
		r.finish(t)
	})
}

// A context that ends for another reason than ErrStopped is one more failure
// that is not the origin's: all fall back.
func TestCancelledFallsBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := newRig(content(300))
		r.origin.gate = 150
		own := fill.NewReader(r.startIn(ctx), fill.Options{Own: true, Again: r.again})
		joined := r.join(t)
		prefix := readN(t, joined, 75)
		cancel()
		r.wantAll(t, own, nil, 20)
		r.wantAll(t, joined, prefix, 20)
		own.Close()
		joined.Close()
		r.finish(t)
		r.wantCommits(t, 0)
	})
}
