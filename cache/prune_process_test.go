package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// busyRole reads, looks up and builds some layers that others prune.
func busyRole(t *testing.T, dir, arg string) {
	c, err := cache.Open(dir, toStderr)
	if err != nil {
		t.Fatal(err)
	}
	say("ready")
	rnd := rand.New(rand.NewPCG(uint64(len(arg)), uint64(arg[0])))
	for range 150 {
		want := small(rnd.Uint64N(12))
		for _, form := range []string{"compressed", "uncompressed"} {
			if _, err := read(c, want, form); err != nil {
				t.Errorf("%s: %v", form, err)
			}
		}
		if _, err := lookUp(c, want.diffID(), want); err != nil && !errors.Is(err, cache.ErrNotFound) { // it may be pruned by now
			t.Errorf("look up: %v", err)
		}
		l, err := c.Build(context.Background(), want.digest().Hex, func(context.Context) (v1.Layer, error) { return fake(want), nil })
		if err != nil {
			t.Errorf("build: %v", err)
			continue
		}
		if got, err := tryRead(l.Compressed); err != nil || !bytes.Equal(got, want.blob) {
			t.Errorf("built: %d bytes, %v", len(got), err)
		}
	}
	if s := c.Stats(); s.WriteFaults+s.Repairs > 0 {
		t.Errorf("faults: %+v", s)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// One process prunes while four others read, fill and build: no reader fails,
// no bytes are wrong, and what is pinned stays.
func TestPruneBesideOthers(t *testing.T) {
	dir := t.TempDir()
	c := openDir(t, dir)
	pinned := small(100)
	checkForms(t, c.Layer(fake(pinned)), pinned)
	must(c.PinAs("pinned", pinned.digest(), pinned.diffID()))
	ended := make(chan struct{}, 4)
	for i := range 4 {
		p := start(t, "busy", dir, fmt.Sprint(i))
		go func() {
			p.end()
			ended <- struct{}{}
		}()
	}
	removed := 0
	for left := 4; left > 0; {
		for _, p := range []cache.PrunePolicy{{All: true}, {MaxBytes: 20_000}, {Filters: []string{"form==uncompressed"}}} {
			removed += len(prune(t, c, p).Removals)
		}
		select {
		case <-ended:
			left--
		default:
		}
	}
	if removed == 0 {
		t.Error("nothing was pruned, and nothing tested")
	}
	for _, h := range []v1.Hash{pinned.digest(), pinned.diffID()} {
		if !exists(blobPath(dir, h)) {
			t.Errorf("%s was pinned", h)
		}
	}
	wantFindings(t, verify(t, c, cache.VerifyOptions{}))
}
