package share_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/share"
)

// A job begins with what its branch, and main, have in a registry, and adds what
// it fetched and built.
func ExamplePull() {
	job := func(ctx context.Context, dir string, branch, main name.Tag) error {
		c, err := cache.Open(dir, cache.WithOrigins(share.Origins()))
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := share.Pull(ctx, c, branch, share.WithScopes(main)); err != nil { // no layer yet
			return err
		}
		// … the job …
		_, err = share.Push(ctx, c, branch) // merged with what others push
		return err
	}
	_ = job
}

// One machine builds a layer and pushes its cache. The next one pulls it, has
// the layer without a build, and reads the bytes when they are needed.
func ExamplePush() {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ref, err := name.NewTag(strings.TrimPrefix(server.URL, "http://") + "/team/cache:main")
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	build := func(context.Context) (v1.Layer, error) {
		fmt.Println("building")
		return static.NewLayer([]byte("a tar"), types.OCIUncompressedLayer), nil
	}

	first, err := cache.Open(filepath.Join(dir, "first"))
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close()
	if _, err := first.Build(ctx, "layer 1", build, cache.Shareable()); err != nil {
		log.Fatal(err)
	}
	pushed, err := share.Push(ctx, first, ref)
	fmt.Println("sent:", pushed.Sent.Layers, err)

	second, err := cache.Open(filepath.Join(dir, "second"), cache.WithOrigins(share.Origins()))
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close()
	pulled, err := share.Pull(ctx, second, ref, share.TrustKeys())
	fmt.Println("pulled:", pulled.Added, err)
	l, err := second.Build(ctx, "layer 1", build)
	if err != nil {
		log.Fatal(err)
	}
	rc, err := l.Uncompressed()
	if err != nil {
		log.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	fmt.Printf("read: %q %v\n", b, err)
	// Output:
	// building
	// sent: 1 <nil>
	// pulled: 1 <nil>
	// read: "a tar" <nil>
}
