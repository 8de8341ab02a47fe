package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocicache/ocicache/cache"
)

// 32 readers of one layer, both forms mixed: one GET.
func TestOneGET(t *testing.T) {
	want := makeLayer(1, 3_000_000)
	r := newRegistry(t)
	img := r.push(imageOf(t, fake(want)), "repo")
	c := open(t)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for n := range 32 {
		l := layersOf(t, c.Image(img))[0]
		wg.Go(func() {
			<-start
			open, b := l.Compressed, want.blob
			if n%2 == 1 {
				open, b = l.Uncompressed, want.tar
			}
			got, err := tryRead(open)
			if err != nil || !bytes.Equal(got, b) {
				t.Errorf("reader %d: %d bytes, %v", n, len(got), err)
			}
		})
	}
	close(start)
	wg.Wait()
	if got := r.blobGets(want.digest()); got != 1 {
		t.Errorf("blob GETs: got %d, want 1", got)
	}
	if s := c.Stats(); s.Fills != 1 || s.Decompressions != 1 {
		t.Errorf("got %d fills and %d decompressions, want 1 and 1", s.Fills, s.Decompressions)
	}
}

// ggcr allows four transfers at a time, and holds a place until a reader is
// closed: https://github.com/google/go-containerregistry/issues/2271
func TestOpenedNotRead(t *testing.T) {
	const n = 24 // more than may be filled, or decompressed, at a time
	r := newRegistry(t)
	var layers []v1.Layer
	var want []content
	for i := range uint64(n) {
		want = append(want, makeLayer(i, 300_000))
		layers = append(layers, fake(want[i]))
	}
	c := open(t)
	var readers []io.ReadCloser
	for i, l := range layersOf(t, c.Image(r.push(imageOf(t, layers...), "repo"))) {
		open := l.Compressed
		if i%2 == 1 {
			open = l.Uncompressed
		}
		rc, err := open()
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, rc)
	}
	for i, rc := range readers {
		got, err := io.ReadAll(rc)
		b := want[i].blob
		if i%2 == 1 {
			b = want[i].tar
		}
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("layer %d: %d bytes, %v, want %d", i, len(got), err, len(b))
		}
		rc.Close()
	}
}

func TestOpenAndClose(t *testing.T) {
	want := makeLayer(1, 100_000)
	for _, opts := range [][]cache.Option{nil, {cache.WithFinishAbandoned()}} {
		l := fake(want)
		c := open(t, opts...)
		for _, open := range []func() (io.ReadCloser, error){c.Layer(l).Compressed, c.Layer(l).Uncompressed} {
			rc, err := open()
			if err != nil {
				t.Fatal(err)
			}
			if err := rc.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if n := len(blobs(t, dirOf(c))); n != 0 {
			t.Errorf("%d blobs after opening and closing", n)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if opens, closes := l.opens.Load(), l.closes.Load(); opens != closes {
			t.Errorf("the origin was opened %d times and closed %d times", opens, closes)
		}
	}
}

// An abandoned fill is aborted, or finished if the option says so. An
// abandoned reader never leaves a part of a blob.
func TestAbandoned(t *testing.T) {
	want := makeLayer(1, 8_000_000)
	for _, finish := range []bool{false, true} {
		l := fake(want)
		gate := make(chan struct{})
		l.compressed = func() (io.ReadCloser, error) {
			rest := &gatedReader{r: bytes.NewReader(want.blob[1000:]), gate: gate}
			return &closeCounter{Reader: io.MultiReader(bytes.NewReader(want.blob[:1000]), rest), n: &l.closes}, nil
		}
		var opts []cache.Option
		if finish {
			opts = append(opts, cache.WithFinishAbandoned())
		}
		c := open(t, opts...)
		rc, err := c.Image(imageOf(t, l)).LayerByDigest(want.digest())
		if err != nil {
			t.Fatal(err)
		}
		r, err := rc.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		r.Close()
		close(gate)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		again := openDir(t, dirOf(c))
		if finish {
			checkForms(t, mustGet(t, again, want.digest()), want)
		} else {
			wantNotFound(t, again, want.digest())
		}
	}
}

// A reader that is dropped without Close does not hold its fill for ever.
func TestDroppedReader(t *testing.T) {
	want := makeLayer(1, 8_000_000)
	l := fake(want)
	img := imageOf(t, l) // with a manifest that says how much is left
	blocked, closed := make(chan struct{}), make(chan struct{})
	l.compressed = func() (io.ReadCloser, error) {
		return &stalledReader{first: want.blob[:1000], blocked: blocked, closed: closed}, nil
	}
	c := open(t)
	func() {
		rc, err := layersOf(t, c.Image(img))[0].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(rc, make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
	}()
	<-blocked
	for range 1000 {
		runtime.GC()
		select {
		case <-closed:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Error("the origin is still open")
}

// stalledReader gives some bytes and then nothing until it is closed.
type stalledReader struct {
	first   []byte
	blocked chan struct{}
	closed  chan struct{}
	once    sync.Once
	blocks  sync.Once
}

func (s *stalledReader) Read(p []byte) (int, error) {
	if len(s.first) > 0 {
		n := copy(p, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	s.blocks.Do(func() { close(s.blocked) })
	<-s.closed
	return 0, errors.New("closed while reading")
}

func (s *stalledReader) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// The first reader's context is cancelled, or its registry goes, while
// others are at different offsets: they get their bytes.
func TestLeaderFails(t *testing.T) {
	want := makeLayer(1, 4_000_000)
	for _, how := range []string{"cancelled", "registry gone"} {
		for _, form := range []string{"compressed", "uncompressed"} {
			t.Run(how+" "+form, func(t *testing.T) {
				first, second := newRegistry(t), newRegistry(t)
				first.push(imageOf(t, fake(want)), "repo")
				other := second.push(imageOf(t, fake(want)), "repo")

				half := make(chan struct{})
				hook := func(w http.ResponseWriter, req *http.Request) bool {
					if req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, want.digest().String()) {
						return false
					}
					w.Header().Set("Content-Length", itoa(len(want.blob)))
					must(w.Write(want.blob[:len(want.blob)/2]))
					w.(http.Flusher).Flush()
					select {
					case <-half:
						panic(http.ErrAbortHandler)
					case <-req.Context().Done():
					}
					return true
				}
				first.hook.Store(&hook)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				ref, err := name.ParseReference(first.host + "/repo")
				if err != nil {
					t.Fatal(err)
				}
				leading, err := remote.Image(ref, remote.WithContext(ctx))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := leading.ConfigFile(); err != nil {
					t.Fatal(err)
				}

				c := open(t)
				openForm := func(l v1.Layer) (io.ReadCloser, []byte) {
					f, b := l.Compressed, want.blob
					if form == "uncompressed" {
						f, b = l.Uncompressed, want.tar
					}
					rc, err := f()
					if err != nil {
						t.Fatal(err)
					}
					return rc, b
				}
				leader, _ := openForm(layersOf(t, c.Image(leading))[0])
				defer leader.Close()
				if _, err := io.ReadFull(leader, make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
				var readers []io.ReadCloser
				var offsets []int
				var all []byte
				for _, off := range []int{0, 1, 70_000, len(want.blob) / 3} {
					rc, b := openForm(layersOf(t, c.Image(other))[0])
					defer rc.Close()
					got := make([]byte, off)
					if _, err := io.ReadFull(rc, got); err != nil || !bytes.Equal(got, b[:off]) {
						t.Fatalf("first %d bytes: %v", off, err)
					}
					readers, offsets, all = append(readers, rc), append(offsets, off), b
				}
				if how == "cancelled" {
					cancel()
				} else {
					close(half)
				}
				if _, err := io.ReadAll(leader); err == nil {
					t.Error("the leader got EOF")
				} else if how == "cancelled" && !errors.Is(err, context.Canceled) {
					t.Errorf("the leader got %v, want its own context's error", err)
				}
				for i, rc := range readers {
					got, err := io.ReadAll(rc)
					if err != nil || !bytes.Equal(got, all[offsets[i]:]) {
						t.Errorf("reader at %d: %d more bytes, %v; want %d", offsets[i], len(got), err, len(all)-offsets[i])
					}
				}
				if c.Stats().Fallbacks == 0 {
					t.Error("no reader fell back: the test tests nothing")
				}
				// What failed was not kept, and the next read fills.
				checkForms(t, layersOf(t, c.Image(other))[0], want)
				checkForms(t, mustGet(t, c, want.digest()), want)
			})
		}
	}
}

// A reader that looks before a fill has committed, and comes to start one
// after it has, does not fetch the layer again.
func TestOneGETSmall(t *testing.T) {
	c := open(t)
	for n := range uint64(300) {
		l := fake(makeLayer(n, 100))
		var wg sync.WaitGroup
		for i := range 6 {
			form := c.Layer(l).Compressed
			if i%3 == 2 {
				form = c.Layer(l).Uncompressed
			}
			wg.Go(func() {
				if _, err := tryRead(form); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := l.opens.Load(); got != 1 {
			t.Fatalf("layer %d was opened %d times, want once", n, got)
		}
	}
}

// No more origins are read at a time than the option says.
func TestMaxFills(t *testing.T) {
	const limit = 2
	c := open(t, cache.WithMaxFills(limit))
	var reading, most atomic.Int64
	var wg sync.WaitGroup
	for n := range uint64(20) {
		l := fake(makeLayer(n, 1000))
		l.compressed = func() (io.ReadCloser, error) {
			now := reading.Add(1)
			for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
			}
			time.Sleep(2 * time.Millisecond) // so that others would come in, if they could
			return &leavingReader{bytes.NewReader(l.blob), &reading}, nil
		}
		wg.Go(func() {
			if _, err := tryRead(c.Layer(l).Compressed); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := most.Load(); got > limit {
		t.Errorf("%d origins were open at a time, want at most %d", got, limit)
	}
}

type leavingReader struct {
	io.Reader
	reading *atomic.Int64
}

func (l *leavingReader) Close() error {
	l.reading.Add(-1)
	return nil
}
