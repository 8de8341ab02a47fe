package cache_test

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// A layer that is filled while a lying origin of its digest is being read is
// filled from its own one then.
func TestFillJoinsLie(t *testing.T) {
	c := open(t)
	want := makeLayer(1, 1000)
	gate := make(chan struct{})
	lying := fake(want)
	lying.compressed = func() (io.ReadCloser, error) {
		return io.NopCloser(&gatedReader{r: bytes.NewReader(makeLayer(2, 1000).blob), gate: gate}), nil
	}
	rc, err := c.Layer(lying).Compressed()
	must(err)
	defer rc.Close()
	read, filled := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, rc)
		read <- err
	}()
	go func() { filled <- c.Fill(t.Context(), fake(want)) }()
	for c.Stats().Misses < 2 { // both read the lie
		time.Sleep(time.Millisecond)
	}
	close(gate)
	if err := <-filled; err != nil {
		t.Errorf("the honest one: %v", err)
	}
	if err := <-read; err == nil {
		t.Error("the lie was read without an error")
	}
	checkForms(t, mustGet(t, c, want.digest()), want)
}

// What was remembered and is filled again is as young as what is new.
func TestRefilledIsYoung(t *testing.T) {
	at := newClock()
	c := open(t, cache.WithClock(at.now))
	old, other := makeLayer(1, 1000), makeLayer(2, 1000)
	must(c.FillUncompressed(t.Context(), fake(old)))
	at.set(1_000_000)
	prune(t, c, cache.PrunePolicy{Filters: []string{"size>0"}})
	must(c.Fill(t.Context(), fake(other)))
	at.set(2_000_000)
	must(c.Fill(t.Context(), fake(old)))
	if r := prune(t, c, cache.PrunePolicy{KeepDuration: time.Hour, DryRun: true}); len(r.Removals) != 1 || r.Removals[0].Digest != other.digest() {
		t.Errorf("by age: got %+v", r)
	}
	total := cache.TotalUsage(usages(t, c)).Bytes
	if r := prune(t, c, cache.PrunePolicy{MaxBytes: total - 1}); len(r.Removals) != 1 || r.Removals[0].Digest != other.digest() {
		t.Errorf("by rank: got %+v", r)
	}
}

// Another process writes while a cache is closed: its uses are journaled when
// that is over.
func TestUsesAtClose(t *testing.T) {
	dir := t.TempDir()
	l := small(1)
	p := start(t, "serve", dir, "")
	c := openDir(t, dir)
	readAll(t, c.Layer(fake(l)).Compressed)
	for range 5 {
		readAll(t, c.Layer(fake(l)).Compressed)
	}
	p.do("stop before write .ocicache/journal", "done")
	p.tell("compressed 2")
	p.want("stopped") // with the lock
	closed := make(chan error)
	go func() { closed <- c.Close() }()
	select {
	case err := <-closed:
		t.Errorf("closed while another process held the lock: %v", err)
	case <-time.After(50 * time.Millisecond): // it has to wait in any case
	}
	p.do("go on", "fetched")
	must(<-closed)
	p.end()
	if us := usages(t, openDir(t, dir), "usecount==5"); len(us) != 1 {
		t.Errorf("got %+v", usages(t, openDir(t, dir)))
	}
}

// One image of a layout is wrong about a layer's size; the layer is adopted.
func TestAdoptWrongSize(t *testing.T) {
	l := newLayout(t)
	want := makeLayer(1, 5000)
	img := imageOf(t, fake(want))
	m, err := img.Manifest()
	must(err)
	wrong := m.DeepCopy()
	wrong.Layers[0].Size = 5
	raw, err := json.Marshal(wrong)
	must(err)
	l.list(string(m.MediaType), raw)
	must(l.AppendImage(img))
	c := open(t)
	adopted, _, failed := outcomes(adopt(t, c, l.dir))
	if len(adopted) != 1 || failed != nil {
		t.Errorf("got %v, %v", adopted, failed)
	}
	for _, h := range []v1.Hash{want.digest(), want.diffID()} {
		checkForms(t, mustGet(t, c, h), want)
	}
}
