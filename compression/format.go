// Package compression detects, reads and writes the compressed forms of
// container layers: gzip, zstd and none. It also maps their media types, and
// records what is needed to write the same compressed bytes again.
//
// It never touches files, and it never believes a media type about what the
// bytes are: [NewReader] looks at the bytes.
//
// eStargz and zstd:chunked layers need nothing of their own here. The first is
// a gzip file of many members, the second a zstd file of many frames with its
// table of contents in skippable ones, and both decompress to what their
// diffID names.
package compression

import "bytes"

// Format is how a blob's bytes are compressed.
type Format string

// The formats. Their values are recorded (see [Settings.String]) and stay.
const (
	Plain Format = "plain" // not compressed, or by something this package does not read
	Gzip  Format = "gzip"  // RFC 1952, of any number of members
	Zstd  Format = "zstd"  // RFC 8878, of any number of frames
)

// DetectLen is how many bytes of a blob are enough for [Detect].
const DetectLen = 4

// Detect tells a blob's format from its first bytes, of which it looks at
// [DetectLen] at most. A prefix that is too short to hold a format's magic
// number is Plain, so an empty blob is Plain.
func Detect(prefix []byte) Format {
	switch {
	case bytes.HasPrefix(prefix, gzipMagic):
		return Gzip
	case bytes.HasPrefix(prefix, zstdMagic), isSkippable(prefix):
		return Zstd
	}
	return Plain
}

var (
	// The third byte is the compression method, and RFC 1952 knows no other
	// than deflate. containerd and BuildKit look at it too.
	gzipMagic = []byte{0x1f, 0x8b, 0x08}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// isSkippable reports whether prefix begins a skippable frame, which may come
// before the first zstd frame: 0x184D2A50 to 0x184D2A5F, little endian (RFC
// 8878, section 3.1.2).
func isSkippable(prefix []byte) bool {
	return len(prefix) >= 4 && prefix[0]&0xf0 == 0x50 &&
		prefix[1] == 0x2a && prefix[2] == 0x4d && prefix[3] == 0x18
}
