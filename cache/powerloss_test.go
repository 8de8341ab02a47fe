package cache_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The power fails. What a checkpoint covered is there; what was committed
// since comes back in every way that a file system may give it back, and so
// does the end of the journal. What is bad is never served: it is hashed at
// the first read, put aside, and counted.
func TestPowerLoss(t *testing.T) {
	flushed, late := makeLayer(1, 100_000), makeLayer(2, 100_000)
	other := makeLayer(3, 200_000)
	blobs := map[string]struct {
		damage func(t *testing.T, path string)
		bad    bool
	}{
		"whole":   {damage: func(*testing.T, string) {}},
		"gone":    {damage: func(t *testing.T, path string) { must(os.Remove(path)) }},
		"empty":   {func(t *testing.T, path string) { truncate(t, path, 0) }, true},
		"short":   {func(t *testing.T, path string) { truncate(t, path, 4096) }, true},
		"zeros":   {zero, true},
		"stale":   {func(t *testing.T, path string) { silently(t, path, other.tar[:5000]) }, true},
		"garbled": {func(t *testing.T, path string) { silently(t, path, []byte{0x55, 0xaa}) }, true},
	}
	journals := map[string]func([]byte) []byte{
		"whole":           func(b []byte) []byte { return b },
		"short":           func(b []byte) []byte { return b[:len(b)-100] },
		"zeros":           func(b []byte) []byte { return append(b[:len(b)-100:len(b)-100], make([]byte, 100)...) },
		"longer by zeros": func(b []byte) []byte { return append(b[:len(b):len(b)], make([]byte, 4096)...) },
		"the header only": func(b []byte) []byte { return b[:bytes.IndexByte(b, '\n')+1] },
		"empty":           func([]byte) []byte { return nil },
	}
	live := t.TempDir()
	c := openDir(t, live)
	checkForms(t, c.Layer(fake(flushed)), flushed)
	must(c.Flush())
	checkForms(t, c.Layer(fake(late)), late)
	for name, blob := range blobs {
		for end, cut := range journals {
			t.Run("blobs "+name+", journal "+end, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "cache")
				copyDir(t, dir, live)
				journal := filepath.Join(dir, ".ocicache", "journal")
				must(os.WriteFile(journal, cut(readFile(t, journal)), 0o644))
				anotherBoot(t, dir)
				for _, h := range []v1.Hash{late.digest(), late.diffID()} {
					blob.damage(t, blobPath(dir, h))
				}
				again := openDir(t, dir)
				checkForms(t, mustGet(t, again, flushed.digest()), flushed)
				checkForms(t, mustGet(t, again, flushed.diffID()), flushed)
				for _, h := range []v1.Hash{late.digest(), late.diffID()} {
					l, err := again.Get(h)
					if err != nil {
						continue
					}
					for _, form := range []func() (io.ReadCloser, error){l.Compressed, l.Uncompressed} {
						if b, err := tryRead(form); err == nil && !bytes.Equal(b, late.blob) && !bytes.Equal(b, late.tar) {
							t.Errorf("Get(%s) gave bytes of %s", h, digestOf(b))
						}
					}
				}
				if got := again.Stats().Repairs; end == "whole" && blob.bad && got != 2 || !blob.bad && got != 0 {
					t.Errorf("Repairs: got %d", got)
				}
				l := fake(late)
				checkForms(t, again.Layer(l), late)
				checkForms(t, mustGet(t, again, late.diffID()), late)
				if end == "whole" && name == "whole" && l.opens.Load() != 0 {
					t.Error("the origin was read for what is there")
				}
			})
		}
	}
}
