package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// A tar's variant was handed out as its compressed form although the
// catalog knew the variant to be a tar itself, or of another diffID.
func TestHostileVariantOfAnother(t *testing.T) {
	a, b := makeLayer(1, 3000), makeLayer(2, 3000)
	da, ta, tb := a.digest().String(), a.diffID().String(), b.diffID().String()
	for name, items := range map[string][]string{
		"a cycle of variants":    {item(ta, itoa(len(a.tar)), "digest="+tb, mtime), item(tb, itoa(len(b.tar)), "digest="+ta, mtime)},
		"blob and tar exchanged": {item(da, itoa(len(a.blob)), "digest="+ta, mtime), item(ta, itoa(len(a.tar)), "diffid="+da, "pair=claimed", mtime)},
		"of another, verified":   {item(tb, itoa(len(b.tar)), "digest="+da, mtime), item(da, itoa(len(a.blob)), "diffid="+ta, "pair=verified", mtime)},
		"of another, refuted":    {item(tb, itoa(len(b.tar)), "digest="+da, mtime), item(da, itoa(len(a.blob)), "diffid="+tb, "pair=refuted", mtime)},
		"of another, claimed":    {item(tb, itoa(len(b.tar)), "digest="+da, mtime), item(da, itoa(len(a.blob)), "diffid="+tb, "pair=claimed", mtime)},
	} {
		t.Run(name, func(t *testing.T) {
			c := openDir(t, hostileDir(t, withBlobs(indexOf(items...), "", a, b)))
			for _, h := range []v1.Hash{a.digest(), a.diffID(), b.digest(), b.diffID()} {
				checkServed(t, c, h, honest, false)
			}
		})
	}
}

// A wrong pair that index.json says was verified failed the reads of an
// honest image, for ever, though its origin could serve them.
func TestHostileLyingIndexFailsHonestImage(t *testing.T) {
	a, b := makeLayer(1, 3000), makeLayer(2, 3000)
	text := indexOf(item(a.digest().String(), itoa(len(a.blob)), "diffid="+b.diffID().String(), "pair=verified", mtime))
	c := openDir(t, hostileDir(t, withBlobs(text, "", a, b)))
	for range 2 {
		if got, err := tryRead(layersOf(t, c.Image(imageOf(t, fake(a))))[0].Uncompressed); err != nil || !bytes.Equal(got, a.tar) {
			t.Errorf("an honest image: %d bytes, %v", len(got), err)
		}
	}
}

// An index that says it holds more of the journal's generation than any
// journal has made what was appended count as held: it was lost.
func TestHostileFoldedNumber(t *testing.T) {
	for _, n := range []uint64{1 << 62, 1<<62 - 1, math.MaxUint64, math.MaxUint64 - 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			a := makeLayer(1, 3000)
			index := strings.Replace(indexOf(), `folded":""`, fmt.Sprintf(`folded":"g1:%d"`, n), 1)
			dir := hostileDir(t, withBlobs(index, hostileHeader))
			c := openDir(t, dir)
			checkUsable(t, dir, c, honest, a, makeLayer(2, 3000))
		})
	}
}

// An index.json that cannot be read was read 41 times, whatever its size.
func TestHostilePatienceIsNotOfTime(t *testing.T) {
	const size = 128 << 20
	dir := hostileDir(t, map[string]string{"index.json": ""})
	sparse(t, filepath.Join(dir, "index.json"), "", size, "")
	var opens atomic.Int64
	start := time.Now()
	_, err := cache.Open(dir, cache.WithHook(func(op, name string) error {
		if op == "open" && name == "index.json" {
			opens.Add(1)
		}
		return nil
	}))
	if !errors.Is(err, cache.ErrMalformed) {
		t.Error(err)
	}
	t.Logf("%d MB were read %d times in %v", size>>20, opens.Load(), time.Since(start))
	if n := opens.Load(); n > 8 {
		t.Errorf("%d MB were read %d times", size>>20, n)
	}
}

// A bomb's ErrTooLarge was met twice: by the fill, as a fault of the
// cache, and again by the reader that falls back, which decompresses all of it
// once more.
func TestHostileBombTwice(t *testing.T) {
	c := open(t, cache.WithMaxUncompressed(1<<20))
	bomb := content{blob: gzipped(make([]byte, 10<<20)), mediaType: types.DockerLayer}
	if _, err := tryRead(c.Layer(fake(bomb)).Uncompressed); !errors.Is(err, cache.ErrTooLarge) {
		t.Error(err)
	}
	if s := c.Stats(); s.WriteFaults != 0 || s.Fallbacks != 0 || s.Decompressions != 1 {
		t.Errorf("%+v, want one decompression and no fault", s)
	}
}

// Who reads a layer again, just after a reader of a stalled origin was closed,
// joins that fill. It does not wait for long for an origin that its only
// reader had given up.
func TestHostileJoinsStalled(t *testing.T) {
	want := makeLayer(1, 200_000)
	c := open(t, cache.WithCloseTimeout(time.Millisecond))
	l := fake(want)
	origin := &stalledReader{first: want.blob[:len(want.blob)/2], blocked: make(chan struct{}), closed: make(chan struct{})}
	l.compressed = func() (io.ReadCloser, error) { return origin, nil }
	rc, err := layersOf(t, c.Image(imageOf(t, l)))[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(rc, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	<-origin.blocked
	rc.Close()
	read := make(chan error, 1)
	go func() {
		_, err := tryRead(layersOf(t, c.Image(imageOf(t, fake(want))))[0].Compressed)
		read <- err
	}()
	select {
	case err := <-read:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(15 * time.Second):
		t.Error("still waits for an origin that was given up")
	}
}

// Read-only, a size that verification refuted was still what Size said.
func TestHostileReadOnlySize(t *testing.T) {
	a := makeLayer(1, 3000)
	c := openDir(t, hostileDir(t, withBlobs(indexOf(item(a.digest().String(), "4611686018427387904", mtime)), "", a)), cache.WithReadOnly())
	l := mustGet(t, c, a.digest())
	if n, err := l.Size(); err != nil || n != int64(len(a.blob)) {
		t.Errorf("Size: %d, %v, want %d", n, err, len(a.blob))
	}
}
