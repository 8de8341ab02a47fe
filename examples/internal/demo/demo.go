// Package demo gives the examples something real to work on: a registry in
// the process, which counts what is asked of it, and an image made of files
// that are on any machine with Go.
package demo

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A Registry is go-containerregistry's, on loopback.
type Registry struct {
	*httptest.Server
	Host     string
	BlobGETs atomic.Int64
	Bytes    atomic.Int64 // of the bodies that it sent
}

// Start starts a registry. The caller closes it.
func Start() *Registry {
	r := &Registry{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
			r.BlobGETs.Add(1)
		}
		inner.ServeHTTP(&countingWriter{w, &r.Bytes}, req)
	}))
	r.Host = strings.TrimPrefix(r.URL, "http://")
	return r
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// Reference returns the image that the command line names. If it names none,
// it makes one of about so many megabytes of files, in a registry that ends
// with stop.
func Reference(megabytes int) (ref name.Reference, stop func(), err error) {
	if len(os.Args) > 1 {
		ref, err := name.ParseReference(os.Args[1])
		return ref, func() {}, err
	}
	r := Start()
	img, err := Image(megabytes)
	if err != nil {
		return nil, r.Close, err
	}
	if ref, err = name.ParseReference(r.Host + "/demo/image"); err != nil {
		return nil, r.Close, err
	}
	return ref, r.Close, remote.Write(ref, img)
}

// Image makes an image of Go's own source and tools: a layer of each, about
// so many megabytes of files in all.
func Image(megabytes int) (v1.Image, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	root := strings.TrimSpace(string(out))
	img := empty.Image
	for _, dir := range []string{"src", "pkg"} {
		archive, err := tarOf(filepath.Join(root, dir), megabytes<<20/2)
		if err != nil {
			return nil, err
		}
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(archive)), nil
		})
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// tarOf archives the files below dir until there are enough.
func tarOf(dir string, enough int) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if buf.Len() > enough {
			return fs.SkipAll
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(path[len(dir)+1:]), Mode: 0o644, Size: int64(len(b))}); err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	if err != nil {
		return nil, err
	}
	return buf.Bytes(), w.Close()
}
