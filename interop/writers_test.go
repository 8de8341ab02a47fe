package interop_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient"
	"github.com/regclient/regclient/types/descriptor"
	"github.com/regclient/regclient/types/manifest"
	"github.com/regclient/regclient/types/mediatype"
	regoci "github.com/regclient/regclient/types/oci/v1"
	"github.com/regclient/regclient/types/ref"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/oci"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/interop/internal/sample"
)

// checkMisses checks that no layer of an image can be got.
func checkMisses(t *testing.T, c *cache.Cache, img sample.Image) {
	t.Helper()
	for i, l := range img.Layers {
		for _, h := range []func() (v1.Hash, error){l.Digest, l.DiffID} {
			h := must[v1.Hash](t)(h())
			if _, err := c.Get(h); !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("%s, layer %d: Get(%s): %v, want ErrNotFound", img.Name, i, h, err)
			}
		}
	}
}

// checkHits checks that each layer of an image is read without its origin.
func checkHits(t *testing.T, c *cache.Cache, img sample.Image) {
	t.Helper()
	for i, l := range img.Layers {
		for _, h := range []func() (v1.Hash, error){l.Digest, l.DiffID} {
			got, err := c.Get(must[v1.Hash](t)(h()))
			if err != nil {
				t.Errorf("%s, layer %d: %v", img.Name, i, err)
				continue
			}
			readForms(t, got, l)
		}
	}
}

// checkAlive checks that a cache fills, flushes, and can be opened again.
func checkAlive(t *testing.T, c *cache.Cache, dir string, imgs ...sample.Image) {
	t.Helper()
	for _, img := range imgs {
		readImage(t, c, img)
		checkHits(t, c, img)
	}
	ok(t, c.Flush())
	checkListed(t, dir, imgs...)
	again := open(t, dir)
	for _, img := range imgs {
		checkHits(t, again, img)
	}
	ok(t, again.Close())
}

func TestGGCRWritesWhileOpen(t *testing.T) {
	dir := newDir(t)
	c := open(t, dir)
	first, second, third := sample.Docker("first"), sample.OCI("second"), sample.EStargz("third")
	readImage(t, c, first)
	ok(t, c.Flush())

	path := must[layout.Path](t)(layout.FromPath(dir))
	theirs := sample.Plain("theirs", amd64)
	ok(t, path.AppendImage(theirs.Image, layout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: "theirs"})))
	desc := v1.Descriptor{MediaType: "text/plain", Size: 1, Digest: must[v1.Hash](t)(v1.NewHash("sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")), Data: []byte("a")}
	ok(t, path.AppendDescriptor(desc))
	before := readIndex(t, dir)

	readImage(t, c, second)
	ok(t, c.Flush())
	checkKept(t, before, dir)
	checkListed(t, dir, first, second)

	// Fills that are only journaled when the tool writes.
	readImage(t, c, third)
	ok(t, path.AppendIndex(sample.Index("theirs")))
	before = readIndex(t, dir)
	ok(t, c.Flush())
	checkKept(t, before, dir)
	checkListed(t, dir, first, second, third)
	checkAlive(t, c, dir, first, second, third)

	idx := must[v1.ImageIndex](t)(path.ImageIndex())
	if err := validate.Image(must[v1.Image](t)(idx.Image(must[v1.Hash](t)(theirs.Digest())))); err != nil {
		t.Error(err)
	}

	// And removes again what it listed: that is gone, ours stay.
	ok(t, path.RemoveDescriptors(match.Digests(desc.Digest)))
	readImage(t, c, sample.Artifact("fourth"))
	ok(t, c.Flush())
	for _, raw := range readIndex(t, dir).Manifests {
		if bytes.Contains(raw, []byte(desc.Digest.Hex)) {
			t.Errorf("removed, and there again: %s", raw)
		}
	}
	checkListed(t, dir, first, second, third)
}

// Two caches on one directory, and a tool that writes when neither does:
// nothing of any of the three is lost.
func TestGGCRWritesBetweenTwoCaches(t *testing.T) {
	dir := newDir(t)
	one, two := open(t, dir), open(t, dir)
	path := must[layout.Path](t)(layout.FromPath(dir))
	var theirs []v1.Hash
	var imgs []sample.Image
	appendTheirs := func(name string) {
		img := sample.Plain(name, amd64)
		ok(t, path.AppendImage(img.Image))
		theirs = append(theirs, must[v1.Hash](t)(img.Digest()))
	}
	for i := range 6 {
		a, b := sample.Plain(fmt.Sprint("a", i), amd64), sample.Plain(fmt.Sprint("b", i), amd64)
		imgs = append(imgs, a, b)
		readImage(t, one, a)
		appendTheirs(fmt.Sprint("after the first fill ", i))
		readImage(t, two, b)
		ok(t, one.Flush())
		appendTheirs(fmt.Sprint("after the first flush ", i))
		if i%2 == 0 {
			ok(t, two.Flush())
		}
		checkHits(t, one, b)
		checkHits(t, two, a)
	}
	ok(t, two.Close())
	ok(t, one.Close())
	checkListed(t, dir, imgs...)
	idx := must[v1.ImageIndex](t)(path.ImageIndex())
	for _, h := range theirs {
		if _, err := idx.Image(h); err != nil {
			t.Errorf("theirs: %v", err)
		}
	}
	if got := one.Stats(); got.Fills != 12 || got.WriteFaults != 0 {
		t.Errorf("%+v, want 12 fills", got)
	}
}

func TestOrasWritesWhileOpen(t *testing.T) {
	ctx := t.Context()
	dir := newDir(t)
	c := open(t, dir)
	first, second, third := sample.Docker("first"), sample.OCI("second"), sample.EStargz("third")
	readImage(t, c, first)
	ok(t, c.Flush())

	store := must[*oci.Store](t)(oci.New(dir))
	packed := must[ocispec.Descriptor](t)(oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, "application/vnd.example", oras.PackManifestOptions{}))
	ok(t, store.Tag(ctx, packed, "theirs"))
	before := readIndex(t, dir)

	readImage(t, c, second)
	ok(t, c.Flush())
	checkKept(t, before, dir)
	checkListed(t, dir, first, second)

	// The store holds the index as it was when it was opened, and writes that:
	// the second image's entries go. What the journal holds does not.
	readImage(t, c, third)
	ok(t, store.Tag(ctx, packed, "again"))
	before = readIndex(t, dir)
	ok(t, c.Flush())
	checkKept(t, before, dir)
	checkListed(t, dir, first, third)
	checkAlive(t, c, dir, first, second, third)

	store = must[*oci.Store](t)(oci.New(dir))
	for _, tag := range []string{"theirs", "again"} {
		if got, err := store.Resolve(ctx, tag); err != nil || got.Digest != packed.Digest {
			t.Errorf("Resolve(%s) = %s, %v", tag, got.Digest, err)
		}
	}
}

// GC of oras-go removes every blob that no tagged entry reaches: all of ours.
func TestOrasGC(t *testing.T) {
	ctx := t.Context()
	dir := newDir(t)
	c := open(t, dir)
	img := sample.OCI("img")
	readImage(t, c, img)
	ok(t, c.Flush())

	store := must[*oci.Store](t)(oci.New(dir))
	packed := must[ocispec.Descriptor](t)(oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, "application/vnd.example", oras.PackManifestOptions{}))
	ok(t, store.Tag(ctx, packed, "theirs"))
	ok(t, store.GC(ctx))

	checkMisses(t, c, img)
	before := readIndex(t, dir)
	checkAlive(t, c, dir, img)
	checkKept(t, before, dir)
	if got := c.Stats(); got.Repairs != 0 || got.WriteFaults != 0 {
		t.Errorf("%d repairs, %d write faults, want none", got.Repairs, got.WriteFaults)
	}
}

// A GC, and then a write of the index from which ours are gone.
func TestOrasGCAndSave(t *testing.T) {
	ctx := t.Context()
	dir := newDir(t)
	c := open(t, dir)
	img := sample.Docker("img")
	readImage(t, c, img)
	ok(t, c.Flush())

	store := must[*oci.Store](t)(oci.New(dir))
	ok(t, store.GC(ctx))
	ok(t, store.SaveIndex())
	if !bytes.Contains(readFile(t, dir, "index.json"), []byte(`"manifests":null`)) {
		t.Errorf("index.json is %s, want manifests null", readFile(t, dir, "index.json"))
	}

	checkMisses(t, c, img)
	again := open(t, dir)
	checkMisses(t, again, img)
	checkAlive(t, again, dir, img)
	checkHits(t, c, img)
	ok(t, c.Flush())
	checkListed(t, dir, img)
}

// Each listed blob deleted one by one, as `oras manifest delete` does.
func TestOrasDeletes(t *testing.T) {
	ctx := t.Context()
	dir := newDir(t)
	c := open(t, dir)
	img := sample.OCI("img")
	readImage(t, c, img)
	ok(t, c.Flush())

	store := must[*oci.Store](t)(oci.New(dir))
	for _, d := range ociIndex(t, dir).Manifests {
		ok(t, store.Delete(ctx, d))
	}
	checkMisses(t, c, img)
	checkAlive(t, c, dir, img)
}

func TestNullManifests(t *testing.T) {
	for name, content := range map[string]string{
		"null":    `{"schemaVersion":2,"manifests":null}`,
		"absent":  `{"schemaVersion":2}`,
		"notes":   `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":null,"annotations":null}`,
		"newline": "\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			img := sample.OCI("img")
			c := open(t, dir)
			readImage(t, c, img)
			ok(t, c.Flush())
			ok(t, os.WriteFile(filepath.Join(dir, "index.json"), []byte(content), 0o644))
			again := open(t, dir)
			checkMisses(t, again, img)
			checkAlive(t, again, dir, img)
			checkAlive(t, c, dir, img)
		})
	}
}

// All blobs are removed with the blobs directory itself.
func TestBlobsRemoved(t *testing.T) {
	for _, what := range []string{"blobs", "blobs/sha256"} {
		t.Run(what, func(t *testing.T) {
			dir := newDir(t)
			c := open(t, dir)
			img := sample.OCI("img")
			readImage(t, c, img)
			ok(t, c.Flush())
			ok(t, os.RemoveAll(filepath.Join(dir, what)))
			checkMisses(t, c, img)
			checkAlive(t, c, dir, img)
			if got := c.Stats(); got.WriteFaults != 0 {
				t.Errorf("%d write faults, want none", got.WriteFaults)
			}
		})
	}
}

// A write of regclient removes every blob that index.json does not list, so
// what was checkpointed stays, and what was not is a miss.
func TestRegclientWritesWhileOpen(t *testing.T) {
	ctx := t.Context()
	dir := newDir(t)
	c := open(t, dir)
	listed, journaled := sample.OCI("listed"), sample.Docker("journaled")
	readImage(t, c, listed)
	ok(t, c.Flush())
	readImage(t, c, journaled)

	rc := regclient.New()
	r := must[ref.Ref](t)(ref.New("ocidir://" + dir + ":theirs"))
	config := must[descriptor.Descriptor](t)(rc.BlobPut(ctx, r, descriptor.Descriptor{}, bytes.NewReader([]byte("{}"))))
	config.MediaType = mediatype.OCI1Empty
	m := must[manifest.Manifest](t)(manifest.New(manifest.WithOrig(regoci.Manifest{
		Versioned: regoci.ManifestSchemaVersion, MediaType: mediatype.OCI1Manifest, ArtifactType: "application/vnd.example",
		Config: config, Layers: []descriptor.Descriptor{config},
	})))
	ok(t, rc.ManifestPut(ctx, r, m))
	ok(t, rc.Close(ctx, r))

	checkMisses(t, c, journaled)
	before := readIndex(t, dir)
	checkHits(t, c, listed)
	checkAlive(t, c, dir, listed, journaled)
	checkKept(t, before, dir)
	if _, err := rc.ManifestGet(ctx, r); err != nil {
		t.Errorf("ManifestGet after the cache wrote: %v", err)
	}
	if got := c.Stats(); got.Repairs != 0 {
		t.Errorf("%d repairs, want none", got.Repairs)
	}
}

// A tool that was killed as it wrote index.json, or is at it, leaves half of
// it. No read fails, and nothing is lost once the file is whole again.
func TestHalfAnIndexFailsNoRead(t *testing.T) {
	dir := newDir(t)
	c := open(t, dir)
	first, second := sample.OCI("first"), sample.Docker("second")
	readImage(t, c, first)
	ok(t, c.Flush())
	whole := readFile(t, dir, "index.json")
	for _, half := range [][]byte{whole[:len(whole)/2], []byte("{"), []byte("[]"), []byte(`{"schemaVersion":2,"manifests":{}}`)} {
		ok(t, os.WriteFile(filepath.Join(dir, "index.json"), half, 0o644))
		readImage(t, c, first)
		readImage(t, c, second)
		if _, err := cache.Open(dir); err == nil {
			t.Errorf("Open with index.json %.20s: no error", half)
		}
	}
	ok(t, os.WriteFile(filepath.Join(dir, "index.json"), whole, 0o644))
	checkAlive(t, c, dir, first, second)
}
