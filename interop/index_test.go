package interop_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"

	"github.com/ocicache/ocicache/interop/internal/sample"
)

// registries returns the registries that run in process, each empty.
func registries(t *testing.T) map[string]*server {
	return map[string]*server{"ggcr": newGGCR(t), "olareg": newOlareg(t)}
}

func newGGCR(t *testing.T) *server {
	return serve(t, registry.New(registry.Logger(log.New(io.Discard, "", 0))))
}

func newOlareg(t *testing.T) *server {
	s := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem},
		Log:     slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { ok(t, s.Close()) })
	return serve(t, http.HandlerFunc(s.ServeHTTP))
}

// layersOf is what an index that has layers of its own can do.
type layersOf interface {
	Layer(v1.Hash) (v1.Layer, error)
}

func TestWriteIndex(t *testing.T) {
	for name, reg := range registries(t) {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			c := open(t, dir)
			for _, img := range sample.Images() {
				readImage(t, c, img)
			}
			want := must[v1.ImageIndex](t)(c.Index())
			ref := reg.ref(t, "cache:all")
			ok(t, remote.WriteIndex(ref, want))

			got := must[v1.ImageIndex](t)(remote.Index(ref))
			if g, w := must[v1.Hash](t)(got.Digest()), must[v1.Hash](t)(want.Digest()); g != w {
				t.Errorf("digest %s, want %s", g, w)
			}
			checkRemoteIndex(t, got, want)
			checkPulled(t, got)
			if err := validate.Index(got, validate.Fast); err != nil {
				t.Errorf("validate.Index, fast: %v", err)
			}

			// The same content again is no upload.
			reg.asked()
			ok(t, remote.WriteIndex(ref, must[v1.ImageIndex](t)(c.Index())))
			for _, a := range reg.asked() {
				if a[:4] == "POST" || a[:4] == "PATC" {
					t.Errorf("asked for %s", a)
				}
			}
		})
	}
}

// checkRemoteIndex compares the manifests of two indexes, descriptor by
// descriptor.
func checkRemoteIndex(t *testing.T, got, want v1.ImageIndex) {
	t.Helper()
	g, w := must[[]byte](t)(got.RawManifest()), must[[]byte](t)(want.RawManifest())
	if !bytes.Equal(g, w) {
		t.Errorf("manifest is\n%s\nwant\n%s", g, w)
	}
	if bytes.Contains(g, []byte("dev.ggcr.cache.mtime")) {
		t.Errorf("the index holds what is local: %s", g)
	}
	all := blobs(sample.Images()...)
	m := must[*v1.IndexManifest](t)(got.IndexManifest())
	if len(m.Manifests) != len(all) {
		t.Errorf("%d descriptors, want %d", len(m.Manifests), len(all))
	}
	for _, d := range m.Manifests {
		if len(d.Annotations) != 1 {
			t.Errorf("%s has annotations %v, want one", d.Digest, d.Annotations)
		}
	}
}

// checkPulled pulls every layer of an index and validates those that are
// gzip, which is what validate knows.
func checkPulled(t *testing.T, idx v1.ImageIndex) {
	t.Helper()
	all := blobs(sample.Images()...)
	m := must[*v1.IndexManifest](t)(idx.IndexManifest())
	for _, d := range m.Manifests {
		l := must[v1.Layer](t)(idx.(layersOf).Layer(d.Digest))
		rc := must[io.ReadCloser](t)(l.Compressed())
		b, err := io.ReadAll(rc)
		rc.Close()
		if err != nil || !bytes.Equal(b, all[d.Digest.String()]) {
			t.Errorf("%s: %d bytes, error %v; want %d", d.Digest, len(b), err, d.Size)
		}
		if isGzip(b) {
			if err := validate.Layer(l); err != nil {
				t.Errorf("validate.Layer(%s): %v", d.Digest, err)
			}
		}
	}
}

func isGzip(b []byte) bool { return bytes.HasPrefix(b, []byte{0x1f, 0x8b}) }

// The index of a cache is pulled through another cache, and fills it.
func TestIndexThroughAnotherCache(t *testing.T) {
	for name, reg := range registries(t) {
		t.Run(name, func(t *testing.T) {
			from := open(t, newDir(t))
			for _, img := range sample.Images() {
				readImage(t, from, img)
			}
			ref := reg.ref(t, "cache:all")
			ok(t, remote.WriteIndex(ref, must[v1.ImageIndex](t)(from.Index())))

			dir := newDir(t)
			to := open(t, dir)
			idx := to.ImageIndex(must[v1.ImageIndex](t)(remote.Index(ref)))
			m := must[*v1.IndexManifest](t)(idx.IndexManifest())
			var layers []v1.Layer
			for _, d := range m.Manifests {
				layers = append(layers, must[v1.Layer](t)(idx.(layersOf).Layer(d.Digest)))
			}
			ok(t, to.Fill(context.Background(), layers...))
			reg.Close()
			for _, img := range sample.Images() {
				for _, l := range img.Layers {
					got, err := to.Get(must[v1.Hash](t)(l.Digest()))
					ok(t, err)
					readForms(t, got, l)
				}
			}
			ok(t, to.Flush())
		})
	}
}
