package interop_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/interop/internal/sample"
)

// sources are the kinds of images that ggcr makes, whose layers know and
// compute different things about themselves.
var sources = map[string]func(t *testing.T, img v1.Image) v1.Image{
	"tarball": func(t *testing.T, img v1.Image) v1.Image {
		file := filepath.Join(t.TempDir(), "img.tar")
		tag := must[name.Tag](t)(name.NewTag("example.com/img:v1"))
		ok(t, tarball.WriteToFile(file, tag, img))
		return must[v1.Image](t)(tarball.ImageFromPath(file, &tag))
	},
	"layout": func(t *testing.T, img v1.Image) v1.Image {
		path := must[layout.Path](t)(layout.Write(t.TempDir(), empty.Index))
		ok(t, path.AppendImage(img))
		return must[v1.Image](t)(must[v1.ImageIndex](t)(path.ImageIndex()).Image(must[v1.Hash](t)(img.Digest())))
	},
	"layers of tar files": func(t *testing.T, img v1.Image) v1.Image {
		var layers []mutate.Addendum
		for _, l := range must[[]v1.Layer](t)(img.Layers()) {
			layers = append(layers, mutate.Addendum{
				Layer:       must[v1.Layer](t)(tarball.LayerFromOpener(l.Uncompressed)),
				Annotations: map[string]string{"a": "b"}, // in the place of {}, which ggcr's own validate refuses
			})
		}
		return must[v1.Image](t)(mutate.Append(empty.Image, layers...))
	},
	"random": func(t *testing.T, _ v1.Image) v1.Image {
		return must[v1.Image](t)(random.Image(300_000, 3))
	},
	"another cache": func(t *testing.T, img v1.Image) v1.Image {
		return open(t, newDir(t)).Image(img)
	},
	"the cache's own layers": func(t *testing.T, img v1.Image) v1.Image {
		c := open(t, newDir(t))
		ok(t, validate.Image(c.Image(img)))
		var layers []v1.Layer
		for _, l := range must[[]v1.Layer](t)(img.Layers()) {
			layers = append(layers, must[v1.Layer](t)(c.Get(must[v1.Hash](t)(l.DiffID()))))
		}
		return must[v1.Image](t)(mutate.AppendLayers(empty.Image, layers...))
	},
}

func TestSources(t *testing.T) {
	for what, source := range sources {
		for how, wrap := range wrappers {
			t.Run(what+"/"+how, func(t *testing.T) {
				inner := source(t, sample.Plain("source", amd64).Image)
				dir := newDir(t)
				c := open(t, dir)
				for _, when := range []string{"first", "second"} {
					if err := validate.Image(wrap(c, inner), validate.Fast); err != nil {
						t.Errorf("fast, %s time: %v", when, err)
					}
					if err := validate.Image(wrap(c, inner)); err != nil {
						t.Errorf("%s time: %v", when, err)
					}
				}
				if got := c.Stats(); got.Fallbacks != 0 || got.WriteFaults != 0 {
					t.Errorf("%+v", got)
				}
				ok(t, c.Flush())
				again := open(t, dir)
				if err := validate.Image(wrap(again, inner)); err != nil {
					t.Errorf("opened again: %v", err)
				}
			})
		}
	}
}

// Layers whose digest is known only after they were read are pushed through
// the cache, and are in it afterwards.
func TestStreamedLayers(t *testing.T) {
	for regName, reg := range registries(t) {
		t.Run(regName, func(t *testing.T) {
			c := open(t, newDir(t))
			want := sample.Plain("streamed", amd64)
			var layers []v1.Layer
			for _, l := range want.Layers {
				layers = append(layers, c.Layer(stream.NewLayer(io.NopCloser(bytes.NewReader(l.Tar)))))
			}
			img := must[v1.Image](t)(mutate.AppendLayers(empty.Image, layers...))
			ref := reg.ref(t, "streamed:v1")
			ok(t, remote.Write(ref, img))
			got := must[v1.Image](t)(remote.Image(ref))
			if err := validate.Image(got); err != nil {
				t.Error(err)
			}
			reg.asked()
			if err := validate.Image(c.Image(got)); err != nil {
				t.Error(err)
			}
			if gets := blobGets(t, reg.asked(), got); len(gets) > 0 {
				t.Errorf("downloaded %v", gets)
			}
		})
	}
}

// A layout that another tool wrote is read without a trace.
func TestReadOnlyLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	path := must[layout.Path](t)(layout.Write(dir, empty.Index))
	img := sample.Plain("img", amd64)
	ok(t, path.AppendImage(img.Image))
	before := tree(t, dir)
	c := open(t, dir, cache.WithReadOnly())
	for range 2 {
		if err := validate.Image(c.Image(img.Image)); err != nil {
			t.Error(err)
		}
	}
	ok(t, c.Close())
	if after := tree(t, dir); after != before {
		t.Errorf("the directory holds\n%s\nit held\n%s", after, before)
	}
}

// A cache directory serves read-only too, without its own files.
func TestReadOnlyCopy(t *testing.T) {
	from := filled(t)
	dir := filepath.Join(t.TempDir(), "copy")
	ok(t, os.CopyFS(dir, os.DirFS(from)))
	ok(t, os.RemoveAll(filepath.Join(dir, ".ocicache")))
	before := tree(t, dir)
	c := open(t, dir, cache.WithReadOnly())
	for _, img := range sample.Images() {
		checkHits(t, c, img)
	}
	ok(t, c.Close())
	if after := tree(t, dir); after != before {
		t.Errorf("the directory holds\n%s\nit held\n%s", after, before)
	}
}

// A copy of the directory, with all times changed, is a cache.
func TestCopiedDirectory(t *testing.T) {
	from := filled(t)
	for _, own := range []string{"with", "without"} {
		t.Run(own, func(t *testing.T) {
			dir := newDir(t)
			ok(t, os.CopyFS(dir, os.DirFS(from)))
			if own == "without" {
				ok(t, os.RemoveAll(filepath.Join(dir, ".ocicache")))
			}
			c := open(t, dir)
			for _, img := range sample.Images() {
				checkHits(t, c, img)
				readImage(t, c, img)
			}
			if got := c.Stats(); got.Fills != 0 || got.Repairs != 0 || got.Decompressions != 0 {
				t.Errorf("%+v, want no fills, repairs or decompressions", got)
			}
			ok(t, c.Flush())
		})
	}
}

// tree returns the names, sizes and times of all files.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b bytes.Buffer
	ok(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(path + " " + fi.Mode().String() + " " + fi.ModTime().String() + "\n")
		return nil
	}))
	return b.String()
}
