package index_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"runtime"
	"strconv"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
)

// pairs returns an index.json of n pairs: 2n entries, as a cache makes them.
func pairs(tb testing.TB, n int) []byte {
	tb.Helper()
	c := index.New()
	for i := range n {
		digest, diffID := digestOf("blob", i), digestOf("tar", i)
		put(c,
			index.Entry{Digest: digest, MediaType: gzipType, Size: int64(i) << 10, DiffID: diffID, Pair: index.Verified, Created: 1_700_000_000 + int64(i), ModTime: 1_700_000_000_000_000_000 + int64(i)},
			index.Entry{Digest: diffID, MediaType: tarType, Size: int64(i) << 12, Tar: true, Variant: digest, Created: 1_700_000_000 + int64(i), ModTime: 1_700_000_000_000_000_000 + int64(i)})
	}
	var b bytes.Buffer
	if err := c.Encode(&b, "g:1"); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func digestOf(kind string, i int) v1.Hash {
	sum := sha256.Sum256([]byte(kind + strconv.Itoa(i)))
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// DESIGN.md, section 9: at 100,000 entries at most 30 MB are kept.
func TestMemory(t *testing.T) {
	const n, limit = 100_000, 300
	text := pairs(t, n/2)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := index.New()
	if _, err := c.Decode(text); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if c.Len() != n {
		t.Errorf("got %d entries, want %d", c.Len(), n)
	}
	kept := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.0f bytes an entry are kept", kept)
	if kept > limit {
		t.Errorf("%.0f bytes an entry are kept, want at most %d", kept, limit)
	}
	runtime.KeepAlive(text)
	runtime.KeepAlive(c)
}

// An index in the form that Encode writes is read without encoding/json, and
// so with few allocations.
func TestDecodeFaster(t *testing.T) {
	const n = 200
	text := pairs(t, n/2)
	for _, text := range [][]byte{text, append([]byte{'\n'}, text...)} {
		allocs := testing.AllocsPerRun(5, func() {
			if _, err := index.New().Decode(text); err != nil {
				t.Fatal(err)
			}
		})
		if allocs > 2*n {
			t.Errorf("%.0f allocations for %d entries, want at most two an entry", allocs, n)
		}
	}
}

func BenchmarkDecode100k(b *testing.B) {
	text := pairs(b, 50_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := index.New().Decode(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode100k(b *testing.B) {
	c := index.New()
	if _, err := c.Decode(pairs(b, 50_000)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Encode(io.Discard, "g:1"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	c := index.New()
	record := index.PutRecord(index.Entry{Digest: hash(0), MediaType: gzipType, Size: 7, DiffID: hash(1), Pair: index.Verified, Created: 9, ModTime: 9, Unsynced: "boot"})
	b.ReportAllocs()
	for b.Loop() {
		c.Apply(record)
	}
}
