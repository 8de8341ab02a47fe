package compression_test

import (
	"testing"

	"github.com/ocicache/ocicache/compression"
)

func TestDetect(t *testing.T) {
	for _, test := range []struct {
		name, prefix string
		want         compression.Format
	}{
		{"empty", "", compression.Plain},
		{"tar", "usr/", compression.Plain},
		{"zeros", "\x00\x00\x00\x00", compression.Plain},
		{"gzip", "\x1f\x8b\x08\x00", compression.Gzip},
		{"gzip, no flags yet", "\x1f\x8b\x08", compression.Gzip},
		{"gzip, too short", "\x1f\x8b", compression.Plain},
		{"gzip, unknown method", "\x1f\x8b\x07\x00", compression.Plain},
		{"compress", "\x1f\x9d\x90\x00", compression.Plain},
		{"zstd", "\x28\xb5\x2f\xfd", compression.Zstd},
		{"zstd, too short", "\x28\xb5\x2f", compression.Plain},
		{"zstd, more", "\x28\xb5\x2f\xfd\x00\x00", compression.Zstd},
		{"zstd 0.7", "\x27\xb5\x2f\xfd", compression.Plain},
		{"skippable, first", "\x50\x2a\x4d\x18", compression.Zstd},
		{"skippable, last", "\x5f\x2a\x4d\x18", compression.Zstd},
		{"below skippable", "\x4f\x2a\x4d\x18", compression.Plain},
		{"above skippable", "\x60\x2a\x4d\x18", compression.Plain},
		{"skippable, too short", "\x50\x2a\x4d", compression.Plain},
		{"skippable, big endian", "\x18\x4d\x2a\x50", compression.Plain},
		{"xz", "\xfd7zX", compression.Plain},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := compression.Detect([]byte(test.prefix)); got != test.want {
				t.Errorf("Detect(%q) = %q, want %q", test.prefix, got, test.want)
			}
		})
	}
}

func FuzzDetect(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("\x1f\x8b\x08\x00\x00"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x00"))
	f.Add([]byte("\x55\x2a\x4d\x18\x00"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		got := compression.Detect(blob)
		switch got {
		case compression.Plain, compression.Gzip, compression.Zstd:
		default:
			t.Errorf("Detect(%q) = %q, which is no format", blob, got)
		}
		prefix := blob[:min(len(blob), compression.DetectLen)]
		if want := compression.Detect(prefix); got != want {
			t.Errorf("Detect(%q) = %q, but %q by the first bytes alone", blob, got, want)
		}
	})
}
