package cache_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
)

// fuzzLimit is what a layer may decompress to, in bytes.
const fuzzLimit = 16 << 10

// chunked gives its bytes in pieces of a size, and the end with the last of
// them or after it.
type chunked struct {
	b       []byte
	size    int
	withEOF bool
}

func (c *chunked) Read(p []byte) (int, error) {
	n := copy(p, c.b[:min(len(c.b), c.size)])
	c.b = c.b[n:]
	if len(c.b) == 0 && (n == 0 || c.withEOF) {
		return n, io.EOF
	}
	return n, nil
}

// tryReadIn is tryRead in pieces.
func tryReadIn(open func() (io.ReadCloser, error), size int) ([]byte, error) {
	rc, err := open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	var all bytes.Buffer
	_, err = io.CopyBuffer(struct{ io.Writer }{&all}, struct{ io.Reader }{rc}, make([]byte, size))
	return all.Bytes(), err
}

// A fuzzed is a layer of any bytes, and what must come of it.
type fuzzed struct {
	content         // its tar is what the blob decompresses to
	broken  error   // why it does not
	claim   v1.Hash // the diffID that it is said to have
	flags   byte
	size    int // of the pieces that it is read in
}

func newFuzzed(blob []byte, flags, size byte) *fuzzed {
	f := &fuzzed{content: content{blob: blob}, flags: flags, size: int(size)*int(size) + 1}
	f.mediaType = []types.MediaType{types.DockerLayer, types.OCILayerZStd, types.OCIUncompressedLayer, "application/x"}[flags&3]
	r, err := compression.NewReader(bytes.NewReader(blob))
	must(err)
	f.tar, f.broken = io.ReadAll(io.LimitReader(r, fuzzLimit+1))
	must(r.Close())
	f.claim = []v1.Hash{f.diffID(), f.digest(), digestOf([]byte("another layer")), f.diffID()}[flags>>2&3]
	if f.mediaType == "application/x" && f.claim == f.digest() {
		f.claim = f.diffID() // it would say that it has but one form
	}
	return f
}

// layer returns the layer as its origin has it, bare or in an image, which
// then claims its diffID.
func (f *fuzzed) layer(t *testing.T, c *cache.Cache) v1.Layer {
	l := fake(f.content)
	l.claim = f.claim
	l.compressed = func() (io.ReadCloser, error) {
		return io.NopCloser(&chunked{b: f.blob, size: f.size, withEOF: f.flags&64 != 0}), nil
	}
	if f.inImage() {
		return layersOf(t, c.Image(imageOf(t, l)))[0]
	}
	return c.Layer(l)
}

func (f *fuzzed) inImage() bool { return f.flags&16 != 0 }

func (f *fuzzed) checkCompressed(t *testing.T, l v1.Layer) {
	t.Helper()
	if got, err := tryReadIn(l.Compressed, f.size); err != nil || !bytes.Equal(got, f.blob) {
		t.Errorf("Compressed: %d bytes, %v; want %d", len(got), err, len(f.blob))
	}
}

func (f *fuzzed) checkUncompressed(t *testing.T, l v1.Layer, claimed bool) {
	t.Helper()
	got, err := tryReadIn(l.Uncompressed, f.size)
	var mismatch *cache.DigestMismatchError
	switch {
	case f.broken != nil:
		if !errors.Is(err, cache.ErrCorrupt) && !errors.Is(err, cache.ErrTooLarge) {
			t.Errorf("Uncompressed: %v, want ErrCorrupt: %v", err, f.broken)
		}
	case len(f.tar) > fuzzLimit:
		if !errors.Is(err, cache.ErrTooLarge) {
			t.Errorf("Uncompressed: %v, want ErrTooLarge", err)
		}
	case claimed && f.claim != f.diffID() && f.claim != f.digest():
		if !errors.As(err, &mismatch) {
			t.Errorf("Uncompressed: %v, want a DigestMismatchError", err)
		}
	default:
		if err != nil || !bytes.Equal(got, f.tar) {
			t.Errorf("Uncompressed: %d bytes, %v; want %d", len(got), err, len(f.tar))
		}
		if diffID, err := l.DiffID(); err != nil || diffID != f.diffID() && diffID != f.claim {
			t.Errorf("DiffID: %s, %v; want %s", diffID, err, f.diffID())
		}
	}
}

// check reads the layer from its origin, or what is there of it, in both
// forms.
func (f *fuzzed) check(t *testing.T, c *cache.Cache) {
	t.Helper()
	l := f.layer(t, c)
	if f.flags&128 != 0 { // a reader that closes early
		if rc, err := l.Uncompressed(); err == nil {
			_, _ = rc.Read(make([]byte, f.size))
			rc.Close()
		}
	}
	if f.flags&32 != 0 {
		f.checkUncompressed(t, l, f.inImage())
		f.checkCompressed(t, l)
	} else {
		f.checkCompressed(t, l)
		f.checkUncompressed(t, l, f.inImage())
	}
	got := f.get(t, c, f.digest())
	f.checkCompressed(t, got)
	f.checkUncompressed(t, got, false)
	if f.broken == nil && len(f.tar) <= fuzzLimit {
		f.checkUncompressed(t, f.get(t, c, f.diffID()), false)
	}
	if lie, err := c.Get(f.claim); err == nil {
		if b, err := tryRead(lie.Uncompressed); err == nil && f.claim != f.digest() && digestOf(b) != f.claim {
			t.Errorf("got %s by %s", digestOf(b), f.claim)
		}
	}
}

func (f *fuzzed) get(t *testing.T, c *cache.Cache, h v1.Hash) v1.Layer {
	t.Helper()
	l, err := c.Get(h)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return l
}

// checkDir asserts that just what was verified is in the directory.
func (f *fuzzed) checkDir(t *testing.T, dir string) {
	t.Helper()
	for h, path := range blobs(t, dir) {
		if b := readFile(t, path); digestOf(b) != h || h != f.digest() && (h != f.diffID() || f.broken != nil) {
			t.Errorf("blob %s holds bytes of %s", h, digestOf(b))
		}
	}
	for _, sub := range []string{"trash", "quarantine"} {
		for _, name := range listDir(t, filepath.Join(dir, ".ocicache", sub)) {
			t.Errorf("%s holds %s", sub, name)
		}
	}
}

// FuzzIngest reads any bytes as a layer, in both forms, in both orders, in
// pieces of any size, with a true diffID or a false one: cold, warm, and from
// a cache that was opened anew. All is removed in the end, so one directory
// serves for many layers: to make one costs far more than to fill it.
func FuzzIngest(f *testing.F) {
	text := []byte("the end of a file, the end of a file") // seeds are small: go test tries to make each find smaller
	gz, zst := gzipped(text), zstded(text)
	for i, blob := range [][]byte{
		nil, []byte("x"), text, makeTar(1, 1), gz, zst, gzipped(nil), zstded(nil), gz[:len(gz)/2], zst[:len(zst)-2], gz[:12],
		append(bytes.Clone(gz), "garbage"...), append(bytes.Clone(gz), gz...), append(bytes.Clone(zst), zst...), append(bytes.Clone(gz), 0),
		gzipped(gz), gzipped(zst), []byte(`{"schemaVersion":2,"config":{}}`), []byte("\x50\x2a\x4d\x18\x01\x00\x00\x00x"),
		[]byte("\x1f\x8b"), []byte("\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x00name"), gzipped(make([]byte, fuzzLimit+1)), zstded(make([]byte, fuzzLimit)),
	} {
		for j := range 4 {
			f.Add(blob, byte(i*37+j*67), byte(i*11+j*50))
		}
	}
	dir, err := os.MkdirTemp("", "fuzz-ingest-")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	opts := []cache.Option{cache.WithSync(cache.SyncNever), cache.WithMaxUncompressed(fuzzLimit)}
	c, err := cache.Open(dir, opts...)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := c.Close(); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, blob []byte, flags, size byte) {
		if len(blob) > 4<<10 {
			return // what is longer finds no more
		}
		l := newFuzzed(blob, flags, size)
		for range 2 {
			l.check(t, c)
		}
		again, err := cache.Open(dir, append(opts, cache.WithReadOnly())...)
		if err != nil {
			t.Fatal(err)
		}
		l.check(t, again)
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		l.checkDir(t, dir)
		for _, h := range []v1.Hash{l.digest(), l.diffID(), l.claim} {
			if err := c.Delete(h); err != nil && !errors.Is(err, cache.ErrNotFound) {
				t.Error(err)
			}
		}
		if left := blobs(t, dir); len(left) != 0 {
			t.Errorf("%v are left", left)
		}
	})
}

// FuzzOpen opens a directory of two layers' blobs with any index.json and any
// journal. What is got by a hash has it, and origins are read. It is opened
// read-only: that is many times faster, and reads all the same.
func FuzzOpen(f *testing.F) {
	a, b := makeLayer(1, 100), makeLayer(2, 100)
	da, ta, db, tb := a.digest().String(), a.diffID().String(), b.digest().String(), b.diffID().String()
	blobA, tarA := itoa(len(a.blob)), itoa(len(a.tar))
	pair := item(da, blobA, "diffid="+ta, "pair=verified", mtime)
	for _, items := range [][]string{
		nil, {pair, item(ta, tarA, "digest="+da, mtime)}, {item(da, blobA, "diffid="+tb, "pair=claimed"), item(tb, "1", "digest="+db)},
		{pair, item(da, "-1", "diffid="+db)}, {item(da, blobA, "diffid="+da, "pair=refuted", "unsynced=x")}, {"null", `{"digest":"sha256:../x"}`},
		{item(db, "0", "diffid="+tb, "pair=verified", "codec=gzip;level=1;block=1048576;by=pgzip"), item(tb, tarA, "digest=", "created=1")},
	} {
		var records []string
		for _, i := range items {
			records = append(records, putRecord(i))
		}
		f.Add(indexOf(items...), "")
		f.Add(indexOf(), journalOf(append(records, `{"delete":"`+ta+`"}`, `{"list":`+foreignEntry+`}`)...))
	}
	f.Add("", hostileHeader+"\x00\n"+`{"n":1,"put":`+pair)
	dir, err := os.MkdirTemp("", "fuzz-open-")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	for name, text := range withBlobs("", "", a, b) {
		writeHostile(f, filepath.Join(dir, name), text)
	}
	writeHostile(f, filepath.Join(dir, "oci-layout"), hostileLayout)
	f.Fuzz(func(t *testing.T, text, journal string) {
		if _, err := index.New().Decode([]byte(text)); err != nil {
			return // a cache would wait for it to become better; index.FuzzDecode has it
		}
		writeHostile(t, filepath.Join(dir, "index.json"), text)
		writeHostile(t, filepath.Join(dir, ".ocicache", "journal"), journal)
		c, err := cache.Open(dir, cache.WithReadOnly())
		if errors.Is(err, cache.ErrVersion) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []content{a, b} {
			checkServed(t, c, l.digest(), lying, true)
			checkServed(t, c, l.diffID(), lying, true)
			if got, err := tryRead(c.Layer(fake(l)).Compressed); err != nil || !bytes.Equal(got, l.blob) {
				t.Errorf("Compressed: %d bytes, %v", len(got), err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
