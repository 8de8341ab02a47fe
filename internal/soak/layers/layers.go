// Package layers makes layers whose content follows from a number, so that
// several processes know it and none has to keep it. It never touches files.
package layers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/compression"
)

// A Kind is a form in which a layer is distributed.
type Kind string

// The kinds. A layer that is TarOnly has no compressed form but what the
// cache's default codec makes of it.
const (
	Gzip    Kind = "gzip"
	Zstd    Kind = "zstd"
	Plain   Kind = "plain"
	TarOnly Kind = "tar only"
)

var kinds = []Kind{Gzip, Zstd, Gzip, Plain, Gzip, TarOnly, Zstd}

// A Layer is what is known of a layer without making it. It can be kept as
// JSON.
type Layer struct {
	N         int
	Kind      Kind
	Length    int // of the tar in bytes, about
	MediaType types.MediaType
	Digest    v1.Hash
	DiffID    v1.Hash
	Size      int64 // of the blob, in bytes
}

// Set returns the first n layers, with tars of 1 KiB to about largest bytes,
// small ones more often than large ones.
func Set(n, largest int) []Layer {
	set := make([]Layer, n)
	for i := range set {
		rnd := rand.New(rand.NewPCG(uint64(i), 2))
		l := Layer{N: i, Kind: kinds[i%len(kinds)], MediaType: types.OCILayer}
		l.Length = int(1024 * math.Pow(float64(largest)/1024, rnd.Float64()))
		switch l.Kind {
		case Zstd:
			l.MediaType = types.OCILayerZStd
		case Plain:
			l.MediaType = types.OCIUncompressedLayer
		}
		tar := l.Tar()
		blob := l.pack(tar)
		l.DiffID, l.Digest, l.Size = HashOf(tar), HashOf(blob), int64(len(blob))
		set[i] = l
	}
	return set
}

// Tar makes the uncompressed form.
func (l Layer) Tar() []byte {
	rnd := rand.New(rand.NewPCG(uint64(l.N), 1))
	body := make([]byte, min(l.Length, 64<<10)) // does not repeat within gzip's window
	for i := range body {
		body[i] = "etaoin shrdlu\n"[rnd.IntN(14)]
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; buf.Len() < l.Length; i++ {
		must(w.WriteHeader(&tar.Header{Name: fmt.Sprintf("%d/file-%d", l.N, i), Mode: 0o644, Size: int64(len(body))}))
		must2(w.Write(body))
	}
	must(w.Close())
	return buf.Bytes()
}

// Blob makes the form that is distributed.
func (l Layer) Blob() []byte { return l.pack(l.Tar()) }

// pack makes the blob of the tar. Gzip is the standard library's, so that the
// cache's own codec does not make the same blob.
func (l Layer) pack(tar []byte) []byte {
	if l.Kind == Plain {
		return tar
	}
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	switch l.Kind {
	case Gzip:
		w, err = gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	case Zstd:
		w, err = compression.NewWriter(&buf, compression.Settings{Format: compression.Zstd})
	default:
		w, err = compression.NewWriter(&buf, compression.DefaultSettings())
	}
	must(err)
	must2(w.Write(tar))
	must(w.Close())
	return buf.Bytes()
}

// HashOf returns the sha256 of some bytes.
func HashOf(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// must panics if what writes to memory fails.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must2(_ int, err error) { must(err) }
