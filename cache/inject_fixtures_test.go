package cache_test

import (
	archivetar "archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// fixtures are a directory in which each kind of entry stands, to be copied.
type fixtures struct {
	dir  string // the template
	runs string // where copies are made

	kept      known // both forms, in the index
	journaled known // both forms, in the journal
	lazy      known // the blob alone, in the index
	built     known // the tar, and the memory of a blob that we made of it
	tarOnly   known // the tar; its blob is what we would make of it
	shared    known // the blob, which another tool's image reaches

	fresh, other, next known // not there
	packed             known // not there; its blob is what we would make of its tar
	streamed           known // not there; its blob is what go-containerregistry makes of a stream

	foreign v1.Hash // the other tool's image
}

// known is content whose hashes were computed.
type known struct {
	content
	blobHash, tarHash v1.Hash
}

func knownOf(c content) known { return known{c, c.digest(), c.diffID()} }

// layer returns a layer of it that counts.
func (k known) layer() *fakeLayer {
	return &fakeLayer{content: k.content, named: k.blobHash, claim: k.tarHash}
}

func makeFixtures(t *testing.T) *fixtures {
	t.Helper()
	memory := memoryDir(t)
	fx := &fixtures{
		dir:       filepath.Join(memory, "template"),
		runs:      filepath.Join(memory, "runs"),
		kept:      knownOf(makeLayer(11, 10_000)),
		journaled: knownOf(makeLayer(12, 10_000)),
		lazy:      knownOf(makeLayer(13, 10_000)),
		built:     packed(t, makeTar(14, 10_000)),
		tarOnly:   packed(t, makeTar(15, 10_000)),
		shared:    knownOf(makeLayer(16, 10_000)),
		fresh:     knownOf(dense(70_000)), // a blob of more than one chunk
		other:     knownOf(makeLayer(18, 10_000)),
		next:      knownOf(makeLayer(19, 10_000)),
		packed:    packed(t, makeTar(20, 10_000)),
		streamed:  streamed(t, makeTar(21, 10_000)),
	}
	c := openDir(t, filepath.Join(memory, "cache"))
	dir := dirOf(c)
	checkForms(t, c.Layer(fx.kept.layer()), fx.kept.content)
	for _, k := range []known{fx.shared, fx.lazy} {
		readAll(t, c.Layer(k.layer()).Compressed)
	}
	for _, k := range []known{fx.built, fx.tarOnly} {
		readAll(t, c.Layer(tarOf(t, k.tar)).Uncompressed)
	}
	readAll(t, mustGet(t, c, fx.built.tarHash).Compressed)
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(blobPath(dir, fx.built.blobHash)); err != nil {
		t.Fatal(err)
	}
	fx.foreign = addForeign(t, dir, fx.shared)
	checkForms(t, c.Layer(fx.journaled.layer()), fx.journaled.content)
	copyTree(t, dir, fx.dir) // before Close, which would checkpoint
	return fx
}

// dense returns a layer of a file that does not compress, which is quick to
// read.
func dense(size int) content {
	body := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{})
	must(rnd.Read(body))
	var tar bytes.Buffer
	w := archivetar.NewWriter(&tar)
	must(w.WriteHeader(&archivetar.Header{Name: "dense", Mode: 0o644, Size: int64(size)}))
	must(w.Write(body))
	must(w.Close())
	return content{blob: gzipped(tar.Bytes()), tar: tar.Bytes(), mediaType: types.DockerLayer}
}

// memoryDir returns a new directory, in memory if there is such a thing here:
// the runs sync some ten thousand times.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(sharedMemory, "ocicache-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

const sharedMemory = "/dev/shm"

// packed returns a tar and what the cache makes of it.
func packed(t *testing.T, tar []byte) known {
	t.Helper()
	c := open(t)
	readAll(t, c.Layer(tarOf(t, tar)).Uncompressed)
	l := mustGet(t, c, digestOf(tar))
	mt, err := l.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	return knownOf(content{blob: readAll(t, l.Compressed), tar: tar, mediaType: mt})
}

func streamOf(tar []byte) *stream.Layer {
	return stream.NewLayer(io.NopCloser(bytes.NewReader(tar)))
}

// streamed returns a tar and what a stream of it is compressed to.
func streamed(t *testing.T, tar []byte) known {
	t.Helper()
	return knownOf(content{blob: readAll(t, streamOf(tar).Compressed), tar: tar, mediaType: types.DockerLayer})
}

func tarOf(t *testing.T, tar []byte) v1.Layer {
	t.Helper()
	l, err := partial.UncompressedToLayer(&tarLayer{tar: tar})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// addForeign adds an image of a layer to a layout, as another tool does, and
// returns the digest that the index names then.
func addForeign(t *testing.T, dir string, k known) v1.Hash {
	t.Helper()
	img := imageOf(t, k.layer())
	to, err := ggcrlayout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	idx := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})
	if err := to.AppendIndex(idx); err != nil {
		t.Fatal(err)
	}
	h, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// copyTree copies a directory with the times of its files. Nobody writes to
// a blob, so these are linked.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, de fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		switch {
		case de.IsDir():
			return os.MkdirAll(at, 0o700)
		case strings.HasPrefix(rel, "blobs"):
			return os.Link(path, at)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fi, err := de.Info()
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(at, b, 0o644), os.Chtimes(at, time.Time{}, fi.ModTime()))
	})
	if err != nil {
		t.Fatal(err)
	}
}
