package cache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// A lay is an OCI image layout that ggcr writes.
type lay struct {
	t   *testing.T
	dir string
	ggcrlayout.Path
}

func newLayout(t *testing.T) lay {
	t.Helper()
	dir := t.TempDir()
	p, err := ggcrlayout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	return lay{t, dir, p}
}

// put writes a blob.
func (l lay) put(b []byte) string {
	must(os.MkdirAll(filepath.Join(l.dir, "blobs", "sha256"), 0o755))
	must(os.WriteFile(blobPath(l.dir, digestOf(b)), b, 0o644))
	return digestOf(b).String()
}

// list lists a descriptor in index.json, with b as its blob.
func (l lay) list(mediaType string, b []byte) {
	h, err := v1.NewHash(l.put(b))
	must(err)
	must(l.AppendDescriptor(v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: h, Size: int64(len(b))}))
}

// files returns all files of a directory, with their times.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		m[path] = fmt.Sprint(fi.Mode(), fi.Size(), fi.ModTime())
		return err
	}))
	return m
}

func adopt(t *testing.T, c *cache.Cache, dir string) cache.AdoptReport {
	t.Helper()
	before := files(t, dir)
	r, err := c.Adopt(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if after := files(t, dir); dir != dirOf(c) && !maps.Equal(before, after) {
		t.Errorf("the layout was\n%v\nand is\n%v", before, after)
	}
	return r
}

// outcomes returns the digests of a report's blobs by what became of them.
func outcomes(r cache.AdoptReport) (adopted, present, failed []string) {
	for _, b := range r.Blobs {
		switch {
		case b.Err != nil:
			failed = append(failed, b.Digest)
		case b.Present:
			present = append(present, b.Digest)
		default:
			adopted = append(adopted, b.Digest)
		}
	}
	return adopted, present, failed
}

func sortedDigests(ls ...content) (digests []string) {
	for _, l := range ls {
		digests = append(digests, l.digest().String())
	}
	slices.Sort(digests)
	return digests
}

// The layers of all images in a layout, however deep, are in the cache, by
// digest and by the diffID that the config claims, and nothing is copied twice.
func TestAdopt(t *testing.T) {
	l := newLayout(t)
	shared, own, deep, plain := makeLayer(1, 10_000), makeLayer(2, 10_000), makeLayer(3, 10_000), makeLayer(4, 1000)
	plain.blob = plain.tar // distributed uncompressed
	zstd := makeLayer(5, 10_000)
	zstd.blob, zstd.mediaType = zstded(zstd.tar), types.OCILayerZStd
	must(l.AppendImage(imageOf(t, fake(shared), fake(own), fake(plain))))
	must(l.AppendIndex(mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: imageOf(t, fake(shared), fake(deep))},
		mutate.IndexAddendum{Add: mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: imageOf(t, fake(zstd))})})))
	all := []content{shared, own, deep, plain, zstd}

	c := open(t)
	r := adopt(t, c, l.dir)
	adopted, present, failed := outcomes(r)
	if !slices.Equal(adopted, sortedDigests(all...)) || present != nil || failed != nil || r.Images != 3 || r.Absent != 0 {
		t.Errorf("got %+v, want %v of 3 images", r, sortedDigests(all...))
	}
	for _, u := range usages(t, c, "form==compressed") {
		if u.Pair != "claimed" {
			t.Errorf("%s: the pair is %q, want claimed", u.Digest, u.Pair)
		}
	}
	for _, want := range all {
		checkForms(t, mustGet(t, c, want.diffID()), want)
		checkForms(t, mustGet(t, c, want.digest()), want)
	}
	used := usages(t, c)
	r = adopt(t, c, l.dir)
	for n, u := range usages(t, c) {
		if u.UseCount != used[n].UseCount {
			t.Errorf("%s: it was used %d times, and is %d now", u.Digest, used[n].UseCount, u.UseCount)
		}
	}
	if adopted, present, failed := outcomes(r); adopted != nil || !slices.Equal(present, sortedDigests(all...)) || failed != nil {
		t.Errorf("again: got %+v", r)
	}
}

// What is wrong with one blob is said, and keeps the others from nothing.
func TestAdoptBroken(t *testing.T) {
	good, rotten, short, gone, odd := makeLayer(1, 5000), makeLayer(2, 5000), makeLayer(3, 5000), makeLayer(4, 5000), makeLayer(5, 5000)
	l := newLayout(t)
	must(l.AppendImage(imageOf(t, fake(rotten), fake(short), fake(gone), fake(odd), fake(good))))
	must(l.AppendImage(imageOf(t, fake(makeLayer(6, 100)))))
	idx, err := l.ImageIndex()
	must(err)
	m, err := idx.IndexManifest()
	must(err)
	must(os.Remove(blobPath(l.dir, m.Manifests[1].Digest))) // of another platform, say
	overwrite(t, blobPath(l.dir, rotten.digest()), []byte("rot"))
	must(os.Truncate(blobPath(l.dir, short.digest()), 100))
	must(os.Remove(blobPath(l.dir, gone.digest())))
	must(os.Remove(blobPath(l.dir, odd.digest())), os.Mkdir(blobPath(l.dir, odd.digest()), 0o755))
	l.list("application/vnd.oci.image.manifest.v1+json", []byte("{"))
	l.list("application/vnd.oci.image.index.v1+json", []byte(`{"manifests":[]}`)) // which is none
	l.list("application/vnd.docker.distribution.manifest.v2+json", manifestOf(t, fake(good)))
	must(os.Remove(blobPath(l.dir, digestOf(manifestOf(t, fake(good))))))
	l.list("application/vnd.oci.image.index.v1+json", []byte("garbage"))
	raw, err := os.ReadFile(filepath.Join(l.dir, "index.json"))
	must(err)
	const odds = `"manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:abc"}, {"digest": 7},`
	must(os.WriteFile(filepath.Join(l.dir, "index.json"), bytes.Replace(raw, []byte(`"manifests": [`), []byte(odds), 1), 0o644))

	c := open(t)
	r := adopt(t, c, l.dir)
	adopted, _, failed := outcomes(r)
	wantFailed := append(sortedDigests(rotten, short, odd), digestOf([]byte("{")).String(), digestOf([]byte("garbage")).String(), "sha256:abc", "")
	slices.Sort(wantFailed)
	if !slices.Equal(adopted, sortedDigests(good)) || !slices.Equal(failed, wantFailed) || r.Absent != 3 {
		t.Errorf("got %+v, want failures of %v", r, wantFailed)
	}
	for _, b := range r.Blobs {
		var mismatch *cache.DigestMismatchError
		var size *cache.SizeMismatchError
		switch b.Digest {
		case rotten.digest().String():
			if !errors.As(b.Err, &mismatch) {
				t.Errorf("rotten: got %v", b.Err)
			}
		case short.digest().String():
			if !errors.As(b.Err, &mismatch) && !errors.As(b.Err, &size) {
				t.Errorf("short: got %v", b.Err)
			}
		case odd.digest().String():
			if !errors.Is(b.Err, fs.ErrInvalid) {
				t.Errorf("odd: got %v", b.Err)
			}
		}
	}
	checkForms(t, mustGet(t, c, good.diffID()), good)
	for _, l := range []content{rotten, short, gone, odd} {
		wantNotFound(t, c, l.digest())
	}
}

// A config that lies claims, and no more. Of what is there already without a
// claim, the claim is recorded.
func TestAdoptClaims(t *testing.T) {
	honest, liar, bare := makeLayer(1, 5000), makeLayer(2, 5000), makeLayer(3, 5000)
	lie := fake(liar)
	lie.claim = honest.diffID()
	l := newLayout(t)
	must(l.AppendImage(imageOf(t, lie)))
	must(l.AppendImage(imageOf(t, fake(bare))))
	c := open(t)
	unclaimed := fake(bare)
	unclaimed.claim = v1.Hash{}
	readAll(t, c.Layer(unclaimed).Compressed)
	wantNotFound(t, c, bare.diffID())

	adopt(t, c, l.dir)
	if got, err := tryRead(mustGet(t, c, honest.diffID()).Uncompressed); err == nil {
		t.Errorf("the liar's tar was read under another diffID: %d bytes", len(got))
	}
	checkForms(t, mustGet(t, c, liar.digest()), liar)
	checkForms(t, mustGet(t, c, bare.diffID()), bare)
}

// A cache's directory is a layout too: what is in its journal counts, and what
// it has only as a tar.
func TestAdoptCache(t *testing.T) {
	from, c := open(t), open(t)
	both, tarOnly, gone := makeLayer(1, 5000), makeLayer(2, 5000), makeLayer(3, 5000)
	checkForms(t, from.Layer(fake(both)), both)
	checkForms(t, from.Layer(fake(tarOnly)), tarOnly)
	must(from.Delete(tarOnly.digest()))
	readAll(t, from.Layer(fake(gone)).Compressed)
	must(os.Remove(blobPath(dirOf(from), gone.digest())))

	r := adopt(t, c, dirOf(from))
	adopted, _, failed := outcomes(r)
	want := []string{both.digest().String(), tarOnly.diffID().String()}
	slices.Sort(want)
	if !slices.Equal(adopted, want) || failed != nil || r.Absent != 1 {
		t.Errorf("got %+v, want %v", r, want)
	}
	checkForms(t, mustGet(t, c, both.diffID()), both)
	if got := readAll(t, mustGet(t, c, tarOnly.diffID()).Uncompressed); !bytes.Equal(got, tarOnly.tar) {
		t.Errorf("got %d bytes", len(got))
	}
}

// A layout becomes its own cache.
func TestAdoptItself(t *testing.T) {
	l := newLayout(t)
	want := makeLayer(1, 5000)
	must(l.AppendImage(imageOf(t, fake(want))))
	c := openDir(t, l.dir)
	wantNotFound(t, c, want.digest())
	if adopted, _, failed := outcomes(adopt(t, c, l.dir)); len(adopted) != 1 || failed != nil {
		t.Errorf("got %v, %v", adopted, failed)
	}
	checkForms(t, mustGet(t, c, want.diffID()), want)
	if _, err := l.Image(digestOf(manifestOf(t, fake(want)))); err != nil {
		t.Errorf("the image: %v", err)
	}
}

func manifestOf(t *testing.T, layers ...v1.Layer) []byte {
	t.Helper()
	b, err := imageOf(t, layers...).RawManifest()
	must(err)
	return b
}

func TestAdoptErrors(t *testing.T) {
	l := newLayout(t)
	must(l.AppendImage(imageOf(t, fake(makeLayer(1, 5000)))))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	closed := open(t)
	must(closed.Close())
	file := filepath.Join(t.TempDir(), "file")
	must(os.WriteFile(file, nil, 0o644))
	malformed := newLayout(t).dir
	overwrite(t, filepath.Join(malformed, "index.json"), []byte("[]"))
	without, empty := newLayout(t).dir, newLayout(t).dir
	must(os.Remove(filepath.Join(without, "index.json")))
	must(os.WriteFile(filepath.Join(empty, "index.json"), nil, 0o644))
	readOnly := openDir(t, dirOf(open(t)), cache.WithReadOnly())
	for _, tt := range []struct {
		name string
		ctx  context.Context
		c    *cache.Cache
		dir  string
		want error
	}{
		{"nothing", t.Context(), open(t), filepath.Join(t.TempDir(), "none"), fs.ErrNotExist},
		{"file", t.Context(), open(t), file, cache.ErrNotLayout},
		{"no layout", t.Context(), open(t), t.TempDir(), cache.ErrNotLayout},
		{"malformed", t.Context(), open(t), malformed, cache.ErrMalformed},
		{"no index.json", t.Context(), open(t), without, cache.ErrMalformed},
		{"an empty index.json", t.Context(), open(t), empty, cache.ErrMalformed},
		{"canceled", canceled, open(t), l.dir, context.Canceled},
		{"closed", t.Context(), closed, l.dir, cache.ErrClosed},
		{"read-only", t.Context(), readOnly, l.dir, cache.ErrReadOnly},
	} {
		if _, err := tt.c.Adopt(tt.ctx, tt.dir); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

// Whatever other tools' manifests name stays, also if they are of kinds that
// hold no layers.
func TestPruneReached(t *testing.T) {
	l := newLayout(t)
	blob := func(s string) map[string]any {
		return map[string]any{"mediaType": "application/octet-stream", "digest": l.put([]byte(s)), "size": len(s)}
	}
	list := func(mediaType string, m map[string]any) {
		b, err := json.Marshal(m)
		must(err)
		l.list(mediaType, b)
	}
	subject, err := json.Marshal(map[string]any{"config": blob("the subject's config"), "layers": []any{blob("the subject's layer")}})
	must(err)
	list("application/vnd.oci.artifact.manifest.v1+json", map[string]any{
		"blobs":   []any{blob("an artifact's blob")},
		"subject": blob(string(subject)),
	})
	list("application/vnd.docker.distribution.manifest.v1+prettyjws", map[string]any{
		"fsLayers": []any{map[string]any{"blobSum": l.put([]byte("a layer of schema 1"))}},
	})
	list("application/vnd.oci.image.index.v1+json", map[string]any{
		"manifests": []any{func() any {
			b := blob(`{"layers":[{"digest":"` + l.put([]byte("odd, and reached")) + `"}],"config":"odd"}`)
			b["mediaType"] = "application/unknown"
			return b
		}()},
	})
	dir := filepath.Join(l.dir, "blobs", "sha256")
	want := listDir(t, dir)
	for _, name := range want {
		must(os.Chtimes(filepath.Join(dir, name), time.Time{}, time.Now().Add(-24*time.Hour)))
	}
	prune(t, openDir(t, l.dir), cache.PrunePolicy{All: true})
	if got := listDir(t, dir); len(want) != 10 || !slices.Equal(got, want) {
		t.Errorf("there are %d, want %d", len(got), len(want))
	}
}
