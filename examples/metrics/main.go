// Metrics serves a cache's counters with expvar, and asks for them as a
// monitor would:
//
//	go run ./examples/metrics [IMAGE]
//
// Without an argument it makes an image itself. For Prometheus there are the
// collectors in metrics/.
package main

import (
	"context"
	"encoding/json"
	"expvar"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
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
	c, err := cache.Open(filepath.Join(os.TempDir(), "ocicache-metrics"))
	check(err)
	defer c.Close()

	// Counters are atomic, and cost nothing to read.
	expvar.Publish("ocicache", expvar.Func(func() any { return c.Stats() }))
	// What is on disk is looked up: ask for it now and then, not at each scrape.
	expvar.Publish("ocicache_disk", expvar.Func(func() any {
		usages, err := c.DiskUsage(context.Background())
		if err != nil {
			return err.Error()
		}
		return cache.TotalUsage(usages)
	}))
	server := httptest.NewServer(expvar.Handler())
	defer server.Close()

	img, err := remote.Image(ref, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	check(err)
	for range 2 {
		layers, err := c.Image(img).Layers()
		check(err)
		check(c.Fill(context.Background(), layers...))
	}

	answer, err := http.Get(server.URL)
	check(err)
	defer answer.Body.Close()
	var vars struct {
		Cache cache.Stats      `json:"ocicache"`
		Disk  cache.UsageTotal `json:"ocicache_disk"`
	}
	check(json.NewDecoder(answer.Body).Decode(&vars))
	fmt.Printf("%+v\n%+v\n", vars.Cache, vars.Disk)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
