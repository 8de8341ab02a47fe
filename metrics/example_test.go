package metrics_test

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/metrics"
)

// A cache is served to Prometheus.
func Example() {
	dir, err := os.MkdirTemp("", "ocicache-metrics-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c, err := cache.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	reg := prometheus.NewRegistry()
	reg.MustRegister(metrics.NewCollector(c, "layers"), metrics.NewDiskCollector(c, "layers"))
	server := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	defer server.Close()

	l := c.Layer(static.NewLayer([]byte("bytes of a layer"), types.OCIUncompressedLayer)) // of remote.Image, say
	for range 3 {
		rc, err := l.Compressed()
		if err != nil {
			log.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, rc); err != nil {
			log.Fatal(err)
		}
		rc.Close()
	}

	answer, err := server.Client().Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "ocicache_") && !strings.HasSuffix(line, " 0") {
			fmt.Println(line)
		}
	}
	// Output:
	// ocicache_disk_blobs{cache="layers",form="uncompressed"} 1
	// ocicache_disk_bytes{cache="layers",form="uncompressed"} 16
	// ocicache_fills_total{cache="layers"} 1
	// ocicache_hits_total{cache="layers"} 2
	// ocicache_misses_total{cache="layers"} 1
	// ocicache_read_bytes_total{cache="layers"} 16
	// ocicache_saved_bytes_total{cache="layers"} 32
	// ocicache_written_bytes_total{cache="layers"} 16
}
