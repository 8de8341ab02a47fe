package share_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/share"
)

// A schedule lets one request of several pushes at a time through, and picks
// which: each push has at most one under way. Time is what it says.
type schedule struct {
	t     testing.TB
	h     *hub
	rnd   *rand.Rand
	clock time.Time
	trace []string

	events  chan event
	waiting []event // of each push that has a request under way
	running int
}

type event struct {
	name string
	req  *http.Request
	go_  chan bool // false: the push has crashed
	err  error     // of a push that has returned
}

var errCrashed = errors.New("crashed")

type scheduled struct {
	s    *schedule
	name string
}

func (s scheduled) RoundTrip(req *http.Request) (*http.Response, error) {
	e := event{name: s.name, req: req, go_: make(chan bool)}
	s.s.events <- e
	if !<-e.go_ {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, errCrashed
	}
	return s.s.h.answer(req), nil
}

func newSchedule(t testing.TB, h *hub, seed uint64) *schedule {
	return &schedule{t: t, h: h, rnd: rand.New(rand.NewPCG(seed, 1)), clock: time.Unix(1_800_000_000, 0), events: make(chan event)}
}

// start starts a push.
func (s *schedule) start(name string, c *cache.Cache, ref string, opts ...share.Option) {
	now := s.clock
	opts = append([]share.Option{
		share.WithTransport(scheduled{s, name}), share.WithJobs(1), share.WithoutPause(), share.WithBackoff(quick),
		share.WithClock(func() time.Time { return now }),
	}, opts...)
	s.running++
	go func() {
		_, err := share.Push(context.Background(), c, hubTag(s.t, ref), opts...)
		s.events <- event{name: name, err: err}
	}()
}

// run lets all pushes that were started come to their end, save that those of
// crash stop after so many requests of all. It returns their errors.
func (s *schedule) run(crash map[string]int) map[string]error {
	errs := map[string]error{}
	for steps := 0; ; steps++ {
		for len(s.waiting) < s.running { // all of them are at a request, or over
			e := <-s.events
			if e.req == nil {
				errs[e.name] = e.err
				s.running--
				continue
			}
			s.waiting = append(s.waiting, e)
		}
		if s.running == 0 {
			return errs
		}
		slices.SortFunc(s.waiting, func(a, b event) int { // the order of arrival is not the schedule's
			return slices.Compare([]byte(a.name), []byte(b.name))
		})
		n := s.rnd.IntN(len(s.waiting))
		if s.rnd.IntN(4) > 0 { // some are much slower than others
			n = min(n, s.rnd.IntN(len(s.waiting)))
		}
		e := s.waiting[n]
		s.waiting = slices.Delete(s.waiting, n, n+1)
		at, crashes := crash[e.name]
		s.trace = append(s.trace, fmt.Sprintf("%s %s %s", e.name, e.req.Method, e.req.URL.Path))
		e.go_ <- !crashes || steps < at
	}
}

// pushers are caches that have a layer in common, and one of their own.
func pushers(t *testing.T, n int) (caches []*cache.Cache) {
	for i := range n {
		caches = append(caches, cacheOf(t, 100, i))
	}
	return caches
}

func letter(n int) string { return string(rune('a' + n)) }

func schedules(t *testing.T, n int) uint64 {
	if testing.Short() {
		return uint64(n) / 10
	}
	return uint64(n)
}

// Whatever order the requests of several pushes are in, all that they push is
// in the tag when all have returned.
func TestPushSchedules(t *testing.T) {
	t.Parallel()
	caches := pushers(t, 5)
	for seed := range schedules(t, 1000) {
		h := newHub()
		s := newSchedule(t, h, seed)
		n := 2 + int(seed%4)
		for i, c := range caches[:n] {
			s.start(letter(i), c, "repo:tag")
		}
		for name, err := range s.run(nil) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		wantLayers(t, h, "repo", "tag", append(upTo(n), 100)...)
		if t.Failed() {
			t.Fatalf("seed %d:\n%q", seed, s.trace)
		}
	}
}

// So it is if there is something to be cleaned away: what was contributed long
// ago, and the shards of old.
func TestPushSchedulesClean(t *testing.T) {
	t.Parallel()
	caches := pushers(t, 6)
	for seed := range schedules(t, 250) {
		h := newHub()
		h.noTagDelete = seed%3 == 0
		s := newSchedule(t, h, seed)
		for start := 0; start < 6; start += 2 {
			for i := start; i < start+2; i++ {
				s.start(letter(i), caches[i], "repo:tag")
				s.start(letter(i)+"'", caches[5-i], "repo:other") // which has the same shards
			}
			for name, err := range s.run(nil) {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			s.clock = s.clock.Add(2 * time.Hour)
		}
		wantLayers(t, h, "repo", "tag", append(upTo(6), 100)...)
		wantLayers(t, h, "repo", "other", append(upTo(6), 100)...)
		if t.Failed() {
			t.Fatalf("seed %d:\n%q", seed, s.trace)
		}
	}
}

// A push that crashes takes nothing of another's with it that the next push
// does not bring back.
func TestPushSchedulesCrash(t *testing.T) {
	t.Parallel()
	caches := pushers(t, 5)
	for seed := range schedules(t, 400) {
		h := newHub()
		s := newSchedule(t, h, seed)
		crash := map[string]int{"a": s.rnd.IntN(60), "b": s.rnd.IntN(100)}
		for i, c := range caches[:4] {
			s.start(letter(i), c, "repo:tag")
		}
		want := []int{4, 100}
		for name, err := range s.run(crash) {
			switch {
			case err == nil:
				want = append(want, int(name[0]-'a'))
			case crash[name] == 0 && !errors.Is(err, errCrashed):
				t.Errorf("%s: %v", name, err)
			}
		}
		s.clock = s.clock.Add(2 * time.Hour)
		s.start("last", caches[4], "repo:tag")
		if err := s.run(nil)["last"]; err != nil {
			t.Error(err)
		}
		got := h.snapshot(t, "repo", "tag")
		for _, n := range want {
			if _, ok := got[numbered(n).digest()]; !ok {
				t.Errorf("layer %d is not in the tag", n)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d:\n%q", seed, s.trace)
		}
	}
}
