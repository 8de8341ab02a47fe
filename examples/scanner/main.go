// Scanner walks every file of an image twice, as scanners do, each time for
// another word:
//
//	go run ./examples/scanner IMAGE
//
// Without an argument it makes an image itself.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/examples/internal/demo"
)

func main() {
	ref, stop, err := demo.Reference(60)
	check(err)
	defer stop()
	c, err := cache.Open(filepath.Join(os.TempDir(), "ocicache-scanner"))
	check(err)
	defer c.Close()
	img, err := remote.Image(ref, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	check(err)
	img = c.Image(img)
	for _, word := range []string{"Copyright", "PRIVATE KEY"} {
		start, found := time.Now(), 0
		layers, err := img.Layers()
		check(err)
		for _, l := range layers {
			check(walk(l, func(r io.Reader) error {
				b, err := io.ReadAll(r)
				found += bytes.Count(b, []byte(word))
				return err
			}))
		}
		fmt.Printf("%q: %d times, in %v\n", word, found, time.Since(start).Round(time.Millisecond))
	}
	fmt.Printf("%+v\n", c.Stats())
}

// walk calls visit for each file of a layer. A tar.Reader stops at
// the archive's end marker, before EOF; the cache is complete all the same.
func walk(l v1.Layer, visit func(io.Reader) error) error {
	rc, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := visit(tr); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
