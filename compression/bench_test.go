package compression_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/ocicache/ocicache/compression"
)

func BenchmarkReader(b *testing.B) {
	data := tarLike(b, 32<<20)
	for _, s := range []compression.Settings{
		{Format: compression.Plain},
		compression.DefaultSettings(),
		{Format: compression.Zstd},
	} {
		b.Run(s.String(), func(b *testing.B) {
			blob := compress(b, s, data)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				zr, err := compression.NewReader(bytes.NewReader(blob))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := zr.WriteTo(io.Discard); n != int64(len(data)) || err != nil {
					b.Fatal(n, err)
				}
				zr.Close()
			}
		})
	}
}

func BenchmarkWriter(b *testing.B) {
	data := tarLike(b, 32<<20)
	for _, s := range []compression.Settings{
		compression.DefaultSettings(),
		{Format: compression.Zstd},
	} {
		b.Run(s.String(), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			var size int
			for b.Loop() {
				size = len(compress(b, s, data))
			}
			b.ReportMetric(float64(size)/float64(len(data)), "ratio")
		})
	}
}
