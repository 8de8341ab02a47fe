package cache_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// Each operation on the file system fails in its turn, and in a second run
// all of its kind from there on: the idea is that of cockroachdb/pebble's
// vfs/errorfs. What a cache must be like then is in after and surfaced.
func TestInject(t *testing.T) {
	t.Cleanup(func() { checkGoroutines(t) }) // after the scenarios, which run side by side
	fx := makeFixtures(t)
	for _, s := range scenarios(fx) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			clean := newRun(t, fx, s, -1, false)
			clean.play()
			for _, stays := range []bool{false, true} {
				points := 0
				for ; !t.Failed(); points += stride() {
					r := newRun(t, fx, s, points, stays)
					r.usual = clean.stats()
					r.play()
					if t.Failed() {
						t.Logf("the above is at point %d, stays=%v: %v", points, stays, r.injected())
					}
					if len(r.injected()) == 0 {
						break
					}
				}
				t.Logf("stays=%v: %d points", stays, points/stride())
			}
		})
	}
}

// systemErrors are those that a system gives for an operation.
var systemErrors = map[string][]syscall.Errno{
	"write":    {syscall.ENOSPC, syscall.EIO},
	"create":   {syscall.ENOSPC, syscall.EACCES, syscall.EIO, syscall.EMFILE},
	"rename":   {syscall.ENOSPC, syscall.EIO},
	"mkdir":    {syscall.ENOSPC, syscall.EIO},
	"open":     {syscall.EACCES, syscall.EMFILE},
	"lock":     {syscall.EACCES, syscall.EMFILE},
	"read":     {syscall.EIO},
	"stat":     {syscall.EIO},
	"list":     {syscall.EIO},
	"sync":     {syscall.EIO},
	"truncate": {syscall.EIO, syscall.EACCES},
	"chtimes":  {syscall.EIO, syscall.EACCES},
	"remove":   {syscall.EIO, syscall.EACCES},
	"close":    {syscall.EIO, syscall.EACCES},
}

// together are the operations that fail with op while an error stays: a full
// disk takes no new names either, and whoever has too many files open cannot
// open any.
func together(op string, errno syscall.Errno) []string {
	switch errno {
	case syscall.ENOSPC:
		return []string{"write", "create", "mkdir", "rename"}
	case syscall.EMFILE:
		return []string{"open", "create", "lock", "list"}
	}
	return []string{op}
}

// A fault is an error that was injected.
type fault struct {
	op, name string
	errno    syscall.Errno
}

func (f *fault) Error() string { return fmt.Sprintf("injected %s %s: %v", f.op, f.name, f.errno) }
func (f *fault) Unwrap() error { return f.errno }

// A run is one scenario with one point at which the disk fails.
type run struct {
	t     *testing.T
	fx    *fixtures
	s     scenario
	dir   string
	at    int
	stays bool
	usual cache.Stats // of a run without faults

	caches  []*cache.Cache
	deleted []v1.Hash // what Delete said it deleted
	pruned  bool      // Prune said that it did
	foreign []v1.Hash // what other tools added to the index
	theirs  []v1.Hash // the blobs then

	mu     sync.Mutex
	armed  bool     // guarded by mu, as is all below
	n      int      // operations so far
	fails  []string // the operations that fail from now on
	errno  syscall.Errno
	faults []*fault
	errs   []error // that calls returned
	log    bytes.Buffer
}

func newRun(t *testing.T, fx *fixtures, s scenario, at int, stays bool) *run {
	r := &run{t: t, fx: fx, s: s, at: at, stays: stays, dir: filepath.Join(fx.runs, t.Name(), strconv.Itoa(at)+strconv.FormatBool(stays))}
	if !s.empty {
		copyTree(t, fx.dir, r.dir)
	}
	return r
}

// hook implements layout.Hook.
func (r *run) hook(op, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.armed {
		return nil
	}
	n := r.n
	r.n++
	if n == r.at {
		errs := systemErrors[op]
		if errs == nil {
			r.t.Errorf("no error is known for %s", op)
			return nil
		}
		i := n
		if r.stays {
			i++ // so that two of them come in their turn
		}
		r.errno = errs[i%len(errs)]
		r.fails = together(op, r.errno)
	} else if !r.stays || !slices.Contains(r.fails, op) {
		return nil
	}
	f := &fault{op, name, r.errno}
	r.faults = append(r.faults, f)
	return f
}

func (r *run) arm(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.armed = on
}

// Write takes the log.
func (r *run) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func (r *run) injected() []*fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.faults
}

// note keeps an error that a call may return while the disk fails.
func (r *run) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// open opens a cache whose disk fails, and nil if it cannot be opened.
func (r *run) open(opts ...cache.Option) *cache.Cache {
	opts = append(opts, cache.WithHook(r.hook), cache.WithLogger(slog.New(slog.NewTextHandler(r, nil))))
	c, err := cache.Open(r.dir, opts...)
	if err != nil {
		r.note(err)
		if !strings.Contains(err.Error(), r.dir) {
			r.t.Errorf("Open: the error does not name %s: %v", r.dir, err)
		}
		return nil
	}
	r.caches = append(r.caches, c)
	return c
}

// read reads a form of a layer that has an origin: no fault is to be seen.
func (r *run) read(open func() (io.ReadCloser, error), want []byte) {
	r.t.Helper()
	if got, err := tryRead(open); err != nil || !bytes.Equal(got, want) {
		r.t.Errorf("read: got %d bytes, %v; want %d", len(got), err, len(want))
	}
}

// readForms reads both forms of a layer that has an origin.
func (r *run) readForms(l v1.Layer, want known) {
	r.t.Helper()
	r.read(l.Compressed, want.blob)
	r.read(l.Uncompressed, want.tar)
}

// get reads both forms of what the cache finds by itself. Faults may be seen,
// and wrong bytes may not.
func (r *run) get(c *cache.Cache, h v1.Hash, want known) {
	r.t.Helper()
	l, err := c.Get(h)
	if err != nil {
		r.note(err)
		return
	}
	blob, err := tryRead(l.Compressed)
	r.note(err)
	if err == nil && !bytes.Equal(blob, want.blob) && !isPacked(l, blob, want) {
		r.t.Errorf("Get(%s).Compressed: got %d bytes %s, want %s", h, len(blob), digestOf(blob), want.blobHash)
	}
	tar, err := tryRead(l.Uncompressed)
	r.note(err)
	if err == nil && !bytes.Equal(tar, want.tar) {
		r.t.Errorf("Get(%s).Uncompressed: got %d bytes %s, want %s", h, len(tar), digestOf(tar), want.tarHash)
	}
}

// flush either says that it cannot, or has written the index.
func (r *run) flush(c *cache.Cache) {
	r.t.Helper()
	err := c.Flush()
	r.note(err)
	b := readFile(r.t, filepath.Join(r.dir, "index.json"))
	if h := r.fx.journaled.blobHash; err == nil && !bytes.Contains(b, []byte(h.String())) {
		r.t.Errorf("Flush returned no error, and index.json does not list %s", h)
	}
}

// isPacked reports whether a blob is another compressed form of the tar, which
// the cache makes if it never had the origin's.
func isPacked(l v1.Layer, blob []byte, want known) bool {
	digest, err := l.Digest()
	if err != nil || digest != digestOf(blob) {
		return false
	}
	r, err := gzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		return false
	}
	tar, err := io.ReadAll(r)
	return err == nil && bytes.Equal(tar, want.tar)
}

func (r *run) stats() (sum cache.Stats) {
	for _, c := range r.caches {
		s := c.Stats()
		sum.Fallbacks += s.Fallbacks
		sum.Repairs += s.Repairs
		sum.WriteFaults += s.WriteFaults
	}
	return sum
}

// play runs the scenario and looks at what is left.
func (r *run) play() {
	r.t.Helper()
	r.s.run(r)
	for _, c := range r.caches {
		r.note(c.Close())
	}
	r.arm(false)
	r.surfaced()
	r.after()
	if err := os.RemoveAll(r.dir); err != nil { // thousands of them would fill the disk
		r.t.Error(err)
	}
}

// surfaced asserts that a failed write is told of: counted, returned or
// logged. One is made up for: Delete and Prune, on a full disk, first make
// room for their record.
func (r *run) surfaced() {
	r.t.Helper()
	s, errs := r.stats(), errors.Join(r.errs...)
	if s.WriteFaults > r.usual.WriteFaults || s.Fallbacks > r.usual.Fallbacks || s.Repairs > r.usual.Repairs {
		return
	}
	var silent []*fault
	for _, f := range r.faults {
		if errors.As(errs, new(*fault)) || strings.Contains(r.log.String(), f.Error()) {
			return
		}
		if (len(r.deleted) > 0 || r.pruned) && f.errno == syscall.ENOSPC && f.name == ".ocicache/journal" {
			continue
		}
		if slices.Contains([]string{"write", "create", "mkdir", "sync", "rename", "truncate", "lock"}, f.op) {
			silent = append(silent, f)
		}
	}
	if len(silent) > 0 {
		r.t.Errorf("nobody was told of %v; the log:\n%s", silent, r.log.String())
	}
}
