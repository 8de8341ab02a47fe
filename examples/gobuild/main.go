// Gobuild is a small ko: it compiles a Go program, makes a layer of it, and
// pushes an image, twice. The second time, what the build ID, the path and the
// media type decide is known: no tar, no hash, no gzip.
//
//	go run ./examples/gobuild [PACKAGE]
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/examples/internal/demo"
)

func main() {
	pkg := append(os.Args[1:], "./examples/quickstart")[0]
	registry := demo.Start()
	defer registry.Close()
	ref, err := name.ParseReference(registry.Host + "/demo/app")
	check(err)
	c, err := cache.Open(filepath.Join(os.TempDir(), "ocicache-gobuild"))
	check(err)
	defer c.Close()

	bin := filepath.Join(os.TempDir(), "ocicache-gobuild-app")
	check(exec.Command("go", "build", "-trimpath", "-o", bin, pkg).Run())
	id, err := exec.Command("go", "tool", "buildid", bin).Output()
	check(err)
	key := fmt.Sprintf("gobuild %s /app %s", bytes.TrimSpace(id), types.OCILayer)
	for range 2 {
		start, ran := time.Now(), false
		l, err := c.Build(context.Background(), key, func(context.Context) (v1.Layer, error) {
			ran = true
			return layer(bin)
		})
		check(err)
		img, err := mutate.AppendLayers(empty.Image, l)
		check(err)
		check(remote.Write(ref, img))
		fmt.Printf("tar, hash and gzip ran: %-5v  built and pushed in %v\n", ran, time.Since(start).Round(time.Millisecond))
	}
}

// layer makes the layer of a binary, at a path and with a time that are
// always the same.
func layer(bin string) (v1.Layer, error) {
	b, err := os.ReadFile(bin)
	check(err)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	check(w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(b))}))
	_, err = w.Write(b)
	check(err)
	check(w.Close())
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
