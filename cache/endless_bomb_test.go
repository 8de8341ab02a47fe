package cache_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
)

// gzipBomb returns a gzip member of a GiB of zeros. A MiB of it after another
// is the same bytes; its checksum is missing, but nobody gets as far.
func gzipBomb() []byte {
	var buf bytes.Buffer
	w, err := flate.NewWriter(&buf, flate.BestSpeed)
	must(err)
	must(w.Write(make([]byte, 1<<20)))
	must(w.Flush())
	return append(gzipHeader(0), bytes.Repeat(buf.Bytes(), 1<<10)...)
}

// zstdBomb returns a zstd frame of a GiB of zeros, in blocks that say "128 KiB
// of the same byte".
func zstdBomb() []byte {
	return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x58}, bytes.Repeat([]byte{0x02, 0x00, 0x10, 0x00}, 1<<13)...)
}

// Bombs are given up at the limit: nothing of the tar is kept, and neither
// disk nor memory took much more.
func TestBombOfAGB(t *testing.T) {
	const limit = 10 << 20
	for name, blob := range map[string][]byte{"gzip": gzipBomb(), "zstd": zstdBomb(), "gzip in gzip": gzipped(gzipBomb())} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "gzip in") && len(blob) > limit {
				t.Fatal("the bomb is too large itself")
			}
			bomb := content{blob: blob, mediaType: types.DockerLayer}
			for _, opts := range [][]cache.Option{nil, {cache.WithoutTar()}} {
				c := open(t, append(opts, cache.WithMaxUncompressed(limit))...)
				var got int64
				var err error
				spent := allocated(func() {
					var rc io.ReadCloser
					if rc, err = layersOf(t, c.Image(imageOf(t, fake(bomb))))[0].Uncompressed(); err == nil {
						got, err = io.Copy(io.Discard, rc)
						rc.Close()
					}
				})
				if name == "gzip in gzip" { // one layer of it is taken off
					if err != nil && !errors.Is(err, cache.ErrTooLarge) {
						var digest *cache.DigestMismatchError
						if !errors.As(err, &digest) {
							t.Errorf("got %v", err)
						}
					}
				} else if !errors.Is(err, cache.ErrTooLarge) {
					t.Errorf("got %v, want ErrTooLarge", err)
				}
				if got > limit+1<<20 {
					t.Errorf("%d bytes were delivered", got)
				}
				if spent > manyBytes {
					t.Errorf("%d bytes of memory were allocated, want at most %d", spent, manyBytes)
				}
				if written := c.Stats().BytesWritten; written > int64(len(blob))+limit+1<<20 {
					t.Errorf("%d bytes were written to the disk", written)
				}
				if got := readAll(t, c.Layer(fake(bomb)).Compressed); !bytes.Equal(got, blob) {
					t.Error("Compressed is not passed as it is")
				}
				if got := diskUse(t, dirOf(c)); got > int64(len(blob))+limit {
					t.Errorf("the cache takes %d bytes of the disk", got)
				}
			}
		})
	}
}

// gzipHeader returns the beginning of a gzip member with fields of any
// length.
func gzipHeader(flags byte, fields ...string) []byte {
	return slices.Concat([]byte{0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0xff}, []byte(strings.Join(fields, "")))
}

// Compressed streams that ask for much, or are followed by something: the
// error has a type, memory is bounded, and the blob is passed as it is.
func TestHostileStreams(t *testing.T) {
	gz, zst := gzipped(makeTar(1, 3000)), zstded(makeTar(1, 3000))
	window := func(descriptor byte) []byte { return []byte{0x28, 0xb5, 0x2f, 0xfd, 0, descriptor, 0x09, 0, 0, 'x'} }
	single := func(size uint64) []byte {
		return append(binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, size), 1, 0, 0)
	}
	long := strings.Repeat("x", 4<<20)
	for name, blob := range map[string][]byte{
		"zstd, window of 2 GiB":         window(21 << 3),
		"zstd, window of 3.75 TiB":      window(0xff),
		"zstd, window of 128 MiB + 1/8": window(17<<3 | 1),
		"zstd, content of 2 GiB":        single(2 << 30),
		"zstd, content of 16 EiB":       single(1<<64 - 1),
		"zstd, skippable of 4 GiB":      []byte("\x50\x2a\x4d\x18\xff\xff\xff\xffx"),
		"zstd, a dictionary":            []byte("\x28\xb5\x2f\xfd\x03\x58\xff\xff\xff\xff"),
		"zstd, garbage behind":          append(slices.Clone(zst), "garbage"...),
		"zstd, gzip behind":             append(slices.Clone(zst), gz...),
		"zstd, cut short":               zst[:len(zst)-1],
		"gzip, garbage behind":          append(slices.Clone(gz), "garbage"...),
		"gzip, zeros behind":            append(slices.Clone(gz), make([]byte, 4<<20)...),
		"gzip, half a member behind":    append(slices.Clone(gz), gz[:len(gz)/2]...),
		"gzip, a header behind":         append(slices.Clone(gz), gz[:10]...),
		"gzip, cut short":               gz[:len(gz)-1],
		"gzip, a long name":             append(gzipHeader(0x08, long, "\x00"), gz[10:]...),
		"gzip, a name without an end":   gzipHeader(0x08, long),
		"gzip, a long comment":          append(gzipHeader(0x10, long, "\x00"), gz[10:]...),
		"gzip, extra cut short":         gzipHeader(0x04, "\xff\xff", long[:60_000]),
		"gzip, many members and a half": append(bytes.Repeat(gzipped(nil), 10_000), gz[:len(gz)-5]...),
		"gzip, reserved flags":          append(gzipHeader(0xe0), gz[10:]...),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for range 2 { // cold, and warm
				c := openDir(t, dir)
				l := fake(content{blob: blob, mediaType: types.DockerLayer})
				if spent := allocated(func() {
					if _, err := tryRead(c.Layer(l).Uncompressed); !errors.Is(err, cache.ErrCorrupt) {
						t.Errorf("got %v, want ErrCorrupt", err)
					}
				}); spent > manyBytes {
					t.Errorf("%d bytes of memory were allocated, want at most %d", spent, manyBytes)
				}
				if got := readAll(t, c.Layer(l).Compressed); !bytes.Equal(got, blob) {
					t.Error("Compressed is not passed as it is")
				}
				if n := len(blobs(t, dir)); n != 1 {
					t.Errorf("%d blobs, want 1", n)
				}
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A registry that stalls after its headers, sends for ever, or lies in its
// Content-Length.
func TestHostileRegistry(t *testing.T) {
	want := makeLayer(1, 200_000)
	flush := func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
	size := len(want.blob)
	for name, serve := range map[string]func(w http.ResponseWriter, r *http.Request){
		"headers alone": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", itoa(size))
			flush(w)
			<-r.Context().Done()
		},
		"half of it": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", itoa(size))
			must(w.Write(want.blob[:size/2]))
			flush(w)
			<-r.Context().Done()
		},
		"all of it, without an end": func(w http.ResponseWriter, r *http.Request) {
			must(w.Write(want.blob))
			flush(w)
			<-r.Context().Done()
		},
		"without an end": func(w http.ResponseWriter, _ *http.Request) {
			for _, err := w.Write(want.blob); err == nil; _, err = w.Write(noise()) {
			}
		},
		"too short a length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", itoa(size/2))
			must(w.Write(want.blob[:size/2]))
		},
		"too long a length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", itoa(2*size))
			must(w.Write(want.blob))
		},
		"a length of an EB": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(int64(1)<<60))
			must(w.Write(want.blob))
		},
		"nothing": func(http.ResponseWriter, *http.Request) {},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			img := r.push(imageOf(t, fake(want)), "repo")
			if _, err := img.ConfigFile(); err != nil {
				t.Fatal(err)
			}
			hook := func(w http.ResponseWriter, req *http.Request) bool {
				if !strings.HasSuffix(req.URL.Path, want.digest().String()) {
					return false
				}
				serve(w, req)
				return true
			}
			r.hook.Store(&hook)
			dir := t.TempDir()
			for _, form := range []func(v1.Layer) (io.ReadCloser, error){v1.Layer.Compressed, v1.Layer.Uncompressed} {
				c := openDir(t, dir, cache.WithCloseTimeout(time.Millisecond))
				rc, err := form(layersOf(t, c.Image(img))[0])
				if err != nil {
					continue // told at once
				}
				read := make(chan error, 1)
				go func() {
					_, err := io.Copy(io.Discard, rc)
					read <- err
				}()
				if strings.HasPrefix(name, "h") { // it stalls
					rc.Close()
				}
				if err := <-read; err == nil && !strings.HasSuffix(name, "without an end") { // ggcr stops at the size
					t.Error("a stream that is wrong came to a good end")
				}
				rc.Close()
				if err := c.Close(); err != nil { // what stalls is read on for a while otherwise
					t.Error(err)
				}
			}
			r.hook.Store(nil)
			checkForms(t, layersOf(t, openDir(t, dir).Image(img))[0], want)
		})
	}
}
