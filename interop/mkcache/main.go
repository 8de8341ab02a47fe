// Command mkcache makes, for clients.sh, what its clients are run against.
//
//	mkcache fill DIR    fills a cache with every sample layer in both forms and
//	                    lists them as "FORM DIGEST"
//	mkcache crash DIR   does that and ends before anything is written into index.json
//	mkcache check DIR   reads what is in the cache, without origins, and counts it
//	mkcache image DIR   writes an OCI layout with one image, for other tools to copy
//	mkcache shared DIR  does that with an image whose layers fill caches
//
// It fails if the cache fails, or serves wrong bytes.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/interop/internal/sample"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("mkcache: ")
	run := map[string]func(dir string) error{"fill": fill, "crash": crash, "check": check, "image": image, "shared": shared}
	if len(os.Args) != 3 || run[os.Args[1]] == nil {
		log.Fatal("usage: mkcache fill|crash|check|image|shared DIR")
	}
	if err := run[os.Args[1]](os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func fill(dir string) error {
	c, err := cache.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(fillAll(c), c.Close())
}

func crash(dir string) error {
	c, err := cache.Open(dir)
	if err != nil {
		return err
	}
	return fillAll(c) // and no Flush or Close
}

func image(dir string) error {
	return write(dir, sample.Plain("theirs", v1.Platform{OS: "linux", Architecture: "amd64"}).Image)
}

func shared(dir string) error { return write(dir, sample.Images()[0].Image) }

func write(dir string, img v1.Image) error {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendImage(img)
}

func fillAll(c *cache.Cache) error {
	for _, img := range sample.Images() {
		layers, err := c.Image(img.Image).Layers()
		if err != nil {
			return err
		}
		for i, l := range layers {
			want := img.Layers[i]
			if err := read(l, want); err != nil {
				return fmt.Errorf("%s, layer %d: %w", img.Name, i, err)
			}
			digest := must(want.Digest())
			fmt.Println("blob", digest)
			if diffID := must(want.DiffID()); diffID != digest {
				fmt.Println("tar", diffID)
			}
		}
	}
	return nil
}

// check prints how many of the layers the cache has, of how many others it has
// one form only, and of how many it made a compressed form with another digest.
func check(dir string) (err error) {
	c, err := cache.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	var total, whole, half, other int
	for _, img := range sample.Images() {
		for _, want := range img.Layers {
			total++
			forms, same, err := forms(c, want)
			switch {
			case err != nil:
				return err
			case forms == 4 && same:
				whole++
			case !same:
				other++
			case forms > 0:
				half++
			}
		}
	}
	fmt.Printf("%d of %d", whole, total)
	if half > 0 {
		fmt.Printf(", %d in part", half)
	}
	if other > 0 {
		fmt.Printf(", %d only by diffID, with another digest", other)
	}
	fmt.Println()
	return nil
}

// forms counts in how many ways a layer can be read: by digest and by diffID,
// compressed and uncompressed. Same says that it has its digest in all.
func forms(c *cache.Cache, want *sample.Layer) (n int, same bool, err error) {
	digest, diffID := must(want.Digest()), must(want.DiffID())
	same = true
	for _, h := range []v1.Hash{digest, diffID} {
		l, err := c.Get(h)
		if errors.Is(err, cache.ErrNotFound) {
			continue
		}
		if err != nil {
			return 0, false, err
		}
		got, err := l.Digest()
		if err != nil {
			return 0, false, err
		}
		same = same && got == digest
		for _, form := range []struct {
			open func() (io.ReadCloser, error)
			want v1.Hash
		}{{l.Compressed, got}, {l.Uncompressed, diffID}} {
			rc, err := form.open()
			if errors.Is(err, cache.ErrNotFound) {
				continue
			}
			if err != nil {
				return 0, false, err
			}
			sum, _, err := v1.SHA256(rc)
			if err := errors.Join(err, rc.Close()); err != nil {
				return 0, false, err
			}
			if sum != form.want {
				return 0, false, fmt.Errorf("%s: read %s, want %s", h, sum, form.want)
			}
			n++
		}
	}
	return n, same, nil
}

// read reads both forms of a layer.
func read(l v1.Layer, want *sample.Layer) error {
	for _, form := range []struct {
		open func() (io.ReadCloser, error)
		want v1.Hash
	}{{l.Compressed, must(want.Digest())}, {l.Uncompressed, must(want.DiffID())}} {
		rc, err := form.open()
		if err != nil {
			return err
		}
		got, _, err := v1.SHA256(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			return err
		}
		if got != form.want {
			return fmt.Errorf("read %s, want %s", got, form.want)
		}
	}
	return nil
}

func must(h v1.Hash, err error) v1.Hash {
	if err != nil {
		panic(err) // sample layers know their hashes
	}
	return h
}
