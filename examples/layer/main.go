// Layer wraps a single layer, the first of an image:
//
//	go run ./examples/layer IMAGE
//
// Without an argument it makes an image itself.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/examples/internal/demo"
)

func main() {
	ref, stop, err := demo.Reference(20)
	check(err)
	defer stop()
	img, err := remote.Image(ref, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	check(err)
	m, err := img.Manifest()
	check(err)

	c, err := cache.Open(filepath.Join(os.TempDir(), "ocicache-layer"))
	check(err)
	defer c.Close()

	bare, err := remote.Layer(ref.Context().Digest(m.Layers[0].Digest.String()), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	check(err)
	layer := c.Layer(bare) // nothing is asked or read yet

	// Uncompressed reads the registry once and keeps both forms. What follows
	// costs no network, though a bare remote layer knows no diffID.
	rc, err := layer.Uncompressed()
	check(err)
	n, err := io.Copy(io.Discard, rc)
	check(err)
	check(rc.Close())
	digest, err := layer.Digest()
	check(err)
	diffID, err := layer.DiffID()
	check(err)
	size, err := layer.Size()
	check(err)
	fmt.Printf("digest  %s  %d bytes\ndiffID  %s  %d bytes\n", digest, size, diffID, n)

	again, err := c.Get(diffID) // by either hash
	check(err)
	mediaType, err := again.MediaType()
	check(err)
	fmt.Printf("type    %s\nstats   %+v\n", mediaType, c.Stats())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
