// Ggcrcache is a program that used go-containerregistry's own cache, with one
// line changed. It validates an image twice:
//
//	go run ./examples/ggcrcache IMAGE
//
// Without an argument it makes an image itself.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/examples/internal/demo"
)

func main() {
	ref, stop, err := demo.Reference(20)
	check(err)
	defer stop()

	// c := ggcrcache.NewFilesystemCache(dir)
	c, err := cache.Open(filepath.Join(os.TempDir(), "ocicache-ggcrcache"))
	check(err)
	defer c.Close() // new: a cache is closed

	for range 2 {
		start := time.Now()
		img, err := remote.Image(ref, remote.WithAuthFromKeychain(authn.DefaultKeychain))
		check(err)
		// A *cache.Cache is a ggcr cache.Cache. With c.Image(img) in its place,
		// the diffIDs in the image's config are known to the cache too.
		check(validate.Image(ggcrcache.Image(img, c)))
		fmt.Printf("valid, in %v: %+v\n", time.Since(start).Round(time.Millisecond), c.Stats())
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
