package cache_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// after opens the directory again, on a disk that works, and looks what is
// there.
func (r *run) after() {
	t, fx := r.t, r.fx
	t.Helper()
	for _, h := range r.s.held {
		if got := digestOf(readFile(t, blobPath(r.dir, h))); got != h {
			t.Errorf("%s was held, and holds bytes of %s", h, got)
		}
	}
	c, err := cache.Open(r.dir, cache.WithSync(cache.SyncNever)) // for speed: what is synced is not the question
	if err != nil {
		t.Errorf("Open: %v", err)
		return
	}
	if !r.s.empty {
		for _, k := range []known{fx.kept, fx.journaled, fx.built} {
			r.checkThere(c, k.blobHash, k.tarHash)
		}
		r.checkThere(c, fx.lazy.blobHash, fx.tarOnly.tarHash, fx.shared.blobHash)
		r.checkForeign()
	}
	if !r.stays {
		r.checkListed(c)
	}
	for _, k := range r.s.uses {
		r.checkGet(c, k.blobHash, k)
		r.checkGet(c, k.tarHash, k)
	}
	for _, h := range r.deleted {
		wantNotFound(t, c, h)
	}
	for _, k := range r.s.uses { // all can be filled, and are hits then
		r.readForms(c.Layer(k.layer()), k)
		l := k.layer()
		r.readForms(c.Layer(l), k)
		if n := l.opens.Load(); n != 0 {
			t.Errorf("the origin of %s was opened %d times, after a fill", k.blobHash, n)
		}
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	checkDir(t, r.dir)
}

func (r *run) checkThere(c *cache.Cache, hs ...v1.Hash) {
	r.t.Helper()
	for _, h := range hs {
		if _, err := c.Get(h); err != nil && !slices.Contains(r.s.gone, h) {
			r.t.Errorf("Get: %v; it was there", err)
		}
	}
}

// checkListed asserts that no blob was left that nothing lists: whoever
// cannot record a blob takes it away again, if that does not fail too.
func (r *run) checkListed(c *cache.Cache) {
	r.t.Helper()
	idx, err := c.Index()
	if err != nil {
		r.t.Error(err)
		return
	}
	b, err := idx.RawManifest()
	if err != nil {
		r.t.Error(err)
	}
	before := blobs(r.t, r.fx.dir)
	for h := range blobs(r.t, r.dir) {
		if before[h] == "" && !slices.Contains(r.theirs, h) && !bytes.Contains(b, []byte(h.String())) {
			r.t.Errorf("blob %s is listed nowhere", h)
		}
	}
}

// checkGet looks for a hash. What is found can be read in both forms, save
// that the blob of a diffID may only be remembered.
func (r *run) checkGet(c *cache.Cache, h v1.Hash, want known) {
	r.t.Helper()
	l, err := c.Get(h)
	if err != nil {
		return
	}
	blob, err := tryRead(l.Compressed)
	remembered := errors.Is(err, cache.ErrNotFound) && h == want.tarHash && slices.Contains(r.s.gone, want.blobHash)
	if !remembered && (err != nil || !bytes.Equal(blob, want.blob) && !isPacked(l, blob, want)) {
		r.t.Errorf("Get(%s).Compressed: got %d bytes, %v; want %d", h, len(blob), err, len(want.blob))
	}
	if tar, err := tryRead(l.Uncompressed); err != nil || !bytes.Equal(tar, want.tar) {
		r.t.Errorf("Get(%s).Uncompressed: got %d bytes, %v; want %d", h, len(tar), err, len(want.tar))
	}
}

// checkForeign looks for what other tools had put there.
func (r *run) checkForeign() {
	r.t.Helper()
	b := readFile(r.t, filepath.Join(r.dir, "index.json"))
	for _, h := range append(r.foreign, r.fx.foreign) {
		if !bytes.Contains(b, []byte(h.String())) {
			r.t.Errorf("index.json does not list the image %s of another tool any more", h)
		}
	}
	b, err := os.ReadFile(blobPath(r.dir, r.fx.shared.blobHash))
	if err != nil || !bytes.Equal(b, r.fx.shared.blob) {
		r.t.Errorf("the layer of the image of another tool: got %d bytes, %v", len(b), err)
	}
}
