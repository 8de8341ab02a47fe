package cache_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// A scenario is what a cache does while the disk fails: run arms the faults
// when all is ready for them.
type scenario struct {
	name  string
	empty bool      // begin without a directory
	once  bool      // what is built can be read once
	uses  []known   // what is looked at closely afterwards
	gone  []v1.Hash // what may be gone then
	held  []v1.Hash // what must be on the disk then
	run   func(r *run)
}

func scenarios(fx *fixtures) []scenario {
	list := []scenario{
		deleting(fx), reopening(fx), dying(fx), creating(fx), twoCaches(fx), meddling(fx), streaming(fx),
		suspect("suspect and good", fx.kept, nil, func(b []byte) {}),
		suspect("suspect and bad", fx.kept, []v1.Hash{fx.kept.blobHash, fx.kept.tarHash}, func(b []byte) { b[100] ^= 1 }),
	}
	list = append(list, lifecycleScenarios(fx)...)
	// Of a cache that is open already.
	through := func(name string, uses []known, f func(r *run, c *cache.Cache), opts ...cache.Option) {
		list = append(list, scenario{name: name, uses: uses, run: func(r *run) {
			c := r.open(opts...)
			r.arm(true)
			f(r, c)
		}})
	}
	through("cold compressed", []known{fx.fresh}, func(r *run, c *cache.Cache) {
		r.read(c.Layer(fx.fresh.layer()).Compressed, fx.fresh.blob)
	})
	through("cold uncompressed", []known{fx.fresh}, func(r *run, c *cache.Cache) {
		l := c.Layer(fx.fresh.layer())
		r.read(l.Uncompressed, fx.fresh.tar)
		r.read(l.Compressed, fx.fresh.blob)
	})
	through("cold together", []known{fx.fresh}, func(r *run, c *cache.Cache) {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { r.readForms(c.Layer(fx.fresh.layer()), fx.fresh) })
		}
		wg.Wait()
	})
	through("cold synced", []known{fx.other}, func(r *run, c *cache.Cache) {
		r.readForms(c.Layer(fx.other.layer()), fx.other)
	}, cache.WithSync(cache.SyncCommit))
	through("cold tar", []known{fx.other}, func(r *run, c *cache.Cache) {
		r.read(c.Layer(tarOf(r.t, fx.other.tar)).Uncompressed, fx.other.tar)
	})
	through("warm", []known{fx.kept, fx.journaled}, func(r *run, c *cache.Cache) {
		r.readForms(c.Layer(fx.kept.layer()), fx.kept)
		r.readForms(c.Layer(fx.journaled.layer()), fx.journaled)
	})
	through("lazy", []known{fx.lazy}, func(r *run, c *cache.Cache) {
		r.read(c.Layer(fx.lazy.layer()).Uncompressed, fx.lazy.tar)
	})
	through("recompress", []known{fx.built}, func(r *run, c *cache.Cache) {
		r.readForms(c.Layer(fx.built.layer()), fx.built)
	})
	through("pack", []known{fx.tarOnly}, func(r *run, c *cache.Cache) {
		r.get(c, fx.tarOnly.tarHash, fx.tarOnly)
	})
	through("get", []known{fx.kept, fx.journaled, fx.lazy}, func(r *run, c *cache.Cache) {
		r.get(c, fx.kept.blobHash, fx.kept)
		r.get(c, fx.journaled.tarHash, fx.journaled)
		r.get(c, fx.lazy.blobHash, fx.lazy)
	})
	through("flush", []known{fx.other}, func(r *run, c *cache.Cache) {
		r.arm(false)
		r.readForms(c.Layer(fx.other.layer()), fx.other)
		r.arm(true)
		r.flush(c)
	})
	return list
}

func deleting(fx *fixtures) scenario {
	gone := []v1.Hash{fx.kept.blobHash, fx.shared.blobHash}
	return scenario{name: "delete", uses: []known{fx.kept, fx.shared}, gone: gone, run: func(r *run) {
		c := r.open()
		r.arm(true)
		for _, h := range gone {
			err := c.Delete(h)
			r.note(err)
			if err == nil {
				r.deleted = append(r.deleted, h)
			}
		}
	}}
}

func reopening(fx *fixtures) scenario {
	return scenario{name: "reopen", uses: []known{fx.journaled}, run: func(r *run) {
		r.arm(true)
		if c := r.open(); c != nil {
			r.readForms(c.Layer(fx.journaled.layer()), fx.journaled)
		}
	}}
}

// A checkpoint died after it had set the journal aside.
func dying(fx *fixtures) scenario {
	return scenario{name: "reopen with journal.old", uses: []known{fx.journaled, fx.other}, run: func(r *run) {
		state := filepath.Join(r.dir, ".ocicache")
		if err := os.Rename(filepath.Join(state, "journal"), filepath.Join(state, "journal.old")); err != nil {
			r.t.Fatal(err)
		}
		r.arm(true)
		if c := r.open(); c != nil {
			r.readForms(c.Layer(fx.other.layer()), fx.other)
			r.flush(c)
		}
	}}
}

func creating(fx *fixtures) scenario {
	return scenario{name: "create", empty: true, uses: []known{fx.other}, run: func(r *run) {
		r.arm(true)
		if c := r.open(); c != nil {
			r.readForms(c.Layer(fx.other.layer()), fx.other)
		}
	}}
}

// One cache fails, and catches up with what another one does.
func twoCaches(fx *fixtures) scenario {
	return scenario{name: "two caches", uses: []known{fx.kept, fx.lazy, fx.other}, run: func(r *run) {
		c := r.open()
		sound, err := cache.Open(r.dir)
		if err != nil {
			r.t.Fatal(err)
		}
		defer func() {
			if err := sound.Close(); err != nil {
				r.t.Errorf("Close of the other cache: %v", err)
			}
		}()
		r.readForms(sound.Layer(fx.next.layer()), fx.next)
		r.arm(true)
		r.get(c, fx.next.blobHash, fx.next)
		r.arm(false)
		if err := sound.Flush(); err != nil {
			r.t.Errorf("Flush of the other cache: %v", err)
		}
		r.readForms(sound.Layer(fx.lazy.layer()), fx.lazy)
		r.arm(true)
		r.get(c, fx.lazy.tarHash, fx.lazy)
		r.readForms(c.Layer(fx.other.layer()), fx.other)
		r.arm(false)
		r.readForms(sound.Layer(fx.other.layer()), fx.other)
		r.arm(true)
		r.flush(c)
	}}
}

// Another tool rewrites the index of a cache that is open.
func meddling(fx *fixtures) scenario {
	return scenario{name: "another tool", uses: []known{fx.lazy}, run: func(r *run) {
		c := r.open()
		r.foreign = append(r.foreign, addForeign(r.t, r.dir, fx.other))
		r.theirs = slices.Collect(maps.Keys(blobs(r.t, r.dir)))
		r.arm(true)
		_, err := c.Get(fx.other.blobHash) // has it look what is new
		if !errors.Is(err, cache.ErrNotFound) {
			r.t.Errorf("Get of another tool's layer: %v", err)
		}
		r.readForms(c.Layer(fx.lazy.layer()), fx.lazy)
		r.flush(c)
	}}
}

// The origin can be read once: what cannot be read back of it is lost.
func streaming(fx *fixtures) scenario {
	return scenario{name: "stream", uses: []known{}, run: func(r *run) {
		c := r.open()
		r.arm(true)
		tar := fx.other.tar
		got, err := tryRead(c.Layer(streamOf(tar)).Uncompressed)
		r.note(err)
		unreadable := slices.ContainsFunc(r.injected(), func(f *fault) bool { return f.op == "read" })
		switch {
		case err == nil && !bytes.Equal(got, tar), err != nil && !unreadable:
			r.t.Errorf("read: got %d bytes, %v; want %d", len(got), err, len(tar))
		case err != nil && !errors.As(err, new(*fault)):
			r.t.Errorf("read: got %v, want the injected error", err)
		}
	}}
}

// Both blobs of a layer are not as they were when last verified.
func suspect(name string, k known, gone []v1.Hash, change func(b []byte)) scenario {
	return scenario{name: name, uses: []known{k}, gone: gone, run: func(r *run) {
		for _, h := range []v1.Hash{k.blobHash, k.tarHash} {
			path := blobPath(r.dir, h)
			b := readFile(r.t, path)
			change(b)
			if err := errors.Join(os.Remove(path), os.WriteFile(path, b, 0o644)); err != nil { // it is linked
				r.t.Fatal(err)
			}
		}
		c := r.open()
		r.arm(true)
		r.readForms(c.Layer(k.layer()), k)
		r.get(c, k.tarHash, k)
	}}
}
