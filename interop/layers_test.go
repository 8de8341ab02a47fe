package interop_test

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/interop/internal/sample"
)

// pushed writes an image into a registry and returns it as read from there.
func pushed(t *testing.T, reg *server, repo string, img v1.Image) v1.Image {
	t.Helper()
	ref := reg.ref(t, repo+":v1")
	ok(t, remote.Write(ref, img))
	reg.asked()
	return must[v1.Image](t)(remote.Image(ref))
}

// blobGets returns which layers were downloaded, of those in an image.
func blobGets(t *testing.T, asked []string, img v1.Image) (gets []string) {
	t.Helper()
	m := must[*v1.Manifest](t)(img.Manifest())
	for _, a := range asked {
		for _, l := range m.Layers {
			if strings.HasPrefix(a, "GET ") && strings.HasSuffix(a, "/blobs/"+l.Digest.String()) {
				gets = append(gets, a)
			}
		}
	}
	return gets
}

// wrappers are the ways to put an image behind a cache.
var wrappers = map[string]func(*cache.Cache, v1.Image) v1.Image{
	"Image": func(c *cache.Cache, img v1.Image) v1.Image { return c.Image(img) },
	"ggcr":  func(c *cache.Cache, img v1.Image) v1.Image { return ggcrcache.Image(img, c) },
}

func TestValidateImage(t *testing.T) {
	plain := sample.Plain("validate", v1.Platform{OS: "linux", Architecture: "amd64"})
	for _, img := range []sample.Image{plain, sample.EStargz("validate"), sample.Artifact("validate")} {
		for how, wrap := range wrappers {
			for regName, reg := range registries(t) {
				t.Run(fmt.Sprintf("%s/%s/%s", img.Name+string(must[types.MediaType](t)(img.Layers[0].MediaType())), how, regName), func(t *testing.T) {
					inner := pushed(t, reg, "validate/img", img.Image)
					c := open(t, newDir(t))
					wrapped := wrap(c, inner)

					if err := validate.Image(wrapped, validate.Fast); err != nil {
						t.Errorf("fast, nothing cached: %v", err)
					}
					if gets := blobGets(t, reg.asked(), inner); how == "Image" && len(gets) > 0 {
						t.Errorf("fast: downloaded %v", gets)
					}
					for _, when := range []string{"first", "second", "third"} {
						if err := validate.Image(wrapped); err != nil {
							t.Errorf("%s time: %v", when, err)
						}
						gets := blobGets(t, reg.asked(), inner)
						if when == "first" && len(gets) != len(img.Layers) {
							t.Errorf("first time: %d downloads, want one a layer: %v", len(gets), gets)
						}
						if when != "first" && len(gets) > 0 {
							t.Errorf("%s time: downloaded %v", when, gets)
						}
						if err := validate.Image(wrapped, validate.Fast); err != nil {
							t.Errorf("fast, %s time: %v", when, err)
						}
					}
				})
			}
		}
	}
}

// validate knows only gzip; the other forms are read and compared.
func TestRemoteImages(t *testing.T) {
	for regName, reg := range registries(t) {
		for _, img := range sample.Images() {
			t.Run(regName+"/"+img.Name, func(t *testing.T) {
				inner := pushed(t, reg, "forms/"+img.Name, img.Image)
				c := open(t, newDir(t))
				for range 2 {
					wrapped := c.Image(inner)
					checkSameImage(t, wrapped, inner)
					layers := must[[]v1.Layer](t)(wrapped.Layers())
					for i, l := range layers {
						readForms(t, l, img.Layers[i])
						checkDescriptor(t, l, img.Layers[i])
						readForms(t, must[v1.Layer](t)(wrapped.LayerByDigest(must[v1.Hash](t)(l.Digest()))), img.Layers[i])
						if img.Layers[i].Media.IsLayer() {
							readForms(t, must[v1.Layer](t)(wrapped.LayerByDiffID(must[v1.Hash](t)(l.DiffID()))), img.Layers[i])
						}
					}
				}
				if gets := blobGets(t, reg.asked(), inner); len(gets) != len(img.Layers) {
					t.Errorf("%d downloads, want one a layer: %v", len(gets), gets)
				}
			})
		}
	}
}

// checkSameImage checks that all of an image but its layers is the inner's.
func checkSameImage(t *testing.T, got, want v1.Image) {
	t.Helper()
	for what, f := range map[string]func(v1.Image) (any, error){
		"Digest":      func(i v1.Image) (any, error) { return i.Digest() },
		"Size":        func(i v1.Image) (any, error) { return i.Size() },
		"MediaType":   func(i v1.Image) (any, error) { return i.MediaType() },
		"ConfigName":  func(i v1.Image) (any, error) { return i.ConfigName() },
		"RawManifest": func(i v1.Image) (any, error) { b, err := i.RawManifest(); return string(b), err },
		"RawConfig":   func(i v1.Image) (any, error) { b, err := i.RawConfigFile(); return string(b), err },
		"Descriptor":  func(i v1.Image) (any, error) { d, err := partial.Descriptor(i); return fmt.Sprint(d), err },
		"ConfigLayer": func(i v1.Image) (any, error) {
			l, err := partial.ConfigLayer(i)
			if err != nil {
				return nil, err
			}
			return l.Digest()
		},
	} {
		g, gerr := f(got)
		w, werr := f(want)
		if g != w || fmt.Sprint(gerr) != fmt.Sprint(werr) {
			t.Errorf("%s = %v, %v, want %v, %v", what, g, gerr, w, werr)
		}
	}
}

// checkDescriptor checks that a layer has the descriptor of its manifest.
func checkDescriptor(t *testing.T, l v1.Layer, want *sample.Layer) {
	t.Helper()
	d, err := partial.Descriptor(l)
	ok(t, err)
	if d.MediaType != want.Media || d.Size != int64(len(want.Blob)) || d.Annotations[sample.TOCDigest] != want.Annotated[sample.TOCDigest] {
		t.Errorf("descriptor is %+v", d)
	}
}

func TestValidateIndex(t *testing.T) {
	for what, idx := range map[string]v1.ImageIndex{
		"nested": sample.Index("validate"), "layers": sample.IndexWithLayers("validate"),
	} {
		for regName, reg := range registries(t) {
			t.Run(what+"/"+regName, func(t *testing.T) {
				ref := reg.ref(t, "validate/index:v1")
				ok(t, remote.WriteIndex(ref, idx))
				inner := must[v1.ImageIndex](t)(remote.Index(ref))
				dir := newDir(t)
				c := open(t, dir)
				wrapped := c.ImageIndex(inner)
				reg.asked()
				for _, when := range []string{"first", "second"} {
					if err := validate.Index(wrapped, validate.Fast); err != nil {
						t.Errorf("fast, %s time: %v", when, err)
					}
					if err := validate.Index(wrapped); err != nil {
						t.Errorf("%s time: %v", when, err)
					}
				}
				fills := c.Stats().Fills
				if want := int64(map[string]int{"nested": 6, "layers": 4}[what]); fills != want {
					t.Errorf("%d fills, want %d", fills, want)
				}
				if _, has := wrapped.(layersOf); !has {
					t.Error("the wrapped index has no Layer, as the inner one has")
				}
				if g, w := must[[]byte](t)(wrapped.RawManifest()), must[[]byte](t)(inner.RawManifest()); !bytes.Equal(g, w) {
					t.Errorf("manifest is %s, want %s", g, w)
				}
			})
		}
	}
}

// An index without layers of its own gets none.
func TestIndexGainsNothing(t *testing.T) {
	dir := t.TempDir()
	path := must[layout.Path](t)(layout.Write(dir, sample.Index("gains")))
	inner := must[v1.ImageIndex](t)(path.ImageIndex())
	c := open(t, newDir(t))
	if _, has := c.ImageIndex(inner).(layersOf); has {
		t.Error("the wrapped index has a Layer, which the inner one has not")
	}
	for range 2 {
		if err := validate.Index(c.ImageIndex(inner)); err != nil {
			t.Error(err)
		}
	}
}

// consumers are what ggcr does with an image; each writes it somewhere and
// returns what can be read there.
var consumers = map[string]func(t *testing.T, reg *server, img v1.Image) v1.Image{
	"tarball.Write": func(t *testing.T, _ *server, img v1.Image) v1.Image {
		file := filepath.Join(t.TempDir(), "img.tar")
		tag := must[name.Tag](t)(name.NewTag("example.com/img:v1"))
		ok(t, tarball.WriteToFile(file, tag, img))
		return must[v1.Image](t)(tarball.ImageFromPath(file, &tag))
	},
	"layout.AppendImage": func(t *testing.T, _ *server, img v1.Image) v1.Image {
		path := must[layout.Path](t)(layout.Write(t.TempDir(), empty.Index))
		ok(t, path.AppendImage(img))
		idx := must[v1.ImageIndex](t)(path.ImageIndex())
		return must[v1.Image](t)(idx.Image(must[v1.Hash](t)(img.Digest())))
	},
	"layout.AppendImage beside the cache": func(t *testing.T, _ *server, img v1.Image) v1.Image {
		dir := newDir(t)
		c := open(t, dir)
		readImage(t, c, sample.Docker("there"))
		ok(t, c.Flush())
		path := must[layout.Path](t)(layout.FromPath(dir))
		ok(t, path.AppendImage(c.Image(img)))
		ok(t, c.Flush())
		idx := must[v1.ImageIndex](t)(path.ImageIndex())
		return must[v1.Image](t)(idx.Image(must[v1.Hash](t)(img.Digest())))
	},
	"remote.Write": func(t *testing.T, reg *server, img v1.Image) v1.Image {
		ref := reg.ref(t, "consumer/copy:v1")
		ok(t, remote.Write(ref, img))
		return must[v1.Image](t)(remote.Image(ref))
	},
	"mutate.AppendLayers": func(t *testing.T, _ *server, img v1.Image) v1.Image {
		return must[v1.Image](t)(mutate.AppendLayers(img, sample.Gzip(types.DockerLayer, "appended")))
	},
	"wrapped layers in a new image": func(t *testing.T, _ *server, img v1.Image) v1.Image {
		return must[v1.Image](t)(mutate.AppendLayers(empty.Image, must[[]v1.Layer](t)(img.Layers())...))
	},
	"mutate.CreatedAt": func(t *testing.T, _ *server, img v1.Image) v1.Image {
		return must[v1.Image](t)(mutate.CreatedAt(img, v1.Time{}))
	},
}

func TestConsumers(t *testing.T) {
	plain := sample.Plain("consumers", v1.Platform{OS: "linux", Architecture: "amd64"})
	for what, consume := range consumers {
		for how, wrap := range wrappers {
			for regName, reg := range registries(t) {
				t.Run(what+"/"+how+"/"+regName, func(t *testing.T) {
					inner := pushed(t, reg, "consumer/img", plain.Image)
					want := must[v1.Hash](t)(consume(t, newGGCR(t), inner).Digest())
					c := open(t, newDir(t))
					reg.asked()
					for _, when := range []string{"first", "second"} {
						got := consume(t, newOlareg(t), wrap(c, inner))
						if got := must[v1.Hash](t)(got.Digest()); got != want {
							t.Errorf("%s time: digest %s, want %s", when, got, want)
						}
						if err := validate.Image(got); err != nil {
							t.Errorf("%s time: %v", when, err)
						}
					}
					if gets := blobGets(t, reg.asked(), inner); len(gets) > len(plain.Layers) {
						t.Errorf("%d downloads, want at most one a layer: %v", len(gets), gets)
					}
				})
			}
		}
	}
}

func TestExtract(t *testing.T) {
	for _, img := range []sample.Image{sample.Docker("extract"), sample.OCI("extract"), sample.EStargz("extract")} {
		reg := newGGCR(t)
		inner := pushed(t, reg, "extract", img.Image)
		want := extracted(t, img.Image)
		c := open(t, newDir(t))
		for range 2 {
			if got := extracted(t, c.Image(inner)); !bytes.Equal(got, want) {
				t.Errorf("%d bytes that are not the %d expected", len(got), len(want))
			}
		}
		if gets := blobGets(t, reg.asked(), inner); len(gets) != len(img.Layers) {
			t.Errorf("%d downloads, want one a layer: %v", len(gets), gets)
		}
	}
}

func extracted(t *testing.T, img v1.Image) []byte {
	t.Helper()
	rc := mutate.Extract(img)
	defer rc.Close()
	return must[[]byte](t)(io.ReadAll(rc))
}

func TestRebase(t *testing.T) {
	reg := newOlareg(t)
	p := v1.Platform{OS: "linux", Architecture: "amd64"}
	oldBase, newBase := sample.Plain("old", p).Image, sample.Plain("new", p).Image
	app := must[v1.Image](t)(mutate.AppendLayers(oldBase, sample.Gzip(types.DockerLayer, "app")))
	want := must[v1.Hash](t)(must[v1.Image](t)(mutate.Rebase(app, oldBase, newBase)).Digest())

	c := open(t, newDir(t))
	wrap := func(repo string, img v1.Image) v1.Image { return c.Image(pushed(t, reg, repo, img)) }
	for range 2 {
		got := must[v1.Image](t)(mutate.Rebase(wrap("app", app), wrap("old", oldBase), wrap("new", newBase)))
		if got := must[v1.Hash](t)(got.Digest()); got != want {
			t.Errorf("digest %s, want %s", got, want)
		}
		if err := validate.Image(got); err != nil {
			t.Error(err)
		}
	}
}

// A wrapped image is pushed with the very requests that the bare one is
// pushed with: mounts from the repository it came from, no downloads.
func TestMountsArePreserved(t *testing.T) {
	for what, prepare := range map[string]func(*testing.T, v1.Image) v1.Image{
		"as is": func(_ *testing.T, img v1.Image) v1.Image { return img },
		"appended": func(t *testing.T, img v1.Image) v1.Image {
			return must[v1.Image](t)(mutate.AppendLayers(img, sample.Gzip(types.DockerLayer, "on top")))
		},
		"cached": func(t *testing.T, img v1.Image) v1.Image {
			ok(t, validate.Image(img))
			return img
		},
	} {
		t.Run(what, func(t *testing.T) {
			img := sample.Plain("mounts", v1.Platform{OS: "linux", Architecture: "amd64"})
			reg := newOlareg(t)
			inner := pushed(t, reg, "from", img.Image)
			c := open(t, newDir(t))
			wrapped := prepare(t, c.Image(inner))
			bare := prepare(t, must[v1.Image](t)(remote.Image(reg.ref(t, "from:v1"))))
			reg.asked()

			ok(t, remote.Write(reg.ref(t, "to/it:v1"), bare))
			want := reg.asked()
			ok(t, remote.Write(reg.ref(t, "to/it2:v1"), wrapped))
			got := reg.asked()
			if gets := blobGets(t, got, inner); len(gets) > 0 {
				t.Errorf("downloaded %v", gets)
			}
			for _, l := range img.Layers {
				mount := "mount=sha256%3A" + must[v1.Hash](t)(l.Digest()).Hex
				if !slices.ContainsFunc(got, func(a string) bool {
					return strings.HasPrefix(a, "POST ") && strings.Contains(a, mount) && strings.Contains(a, "from=from")
				}) {
					t.Errorf("no POST with %s in %q", mount, got)
				}
			}
			if g, w := shape(got), shape(want); !slices.Equal(g, w) {
				t.Errorf("asked for\n%s\nthe bare image for\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
			}
		})
	}
}

// shape takes what differs by chance out of requests: pings, the repository
// pushed to, upload sessions, and what the image itself had read before.
func shape(asked []string) []string {
	var out []string
	for _, a := range asked {
		method, uri, _ := strings.Cut(a, " ")
		if uri == "/v2/" || strings.HasPrefix(uri, "/v2/from/") || method == "PATCH" || method == "PUT" && strings.Contains(uri, "/uploads/") {
			continue
		}
		out = append(out, method+" "+strings.Replace(uri, "/to/it2/", "/to/it/", 1))
	}
	return out
}

// A registry that has the blobs is only asked whether it has them.
func TestPushOfWhatIsThere(t *testing.T) {
	for regName, reg := range registries(t) {
		for how, wrap := range wrappers {
			t.Run(regName+"/"+how, func(t *testing.T) {
				img := sample.Plain("there", v1.Platform{OS: "linux", Architecture: "amd64"})
				inner := pushed(t, reg, "there", img.Image)
				c := open(t, newDir(t))
				for _, when := range []string{"nothing cached", "cached"} {
					// A new tag, so that the blobs are asked for and not the manifest alone.
					ref := reg.ref(t, "there:"+how+strings.ReplaceAll(when, " ", "-"))
					wrapped := wrap(c, inner)
					ok(t, remote.Write(ref, wrapped))
					for _, a := range reg.asked() {
						method, uri, _ := strings.Cut(a, " ")
						blob := strings.Contains(uri, "/blobs/")
						config := strings.HasSuffix(uri, must[v1.Hash](t)(inner.ConfigName()).String())
						if blob && method != "HEAD" && (!config || method != "GET") {
							t.Errorf("%s: asked for %s", when, a)
						}
					}
					if n := c.Stats().Fills; when == "nothing cached" && n > 0 {
						t.Errorf("%d fills, want none", n)
					}
					ok(t, validate.Image(wrapped))
					reg.asked()
				}
			})
		}
	}
}

// The images in an index are pushed with the requests of the bare index.
func TestMountsOfAnIndexArePreserved(t *testing.T) {
	reg := newOlareg(t)
	ok(t, remote.WriteIndex(reg.ref(t, "from:v1"), sample.Index("mounts")))
	c := open(t, newDir(t))
	push := func(repo string, wrap func(v1.ImageIndex) v1.ImageIndex) []string {
		inner := must[v1.ImageIndex](t)(remote.Index(reg.ref(t, "from:v1")))
		ok(t, remote.WriteIndex(reg.ref(t, repo+":v1"), wrap(inner)))
		return shape(reg.asked())
	}
	want := push("to/it", func(idx v1.ImageIndex) v1.ImageIndex { return idx })
	got := push("to/it2", c.ImageIndex)
	if !slices.Equal(got, want) {
		t.Errorf("asked for\n%s\nthe bare index for\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := c.Stats().Fills; n > 0 {
		t.Errorf("%d fills, want none", n)
	}
}

// A layer of a repository: putting it asks nothing, pushing it mounts it.
func TestBareRemoteLayer(t *testing.T) {
	reg := newOlareg(t)
	img := sample.Plain("bare", v1.Platform{OS: "linux", Architecture: "amd64"})
	inner := pushed(t, reg, "from", img.Image)
	h := must[v1.Hash](t)(img.Layers[0].Digest())
	bare := must[v1.Layer](t)(remote.Layer(reg.ref(t, "from:v1").Context().Digest(h.String())))
	reg.asked()

	c := open(t, newDir(t))
	put := must[v1.Layer](t)(c.Put(bare))
	if a := reg.asked(); len(a) > 0 {
		t.Errorf("Put asked for %v", a)
	}
	ok(t, remote.WriteLayer(reg.ref(t, "to:v1").Context(), put))
	a := reg.asked()
	if gets := blobGets(t, a, inner); len(gets) > 0 {
		t.Errorf("downloaded %v", gets)
	}
	if !slices.ContainsFunc(a, func(a string) bool { return strings.HasPrefix(a, "POST /v2/to/") && strings.Contains(a, "mount=") }) {
		t.Errorf("no mount in %v", a)
	}
	for range 2 {
		if err := validate.Layer(put); err != nil {
			t.Error(err)
		}
	}
	if gets := blobGets(t, reg.asked(), inner); len(gets) != 1 {
		t.Errorf("%d downloads, want 1: %v", len(gets), gets)
	}
}

// One tar in three compressed forms, one of them twice, in one image.
func TestVariants(t *testing.T) {
	for regName, reg := range registries(t) {
		t.Run(regName, func(t *testing.T) {
			img := sample.Variants("variants")
			inner := pushed(t, reg, "variants", img.Image)
			dir := newDir(t)
			c := open(t, dir)
			for range 2 {
				readImage(t, c, sample.Image{Image: inner, Layers: img.Layers})
			}
			ok(t, c.Flush())
			checkListed(t, dir, img)
			again := open(t, dir)
			for _, l := range img.Layers {
				readForms(t, must[v1.Layer](t)(again.Get(must[v1.Hash](t)(l.Digest()))), l)
			}
			l := must[v1.Layer](t)(again.Get(must[v1.Hash](t)(img.Layers[0].DiffID())))
			got := must[v1.Hash](t)(l.Digest())
			if !slices.ContainsFunc(img.Layers, func(l *sample.Layer) bool { return must[v1.Hash](t)(l.Digest()) == got }) {
				t.Errorf("by diffID: digest %s, which none of the layers has", got)
			}
			if got := c.Stats(); got.Fills != 3 || got.Compressions != 0 {
				t.Errorf("%+v, want 3 fills", got)
			}
		})
	}
}

// Layers that registries do not hold, but name a place of: they are not
// pushed. What the inner layer says when it is read is passed on (ggcr does
// not go to a loopback address for it), and what is cached is served.
func TestForeignLayer(t *testing.T) {
	foreign := sample.Gzip(types.DockerForeignLayer, "foreign")
	img := must[v1.Image](t)(mutate.Append(mutate.MediaType(empty.Image, types.DockerManifestSchema2),
		mutate.Addendum{Layer: foreign, MediaType: foreign.Media, URLs: []string{"http://127.0.0.1:1/blob"}},
		mutate.Addendum{Layer: sample.Gzip(types.DockerLayer, "own"), MediaType: types.DockerLayer}))
	for regName, reg := range registries(t) {
		t.Run(regName, func(t *testing.T) {
			inner := pushed(t, reg, "foreign", img)
			c := open(t, newDir(t))
			wrapped := c.Image(inner)
			ok(t, remote.Write(reg.ref(t, "copy:v1"), wrapped))
			for _, a := range reg.asked() {
				if strings.Contains(a, must[v1.Hash](t)(foreign.Digest()).Hex) {
					t.Errorf("pushing asked for %s", a)
				}
			}
			l := must[[]v1.Layer](t)(wrapped.Layers())[0]
			_, want := must[[]v1.Layer](t)(inner.Layers())[0].Compressed()
			if _, err := l.Compressed(); fmt.Sprint(err) != fmt.Sprint(want) || err == nil {
				t.Errorf("Compressed: %v, want %v", err, want)
			}
			readForms(t, must[[]v1.Layer](t)(c.Image(img).Layers())[0], foreign)
			readForms(t, l, foreign)
			if d := must[*v1.Descriptor](t)(partial.Descriptor(l)); len(d.URLs) != 1 {
				t.Errorf("descriptor has URLs %v, want one", d.URLs)
			}
		})
	}
}
