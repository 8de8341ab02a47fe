package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// An image is wrapped; its layers are read through the cache.
func ExampleCache_Image() {
	dir, cleanup := exampleDir()
	defer cleanup()

	c, err := cache.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	img := c.Image(exampleImage()) // of remote.Image, say
	layers, err := img.Layers()
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		rc, err := layers[0].Uncompressed()
		if err != nil {
			log.Fatal(err)
		}
		n, err := io.Copy(io.Discard, rc)
		if err != nil {
			log.Fatal(err)
		}
		rc.Close()
		s := c.Stats()
		fmt.Printf("%d bytes; %d fills, %d hits\n", n, s.Fills, s.Hits)
	}
	// Output:
	// 2560 bytes; 1 fills, 0 hits
	// 2560 bytes; 1 fills, 1 hits
}

// A layer is found by its digest and by its diffID.
func ExampleCache_Get() {
	dir, cleanup := exampleDir()
	defer cleanup()
	c, err := cache.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	layers, err := c.Image(exampleImage()).Layers()
	if err != nil {
		log.Fatal(err)
	}
	diffID, err := layers[0].DiffID()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Get(diffID); errors.Is(err, cache.ErrNotFound) {
		fmt.Println("not yet")
	}
	if err := c.FillUncompressed(context.Background(), layers...); err != nil {
		log.Fatal(err)
	}
	l, err := c.Get(diffID)
	if err != nil {
		log.Fatal(err)
	}
	digest, err := l.Digest()
	if err != nil {
		log.Fatal(err)
	}
	want, err := layers[0].Digest()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("found, with the digest of the image's manifest:", digest == want)
	// Output:
	// not yet
	// found, with the digest of the image's manifest: true
}

// A *Cache is a cache of go-containerregistry: a program that has one needs
// to change one line.
func ExampleOpen() {
	dir, cleanup := exampleDir()
	defer cleanup()

	// c := ggcrcache.NewFilesystemCache(dir)
	c, err := cache.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	img := ggcrcache.Image(exampleImage(), c)
	layers, err := img.Layers()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(layers), "layer")
	// Output:
	// 1 layer
}

func exampleDir() (dir string, cleanup func()) {
	dir, err := os.MkdirTemp("", "ocicache")
	if err != nil {
		log.Fatal(err)
	}
	return dir, func() { os.RemoveAll(dir) }
}

func exampleImage() v1.Image {
	img, err := mutate.AppendLayers(empty.Image, fake(content{
		blob: gzipped(bytes.Repeat([]byte{0}, 2560)), tar: bytes.Repeat([]byte{0}, 2560),
		mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
	}))
	if err != nil {
		log.Fatal(err)
	}
	return img
}

// A blob rots, and nothing shows it. A scrub finds it and puts it aside, so
// that the next read fetches the layer again.
func ExampleCache_Verify() {
	dir, err := os.MkdirTemp("", "cache")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c, err := cache.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	l := static.NewLayer([]byte("a layer's bytes"), types.OCIUncompressedLayer)
	if err := c.Fill(context.Background(), l); err != nil {
		log.Fatal(err)
	}
	h, err := l.Digest()
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", h.Hex), []byte("a layer's rotten"), 0o644); err != nil {
		log.Fatal(err)
	}

	report, err := c.Verify(context.Background(), cache.VerifyOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range report.Findings {
		fmt.Println(f.Problem, f.Digest.Hex[:12], f.Repair)
	}
	// Output: corrupt 9954fd613958 quarantined
}
