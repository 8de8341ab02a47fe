package cache_test

import (
	"context"
	"errors"
	"os"
	"reflect"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/stream"

	"github.com/ocicache/ocicache/cache"
)

// lifecycleScenarios are those of what goes, what stays, and what is built.
func lifecycleScenarios(fx *fixtures) []scenario {
	return []scenario{
		pruning(fx, "prune all", cache.PrunePolicy{All: true}),
		pruning(fx, "prune to a limit", cache.PrunePolicy{MaxBytes: 1}),
		pinningByName(fx), pinning(fx), droppingKeys(fx), lookingAtUsage(fx), buildHit(fx), buildingAgain(fx),
		building("build a blob", fx.other, func() (v1.Layer, error) { return fx.other.layer(), nil }),
		building("build a tar", fx.packed, func() (v1.Layer, error) {
			return partial.UncompressedToLayer(&tarLayer{tar: fx.packed.tar})
		}),
		building("build a stream", fx.streamed, func() (v1.Layer, error) { return streamOf(fx.streamed.tar), nil }),
	}
}

// unprotected is what a prune may remove while kept and journaled are pinned
// and another tool's image reaches shared.
func (fx *fixtures) unprotected() []v1.Hash {
	return []v1.Hash{fx.lazy.blobHash, fx.built.blobHash, fx.built.tarHash, fx.tarOnly.blobHash, fx.tarOnly.tarHash}
}

// protected is what is on the disk and no prune may remove then.
func (fx *fixtures) protected() []v1.Hash {
	return []v1.Hash{fx.kept.blobHash, fx.kept.tarHash, fx.journaled.blobHash, fx.journaled.tarHash, fx.shared.blobHash}
}

// beside opens another cache in the directory, whose disk does not fail.
func (r *run) beside() (c *cache.Cache, closeIt func()) {
	c, err := cache.Open(r.dir, cache.WithSync(cache.SyncNever))
	if err != nil {
		r.t.Fatal(err)
	}
	return c, func() {
		if err := c.Close(); err != nil {
			r.t.Errorf("Close of the other cache: %v", err)
		}
	}
}

// failed notes an error, which must be an injected one.
func (r *run) failed(err error) bool {
	r.t.Helper()
	r.note(err)
	if err != nil && !errors.As(err, new(*fault)) {
		r.t.Errorf("got %v, want the injected error", err)
	}
	return err != nil
}

// Some layers are pinned by name, some by another cache. A prune returns the
// error, or a report that is right; what it did not report is there.
func pruning(fx *fixtures, name string, p cache.PrunePolicy) scenario {
	uses := []known{fx.kept, fx.journaled, fx.lazy}
	return scenario{name: name, uses: uses, gone: fx.unprotected(), held: fx.protected(), run: func(r *run) {
		other, closeOther := r.beside()
		defer closeOther()
		c := r.open()
		must(c.PinAs("kept", fx.kept.blobHash, fx.kept.tarHash))
		for _, h := range []v1.Hash{fx.journaled.blobHash, fx.journaled.tarHash} {
			must(other.Pin(h))
		}
		r.arm(true)
		report, err := c.Prune(context.Background(), p)
		if r.failed(err) {
			return
		}
		r.pruned = true
		r.arm(false)
		r.wantReport(report)
		us, err := other.DiskUsage(context.Background())
		if err != nil {
			r.t.Error(err)
		}
		for _, u := range us {
			if p.All == slices.Contains(fx.unprotected(), u.Digest) && (p.All || u.Present && !u.Pinned && u.Digest != fx.shared.blobHash) {
				r.t.Errorf("Prune returned no error, and %+v is there", u)
			}
		}
		r.arm(true)
	}}
}

// wantReport asserts that a report is of what is there, and of what is not.
func (r *run) wantReport(report cache.PruneReport) {
	r.t.Helper()
	var freed, kept int64
	for _, x := range report.Removals {
		freed += x.Bytes
		if exists(blobPath(r.dir, x.Digest)) {
			r.t.Errorf("the report says of what is there: %+v", x)
		}
	}
	for h, path := range blobs(r.t, r.dir) {
		if fi, err := os.Stat(path); err == nil && slices.Contains(r.s.held, h) {
			kept += fi.Size()
		}
	}
	if report.Bytes != freed || report.Kept != kept {
		r.t.Errorf("the report says that %d bytes were freed and %d kept, want %d and %d", report.Bytes, report.Kept, freed, kept)
	}
}

// pruneBeside prunes all by another cache, which has no faults.
func (r *run) pruneBeside(other *cache.Cache) {
	r.t.Helper()
	r.arm(false)
	defer r.arm(true)
	if _, err := other.Prune(context.Background(), cache.PrunePolicy{All: true}); err != nil {
		r.t.Error(err)
	}
}

// wantThere asserts of hashes that their blobs are on the disk, or are not.
func (r *run) wantThere(what string, want bool, hs ...v1.Hash) {
	r.t.Helper()
	for _, h := range hs {
		if got := exists(blobPath(r.dir, h)); got != want {
			r.t.Errorf("%s: %s is there: %v, want %v", what, h, got, want)
		}
	}
}

func pinningByName(fx *fixtures) scenario {
	gone := slices.Concat(fx.protected(), fx.unprotected())
	return scenario{name: "pin by name", uses: []known{fx.kept}, gone: gone, run: func(r *run) {
		other, closeOther := r.beside()
		defer closeOther()
		c := r.open()
		r.arm(true)
		pinned := !r.failed(c.PinAs("kept", fx.kept.blobHash, fx.kept.tarHash))
		r.pruneBeside(other)
		if pinned {
			r.wantThere("pinned", true, fx.kept.blobHash, fx.kept.tarHash)
			if !r.failed(c.Unpin("kept")) {
				r.pruneBeside(other)
				r.wantThere("unpinned", false, fx.kept.blobHash, fx.kept.tarHash)
			}
		}
	}}
}

func pinning(fx *fixtures) scenario {
	gone := slices.Concat(fx.protected(), fx.unprotected())
	return scenario{name: "pin", uses: []known{fx.kept}, gone: gone, run: func(r *run) {
		other, closeOther := r.beside()
		defer closeOther()
		c := r.open()
		r.arm(true)
		first, err := c.Pin(fx.kept.blobHash)
		if r.failed(err) {
			return
		}
		second, err := c.Pin(fx.journaled.tarHash)
		r.pruneBeside(other)
		r.wantThere("pinned", true, fx.kept.blobHash)
		if !r.failed(err) {
			r.wantThere("pinned", true, fx.journaled.tarHash)
			second()
			r.pruneBeside(other)
			r.wantThere("another was released", true, fx.kept.blobHash)
		}
		first()
	}}
}

// build builds a layer, and reads it. No fault may prevent that, save one in
// reading back what can be read once.
func (r *run) build(c *cache.Cache, key string, want known, make func() (v1.Layer, error)) (built int64) {
	r.t.Helper()
	b := &builder{make: make}
	l, err := c.Build(context.Background(), key, b.build)
	var f *fault
	if r.note(err); errors.As(err, &f) && f.op == "read" && r.s.once {
		return b.n.Load()
	}
	if err != nil {
		r.t.Errorf("Build: %v", err)
		return b.n.Load()
	}
	r.readForms(l, want)
	digest, err := l.Digest()
	diffID, derr := l.DiffID()
	if digest != want.blobHash || diffID != want.tarHash {
		r.t.Errorf("Build: got %s, %s, %v; want %s, %s", digest, diffID, errors.Join(err, derr), want.blobHash, want.tarHash)
	}
	return b.n.Load()
}

// A layer is built, and built again, which may run the build again.
func building(name string, want known, make func() (v1.Layer, error)) scenario {
	l, _ := make()
	_, once := l.(*stream.Layer)
	return scenario{name: name, once: once, uses: []known{want}, run: func(r *run) {
		c := r.open()
		r.arm(true)
		r.build(c, "key", want, make)
		r.build(c, "key", want, make)
	}}
}

func buildHit(fx *fixtures) scenario {
	return scenario{name: "build hit", uses: []known{fx.fresh}, run: func(r *run) {
		make := func() (v1.Layer, error) { return fx.fresh.layer(), nil }
		c := r.open()
		r.build(c, "key", fx.fresh, make)
		r.arm(true)
		r.build(c, "key", fx.fresh, make)
	}}
}

// The bytes of what a key stands for were pruned.
func buildingAgain(fx *fixtures) scenario {
	gone := slices.Concat(fx.protected(), fx.unprotected())
	return scenario{name: "build of what was pruned", uses: []known{fx.fresh}, gone: gone, run: func(r *run) {
		make := func() (v1.Layer, error) { return fx.fresh.layer(), nil }
		c := r.open()
		r.build(c, "key", fx.fresh, make)
		if _, err := c.Prune(context.Background(), cache.PrunePolicy{MaxBytes: 1}); err != nil {
			r.t.Error(err)
		}
		r.wantThere("pruned", false, fx.fresh.blobHash, fx.fresh.tarHash)
		r.arm(true)
		if n := r.build(c, "key", fx.fresh, make); n == 0 {
			r.t.Error("what was pruned was not built again")
		}
	}}
}

func droppingKeys(fx *fixtures) scenario {
	return scenario{name: "drop keys", uses: []known{fx.kept}, run: func(r *run) {
		c := r.open()
		for _, key := range []string{"a", "b", "c"} {
			r.build(c, key, fx.kept, func() (v1.Layer, error) { return fx.kept.layer(), nil })
		}
		r.arm(true)
		failed := r.failed(c.DropKeys("a", "b"))
		r.arm(false)
		other, closeOther := r.beside()
		defer closeOther()
		keys := keysOf(r.t, other)
		if keys["c"] != fx.kept.blobHash || !failed && len(keys) != 1 {
			r.t.Errorf("DropKeys failed: %v, and left %v", failed, keys)
		}
		r.arm(true)
	}}
}

// What is told of the disk is right, or an error.
func lookingAtUsage(fx *fixtures) scenario {
	return scenario{name: "disk usage", uses: []known{fx.kept}, run: func(r *run) {
		c := r.open()
		want, err := c.DiskUsage(context.Background())
		if err != nil {
			r.t.Error(err)
		}
		r.arm(true)
		got, err := c.DiskUsage(context.Background())
		if !r.failed(err) && !reflect.DeepEqual(got, want) {
			r.t.Errorf("DiskUsage: got %+v\nwant %+v", got, want)
		}
	}}
}
