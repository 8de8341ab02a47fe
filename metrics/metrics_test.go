package metrics_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/metrics"
)

// Each field of cache.Stats is one counter, and its name follows the field's:
// BytesRead is ocicache_read_bytes_total.
func TestEveryCounter(t *testing.T) {
	var stats cache.Stats
	want := map[string]float64{}
	for i, v := 0, reflect.ValueOf(&stats).Elem(); i < v.NumField(); i++ {
		v.Field(i).SetInt(int64(i + 1))
		want[counterName(v.Type().Field(i).Name)] = float64(i + 1)
	}
	got := gather(t, metrics.CollectorOf(stats))
	for name, value := range want {
		if got[name].GetType() != dto.MetricType_COUNTER || len(got[name].GetMetric()) != 1 {
			t.Errorf("%s: got %v, want a counter", name, got[name])
			continue
		}
		if v := got[name].GetMetric()[0].GetCounter().GetValue(); v != value {
			t.Errorf("%s: got %v, want %v", name, v, value)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is no field of cache.Stats", name)
		}
	}
}

// counterName returns the name that a field of cache.Stats has in Prometheus.
func counterName(field string) string {
	if what, ok := strings.CutPrefix(field, "Bytes"); ok {
		field = what + "Bytes"
	}
	var name strings.Builder
	for _, r := range field {
		if 'A' <= r && r <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(r)
	}
	return "ocicache" + strings.ToLower(name.String()) + "_total"
}

func gather(t *testing.T, cs ...prometheus.Collector) map[string]*dto.MetricFamily {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(cs...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// The names and helps are as Prometheus wants them.
func TestLint(t *testing.T) {
	c := open(t, t.TempDir())
	for _, collector := range []prometheus.Collector{metrics.NewCollector(c, "test"), metrics.NewDiskCollector(c, "test")} {
		problems, err := testutil.CollectAndLint(collector)
		if err != nil || len(problems) > 0 {
			t.Errorf("%T: got %v, %v", collector, problems, err)
		}
	}
}

// Counters go on after Close.
func TestCollector(t *testing.T) {
	c := open(t, t.TempDir())
	collector := metrics.NewCollector(c, "layers")
	l := newLayer(t, 1)
	for range 3 {
		read(t, c.Layer(l).Compressed)
	}
	size := size(t, l)
	want := fmt.Sprintf(`
		# HELP ocicache_fills_total Origins that were read into the cache.
		# TYPE ocicache_fills_total counter
		ocicache_fills_total{cache="layers"} 1
		# HELP ocicache_hits_total Opens that were served from the cache.
		# TYPE ocicache_hits_total counter
		ocicache_hits_total{cache="layers"} 2
		# HELP ocicache_read_bytes_total Bytes read from origins.
		# TYPE ocicache_read_bytes_total counter
		ocicache_read_bytes_total{cache="layers"} %d
		# HELP ocicache_saved_bytes_total Bytes read from the cache in place of an origin.
		# TYPE ocicache_saved_bytes_total counter
		ocicache_saved_bytes_total{cache="layers"} %d
	`, size, 2*size)
	names := []string{"ocicache_fills_total", "ocicache_hits_total", "ocicache_read_bytes_total", "ocicache_saved_bytes_total"}
	compare := func() error { return testutil.CollectAndCompare(collector, strings.NewReader(want), names...) }
	if err := compare(); err != nil {
		t.Error(err)
	}
	closeCache(t, c)
	if err := compare(); err != nil {
		t.Errorf("closed: %v", err)
	}
}

// What is there is told by form; what is gone is remembered; a closed cache
// says nothing.
func TestDiskCollector(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	collector := metrics.NewDiskCollector(c, "layers")
	pair, pinned, gone := newLayer(t, 1), newLayer(t, 2), newLayer(t, 3)
	read(t, c.Layer(pair).Uncompressed)
	tar := read(t, c.Layer(pair).Uncompressed)
	read(t, c.Layer(pinned).Compressed)
	read(t, c.Layer(gone).Uncompressed)
	release, err := c.Pin(digest(t, pinned))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", digest(t, gone).Hex)); err != nil {
		t.Fatal(err)
	}

	want := fmt.Sprintf(`
		# HELP ocicache_disk_blobs Blobs on disk, by form of the layers.
		# TYPE ocicache_disk_blobs gauge
		ocicache_disk_blobs{cache="layers",form="compressed"} 2
		ocicache_disk_blobs{cache="layers",form="uncompressed"} 2
		ocicache_disk_blobs{cache="layers",form="unknown"} 0
		# HELP ocicache_disk_bytes Bytes on disk, by form of the layers.
		# TYPE ocicache_disk_bytes gauge
		ocicache_disk_bytes{cache="layers",form="compressed"} %d
		ocicache_disk_bytes{cache="layers",form="uncompressed"} %d
		ocicache_disk_bytes{cache="layers",form="unknown"} 0
		# HELP ocicache_disk_pinned_bytes Bytes on disk that something holds.
		# TYPE ocicache_disk_pinned_bytes gauge
		ocicache_disk_pinned_bytes{cache="layers"} %[3]d
		# HELP ocicache_disk_remakable_bytes Bytes on disk that can be made again from others there.
		# TYPE ocicache_disk_remakable_bytes gauge
		ocicache_disk_remakable_bytes{cache="layers"} %[4]d
		# HELP ocicache_disk_shared_bytes Bytes on disk that more than one thing needs.
		# TYPE ocicache_disk_shared_bytes gauge
		ocicache_disk_shared_bytes{cache="layers"} 0
		# HELP ocicache_remembered_blobs Blobs that are known, and not on disk.
		# TYPE ocicache_remembered_blobs gauge
		ocicache_remembered_blobs{cache="layers"} 1
	`, size(t, pair)+size(t, pinned), 2*tar, size(t, pinned), tar)
	if err := testutil.CollectAndCompare(collector, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	closeCache(t, c)
	if err := testutil.CollectAndCompare(collector, strings.NewReader("")); err != nil {
		t.Errorf("closed: %v", err)
	}
}

// An error is the scrape's: here, of a lock that another holds for too long.
func TestDiskCollectorError(t *testing.T) {
	dir := t.TempDir()
	reg := prometheus.NewRegistry()
	reg.MustRegister(metrics.NewDiskCollector(open(t, dir, cache.WithLockTimeout(time.Millisecond)), "layers"))
	lock := flock.New(filepath.Join(dir, ".ocicache", "lock"))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if families, err := reg.Gather(); err == nil || !strings.Contains(err.Error(), cache.ErrLocked.Error()) {
		t.Errorf("got %v, %v; want %v", families, err, cache.ErrLocked)
	}
}

// Caches are registered together by different names.
func TestNames(t *testing.T) {
	a, b := open(t, t.TempDir()), open(t, t.TempDir())
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(metrics.NewCollector(a, "a"), metrics.NewDiskCollector(a, "a"), metrics.NewCollector(b, "b"), metrics.NewDiskCollector(b, "b"))
	if n, err := testutil.GatherAndCount(reg, "ocicache_hits_total", "ocicache_disk_pinned_bytes"); n != 4 || err != nil {
		t.Errorf("got %d metrics, %v, want 4", n, err)
	}
	if err := reg.Register(metrics.NewCollector(b, "a")); err == nil {
		t.Error("one name for two caches: no error")
	}
}

func open(t *testing.T, dir string, opts ...cache.Option) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeCache(t, c) })
	return c
}

func closeCache(t *testing.T, c *cache.Cache) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// newLayer returns a gzip layer.
func newLayer(t *testing.T, seed byte) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: 1000}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte{seed}, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return static.NewLayer(buf.Bytes(), types.OCILayer)
}

// read returns how many bytes a form has.
func read(t *testing.T, open func() (io.ReadCloser, error)) int64 {
	t.Helper()
	rc, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	n, err := io.Copy(io.Discard, rc)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func digest(t *testing.T, l v1.Layer) v1.Hash {
	t.Helper()
	h, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func size(t *testing.T, l v1.Layer) int64 {
	t.Helper()
	n, err := l.Size()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
