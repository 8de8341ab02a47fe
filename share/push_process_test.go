package share_test

import (
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/share"
)

// A dawdler is at times slow before a request, and at times after it.
type dawdler struct {
	http.RoundTripper
	mu  sync.Mutex
	rnd *rand.Rand // guarded by mu
}

func dawdling(seed uint64, t http.RoundTripper) *dawdler {
	return &dawdler{RoundTripper: t, rnd: rand.New(rand.NewPCG(seed, 2))}
}

func (d *dawdler) dawdle() {
	d.mu.Lock()
	n := d.rnd.IntN(8)
	nap := time.Duration(d.rnd.IntN(3000)) * time.Microsecond
	d.mu.Unlock()
	switch {
	case n < 6:
		for range n {
			runtime.Gosched()
		}
	default:
		time.Sleep(nap)
	}
}

func (d *dawdler) RoundTrip(req *http.Request) (*http.Response, error) {
	d.dawdle()
	defer d.dawdle()
	return d.RoundTripper.RoundTrip(req)
}

// ServeHTTP answers as RoundTrip does.
func (h *hub) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serve(w, req, body)
}

const atOnce = 8

// Eight at once, with overlapping layers and some of their own.
func layersOfPusher(n int) []int { return []int{1000, 100 + n/2, n} }

func layersOfAll() (all []int) {
	seen := map[int]bool{}
	for n := range atOnce {
		for _, l := range layersOfPusher(n) {
			if !seen[l] {
				all = append(all, l)
			}
			seen[l] = true
		}
	}
	return all
}

func TestPushAtOnce(t *testing.T) {
	caches := make([]*cache.Cache, atOnce)
	for n := range caches {
		caches[n] = cacheOf(t, layersOfPusher(n)...)
	}
	for seed := range uint64(20) {
		h := newHub()
		var wg sync.WaitGroup
		for n, c := range caches {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if _, err := pushTo(t.Context(), t, h, c, "repo:tag", share.WithTransport(dawdling(seed*atOnce+uint64(n), h))); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}()
		}
		wg.Wait()
		wantLayers(t, h, "repo", "tag", layersOfAll()...)
	}
}

// TestPushRole is the body of the other processes, and nothing in this one.
func TestPushRole(t *testing.T) {
	args := flag.Args()
	if len(args) != 4 || args[0] != "push" {
		return
	}
	ref, err := name.NewTag(args[1])
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(args[2])
	seed, _ := strconv.ParseUint(args[3], 10, 64)
	c := cacheOf(t, layersOfPusher(n)...)
	transport := dawdling(seed, remote.DefaultTransport)
	if _, err := share.Push(t.Context(), c, ref, share.WithTransport(transport)); err != nil {
		t.Fatal(err)
	}
}

func TestPushProcesses(t *testing.T) {
	for seed := range 3 {
		h := newHub()
		server := httptest.NewServer(h)
		defer server.Close()
		ref := strings.TrimPrefix(server.URL, "http://") + "/repo:tag"
		var wg sync.WaitGroup
		for n := range atOnce {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPushRole$", "push", ref, fmt.Sprint(n), fmt.Sprint(seed*atOnce+n))
			wg.Add(1)
			go func() {
				defer wg.Done()
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("push %d: %v\n%s", n, err, out)
				}
			}()
		}
		wg.Wait()
		wantLayers(t, h, "repo", "tag", layersOfAll()...)
	}
}

// go-containerregistry's registry deletes in a way of its own: a digest without
// its tags.
func TestPushToGGCR(t *testing.T) {
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(inner)
	defer server.Close()
	ref, err := name.NewTag(strings.TrimPrefix(server.URL, "http://") + "/some/repo:tag")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	for n := range 4 {
		if _, err := share.Push(t.Context(), cacheOf(t, n, 100), ref, share.WithClock(func() time.Time { return now })); err != nil {
			t.Fatal(err)
		}
		now = now.Add(2 * time.Hour)
	}
	tags, err := remote.List(ref.Repository)
	if err != nil || len(tags) != 4 {
		t.Errorf("got the tags %q, %v; want the snapshot, its shard, a contribution and its shard", tags, err)
	}
	idx, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	m, err := idx.IndexManifest()
	if err != nil || len(m.Manifests) != 1 {
		t.Fatalf("got %+v, %v", m, err)
	}
	img, err := idx.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 5 {
		t.Fatalf("got %d layers, %v", len(layers), err)
	}
	for _, l := range layers {
		if _, err := l.Size(); err != nil {
			t.Error(err)
		}
	}
}
