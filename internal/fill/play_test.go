package fill_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocicache/ocicache/internal/fill"
)

// A stage is a fill, with the faults that a script wants, and its readers.
type stage struct {
	*rig
	originBad bool
	players   []*player
	all       sync.WaitGroup // players, and others
	stop      context.CancelCauseFunc
	stopped   bool
}

// The first bytes of a script are the faults.
const (
	flagOnce = 1 << iota
	flagPersist
	flagUnknownSize
	flagOriginFails
	flagErrorWithBytes
	flagDeaf
	flagCheckFails
	flagCommitFails

	header = 6
)

func newStage(script []byte) *stage {
	head := make([]byte, header)
	copy(head, script)
	flag := func(bit byte) bool { return head[0]&bit != 0 }
	s := &stage{rig: newRig(content(100))}
	s.cfg.Once, s.cfg.Persist = flag(flagOnce), flag(flagPersist)
	if flag(flagUnknownSize) {
		s.cfg.Size = -1
	}
	s.file.failWrite, s.file.failRead = int(head[1]%16), int(head[2]%32)
	if flag(flagOriginFails) {
		s.originBad = true
		s.origin.data, s.origin.err = s.content[:head[3]%100], errOrigin
	}
	s.origin.with, s.origin.deaf = flag(flagErrorWithBytes), flag(flagDeaf)
	s.origin.step, s.origin.gate = 1+int(head[4]%32), 0
	if flag(flagCheckFails) {
		s.originBad = true
		s.cfg.Check = func([]byte, int64) error { return errMismatch }
	}
	if commit := s.cfg.Commit; flag(flagCommitFails) {
		s.cfg.Commit = func(sum []byte, n int64) error {
			_ = commit(sum, n)
			return errDisk
		}
	}
	return s
}

// play does what the script says, then lets all go on to the end.
func (s *stage) play(t *testing.T, script []byte) {
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	s.stop = stop
	s.enter(s.startIn(ctx), true)
	for _, b := range script[min(header, len(script)):] {
		s.step(b>>5, int(b&31))
	}
	s.origin.release(-1)
	for _, p := range s.players {
		close(p.sizes)
	}
	s.all.Wait()
	s.finish(t)
	for i, p := range s.players {
		s.check(t, i, p)
	}
	if got := s.commits.Load(); got > 1 || got > 0 && (s.originBad || s.file.broken) {
		t.Errorf("got %d commits; origin bad: %v, file broken: %v", got, s.originBad, s.file.broken)
	}
}

func (s *stage) step(do byte, arg int) {
	p := s.players[arg%len(s.players)]
	switch do {
	case 0, 1:
		s.origin.release(arg + 1)
	case 2:
		if ref := s.f.Join(); ref != nil {
			s.enter(ref, false)
		}
	case 3, 4:
		p.sizes <- 1 + (arg*7)%40
	case 5:
		if arg < 16 {
			p.sizes <- 0
			return
		}
		p.closed = true
		s.all.Go(func() { p.rd.Close() })
	case 6:
		time.Sleep(time.Duration(arg) * 200 * time.Millisecond)
	case 7:
		s.rarely(arg)
	}
}

func (s *stage) rarely(arg int) {
	switch {
	case arg == 0:
		s.stopped = true
		s.stop(fill.ErrStopped)
	case arg < 20:
		synctest.Wait()
	default:
		ref := s.f.Join()
		if ref == nil {
			return
		}
		s.all.Go(func() {
			defer ref.Leave()
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(arg-20)*time.Second)
			defer cancel()
			_ = ref.Wait(ctx)
		})
	}
}

func (s *stage) enter(ref *fill.Ref, own bool) {
	p := &player{own: own, sizes: make(chan int, 1000)}
	o := fill.Options{Own: own, Fallback: func(error) { p.fell = true }}
	if !s.cfg.Once {
		o.Again = s.again
	}
	p.rd = fill.NewReader(ref, o)
	s.players = append(s.players, p)
	s.all.Go(p.run)
}

// check compares what a reader got with what it should have got.
func (s *stage) check(t *testing.T, i int, p *player) {
	if !bytes.HasPrefix(s.content, p.out) {
		t.Errorf("reader %d got wrong bytes", i)
	}
	if p.err == io.EOF {
		if len(p.out) != len(s.content) {
			t.Errorf("reader %d got EOF after %d bytes", i, len(p.out))
		}
		if !p.fell && (s.originBad || s.commits.Load() == 0 && !s.file.broken) {
			t.Errorf("reader %d got EOF of what was not committed", i)
		}
		return
	}
	var may bool
	switch {
	case p.early || p.closed || s.stopped:
		return
	case s.cfg.Once:
		may = s.originBad || s.file.failRead > 0
	case p.own:
		may = s.originBad && (errors.Is(p.err, errOrigin) || errors.Is(p.err, errMismatch))
	}
	if !may {
		t.Errorf("reader %d (own: %v) got %d bytes and %v", i, p.own, len(p.out), p.err)
	}
}

// A player is a reader that reads when it is told to.
type player struct {
	rd    *fill.Reader
	own   bool
	sizes chan int // of reads; 0 is to close

	out    []byte
	err    error
	early  bool // it left before it was at the end
	closed bool // by another
	fell   bool // back on an origin of its own
}

func (p *player) run() {
	defer p.rd.Close()
	for size := range p.sizes {
		if size == 0 {
			p.early = p.err == nil
			return
		}
		p.read(size)
	}
	for p.err == nil {
		p.read(7)
	}
}

func (p *player) read(size int) {
	if p.err != nil {
		return
	}
	b := make([]byte, size)
	n, err := p.rd.Read(b)
	p.out, p.err = append(p.out, b[:n]...), err
}
