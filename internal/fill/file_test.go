package fill_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/ocicache/ocicache/internal/fill"
)

// A fault of the file at any of its calls costs nobody a byte.
func TestFileFailsAtEachCall(t *testing.T) {
	const size, step = 40, 3
	for _, test := range []struct {
		name string
		fail func(f *file, i int)
	}{
		{"write", func(f *file, i int) { f.failWrite = i }},
		{"read", func(f *file, i int) { f.failRead = i }},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				for i := 1; ; i++ {
					r := newRig(content(size))
					r.origin.step, r.origin.gate = step, 0
					test.fail(r.file, i)
					own, joined := r.own(), r.join(t)
					r.origin.release(-1)
					prefix := readN(t, own, step)
					r.wantAll(t, joined, nil, 2)
					r.wantAll(t, own, prefix, 5)
					own.Close()
					joined.Close()
					r.finish(t)
					failed := r.faulted() > 0
					if r.file.broken {
						r.wantCommits(t, 0)
					} else {
						r.wantCommits(t, 1)
					}
					if !failed {
						if i < size/step {
							t.Errorf("call %d did not fail", i)
						}
						break
					}
					if !errors.Is(r.faults[0], errDisk) {
						t.Errorf("call %d: got fault %v, want %v", i, r.faults[0], errDisk)
					}
				}
			})
		})
	}
}

func TestLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(40))
		r.origin.step = 3
		var seen []int64
		r.cfg.Limit = func(n int64) error {
			seen = append(seen, n)
			if n > 20 {
				return errDisk
			}
			return nil
		}
		own := r.own()
		r.wantAll(t, own, nil, 9)
		own.Close()
		r.finish(t)
		r.wantCommits(t, 0)
		if len(seen) != 7 || seen[0] != 3 || seen[6] != 21 {
			t.Errorf("Limit saw %v, want 3, 6, … 21", seen)
		}
		if len(r.faults) != 1 || !errors.Is(r.faults[0], errDisk) {
			t.Errorf("got faults %v, want Limit's", r.faults)
		}
		if len(r.file.data) > 18 {
			t.Error("bytes were written past the limit")
		}
	})
}

func TestCreateError(t *testing.T) {
	for _, failure := range []error{errDisk, io.EOF} {
		bubble(t, func(t *testing.T) {
			r := newRig(content(40))
			r.cfg.Create = func() (fill.File, error) { return nil, failure }
			ref := r.start()
			err := ref.Opened(false)
			var oerr *fill.OriginError
			if !errors.Is(err, failure) || errors.As(err, &oerr) {
				t.Errorf("Opened: got %v (%T), want %v, not of the origin", err, err, failure)
			}
			rd := fill.NewReader(ref, fill.Options{Own: true, Again: r.again})
			r.wantAll(t, rd, nil, 9)
			rd.Close()
			r.finish(t)
			if r.opens.Load() != 0 {
				t.Error("the origin was opened")
			}
			if r.faulted() != 1 {
				t.Errorf("got faults %v, want one", r.faults)
			}
		})
	}
}

// The file's Close is told of, whoever comes to close it.
func TestFileCloseError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(content(40))
		r.file.closeErr = errDisk
		fault := r.cfg.Fault
		r.cfg.Fault = func(err error) {
			r.f.Progress() // a callback may ask
			fault(err)
		}
		own := r.own()
		r.wantAll(t, own, nil, 9)
		own.Close()
		r.finish(t)
		if len(r.faults) != 1 || !errors.Is(r.faults[0], errDisk) {
			t.Errorf("got faults %v, want Close's", r.faults)
		}
	})
}

// Without anything to fall back on, a broken file is an error, not EOF.
func TestFileFailsWithoutAgain(t *testing.T) {
	for _, test := range []struct{ failWrite, failRead int }{{3, 0}, {0, 1}} {
		bubble(t, func(t *testing.T) {
			r := newRig(content(40))
			r.origin.step = 3
			r.file.failWrite, r.file.failRead = test.failWrite, test.failRead
			rd := fill.NewReader(r.start(), fill.Options{Own: true})
			out, err := drain(rd, 9)
			if !errors.Is(err, errDisk) || !bytes.HasPrefix(r.content, out) {
				t.Errorf("got %d bytes and %v, want %v", len(out), err, errDisk)
			}
			rd.Close()
			r.finish(t)
		})
	}
}
