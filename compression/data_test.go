package compression_test

import (
	"archive/tar"
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/ocicache/ocicache/compression"
)

// tarLike returns a tar of about size bytes: files of many sizes, most of them
// text that repeats itself, some not compressible.
func tarLike(tb testing.TB, size int) []byte {
	tb.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 2000)
	for i := range words {
		words[i] = fmt.Sprintf("%x", rnd.Uint64()>>(rnd.UintN(8)*8))
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for i := 0; buf.Len() < size; i++ {
		var body bytes.Buffer
		n := int(rnd.ExpFloat64() * 20_000)
		for body.Len() < n {
			if i%5 == 4 {
				body.Write(binary.LittleEndian.AppendUint64(nil, rnd.Uint64()))
			} else {
				fmt.Fprintf(&body, "%s ", words[rnd.IntN(rnd.IntN(len(words))+1)])
			}
		}
		hdr := &tar.Header{Name: fmt.Sprintf("usr/lib/%d/file", i), Mode: 0o644, Size: int64(body.Len())}
		if err := tw.WriteHeader(hdr); err != nil {
			tb.Fatal(err)
		}
		if _, err := tw.Write(body.Bytes()); err != nil {
			tb.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// compress returns data as a Writer makes it.
func compress(tb testing.TB, s compression.Settings, data []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	zw, err := compression.NewWriter(&buf, s)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := zw.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// decompress reads all of r through a Reader.
func decompress(r io.Reader) ([]byte, compression.Format, error) {
	zr, err := compression.NewReader(r)
	if err != nil {
		return nil, "", err
	}
	defer zr.Close()
	got, err := io.ReadAll(zr)
	return got, zr.Format(), err
}

// member returns a gzip member made by the standard library.
func member(tb testing.TB, hdr stdgzip.Header, level int, data string) []byte {
	tb.Helper()
	var buf bytes.Buffer
	zw, err := stdgzip.NewWriterLevel(&buf, level)
	if err != nil {
		tb.Fatal(err)
	}
	zw.Header = hdr
	if _, err := io.WriteString(zw, data); err != nil {
		tb.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// rawFrame returns a zstd frame without a checksum, that asks for the window
// that descriptor stands for and holds data as it is.
func rawFrame(descriptor byte, data string) []byte {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, descriptor}
	header := uint32(len(data))<<3 | 1 // a raw block, the last
	frame = append(frame, byte(header), byte(header>>8), byte(header>>16))
	return append(frame, data...)
}

// skippable returns a skippable zstd frame, of the 16 kinds there are.
func skippable(kind byte, data string) []byte {
	frame := []byte{0x50 | kind, 0x2a, 0x4d, 0x18}
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(data)))
	return append(frame, data...)
}

// concat joins parts in a new slice.
func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
