package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/index"
)

// A warmCache has the big layer in both caches, in both forms, and in ours
// other entries beside it.
type warmCache struct {
	dir  string // of ours
	ours *cache.Cache
	ggcr ggcrcache.Cache
}

// makeWarm makes a cache of so many entries. Of those beside the big layer,
// the blobs are there as empty files, if they are wanted: they make the
// directory as large as it would be.
func (e *env) makeWarm(entries int, blobs bool) (*warmCache, error) {
	big, err := e.big.get()
	if err != nil {
		return nil, err
	}
	dir, theirDir := e.path(), e.path()
	if err := e.writeEntries(dir, entries-2, blobs); err != nil {
		return nil, err
	}
	c, err := cache.Open(dir)
	if err != nil {
		return nil, err
	}
	e.atEnd = append(e.atEnd, c.Close)
	w := &warmCache{dir: dir, ours: c, ggcr: ggcrcache.NewFilesystemCache(theirDir)}
	for _, to := range []ggcrcache.Cache{w.ours, w.ggcr} {
		if err := fillBoth(to, big); err != nil {
			return nil, err
		}
	}
	if blobs {
		if err := emptyFiles(theirDir, entries-2, "sha256:"); err != nil {
			return nil, err
		}
	}
	return w, c.Flush() // nothing goes on behind what is measured
}

// fillBoth reads both forms of the big layer through a cache.
func fillBoth(c ggcrcache.Cache, big *bigLayer) error {
	inner, err := big.layer()
	if err != nil {
		return err
	}
	l, err := c.Put(inner)
	if err != nil {
		return err
	}
	return errors.Join(verify(l.Uncompressed, big.diffID), verify(l.Compressed, big.digest))
}

// writeEntries makes the directory of a cache that has so many entries.
//
// The index is written by the package that the cache writes it with, as if
// by a checkpoint.
func (e *env) writeEntries(dir string, n int, blobs bool) error {
	c, err := cache.Open(dir)
	if err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "index.json"))
	if err != nil {
		return err
	}
	if err := errors.Join(catalog(n).Encode(f, ""), f.Close()); err != nil || !blobs {
		return err
	}
	return emptyFiles(filepath.Join(dir, "blobs", "sha256"), n, "")
}

// catalog returns n entries. Half of them are layers that were read
// compressed, with a claimed diffID; the other half are pairs, of which both
// forms were kept.
func catalog(n int) *index.Catalog {
	c := index.New()
	put := func(e index.Entry) {
		e.Created, e.ModTime = 1_700_000_000, 1_700_000_000_000_000_000
		c.Apply(index.PutRecord(e))
	}
	const gz, tar = "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar"
	for i := 0; c.Len() < n; i += 2 {
		blob := index.Entry{Digest: fakeHash(i), Size: 1 << 20, MediaType: gz, DiffID: fakeHash(i + 1), Pair: index.Claimed}
		if i%3 == 0 {
			blob.Pair = index.Verified
			put(index.Entry{Digest: blob.DiffID, Size: 4 << 20, MediaType: tar, Tar: true, Variant: blob.Digest})
		}
		put(blob)
	}
	return c
}

func fakeHash(n int) v1.Hash {
	h := newCounter()
	fmt.Fprint(h, n)
	hash, _ := h.sum()
	return hash
}

// blob returns the path of a blob of ours.
func (w *warmCache) blob(h v1.Hash) string { return filepath.Join(w.dir, "blobs", h.Algorithm, h.Hex) }

// makeIndex returns the path of a cache that has so many entries and no
// blobs.
func (e *env) makeIndex(n int) (string, error) {
	dir := e.path()
	return dir, e.writeEntries(dir, n, false)
}

// emptyFiles fills a directory with n names. They are links to as few files
// as the file system lets them be: making 100,000 files takes long, and
// writing them back disturbs what is measured next.
func emptyFiles(dir string, n int, prefix string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	last := ""
	for i := range n {
		name := filepath.Join(dir, prefix+fakeHash(i).Hex)
		if last != "" && os.Link(last, name) == nil {
			continue
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			return err
		}
		last = name
	}
	return nil
}

// A registryServer serves an image of the big layer on the loopback
// interface, and counts how often the layer is fetched.
type registryServer struct {
	ref  name.Reference
	gets atomic.Int64
}

func (e *env) makeRegistry() (*registryServer, error) {
	big, err := e.big.get()
	if err != nil {
		return nil, err
	}
	r := &registryServer{}
	serve := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet && strings.HasSuffix(req.URL.Path, "/blobs/"+big.digest.String()) {
			r.gets.Add(1)
		}
		serve.ServeHTTP(w, req)
	}))
	e.atEnd = append(e.atEnd, func() error { srv.Close(); return nil })
	r.ref, err = name.ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/bench:latest")
	if err != nil {
		return nil, err
	}
	l, err := big.layer()
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	return r, remote.Write(r.ref, img, remote.WithContext(context.Background()))
}

// image returns the image anew, with nothing fetched but its manifest.
func (r *registryServer) image() (v1.Image, error) { return remote.Image(r.ref) }
