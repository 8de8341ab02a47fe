package compression_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"

	"github.com/ocicache/ocicache/compression"
)

// streams are small compressed streams. Between their parts, and nowhere else,
// they can end and be complete.
func streams(tb testing.TB) map[string][][]byte {
	text := strings.Repeat("container image layer ", 40)
	zframe := compress(tb, compression.Settings{Format: compression.Zstd}, []byte(text))
	return map[string][][]byte{
		"one gzip member": {member(tb, stdgzip.Header{}, 9, text)},
		"gzip members": {
			member(tb, stdgzip.Header{}, 1, text),
			member(tb, stdgzip.Header{Name: "name", Comment: "comment", Extra: []byte("extra")}, 6, "b"),
			member(tb, stdgzip.Header{}, 6, ""),
			member(tb, stdgzip.Header{Name: "name"}, 0, text),
		},
		"one zstd frame":  {zframe},
		"zstd frames":     {zframe, rawFrame(0, "raw"), zframe},
		"skippable":       {skippable(0, "nothing else")},
		"skippable first": {skippable(0xf, ""), zframe},
		"zstd:chunked":    {skippable(1, "x"), zframe, rawFrame(0, ""), skippable(5, "y"), zframe, skippable(0, `{"version":1}`), skippable(0, "footer")},
	}
}

func TestReaderFormats(t *testing.T) {
	data := tarLike(t, 300_000)
	gz := compress(t, compression.Settings{Format: compression.Gzip, BlockSize: 1 << 16}, data)
	zst := compress(t, compression.Settings{Format: compression.Zstd}, data)
	half := len(data) / 2
	for _, test := range []struct {
		name   string
		blob   []byte
		format compression.Format
		want   []byte
	}{
		{"empty", nil, compression.Plain, nil},
		{"one byte", []byte("x"), compression.Plain, []byte("x")},
		{"half a magic", []byte("\x1f\x8b"), compression.Plain, []byte("\x1f\x8b")},
		{"tar", data, compression.Plain, data},
		{"gzip", gz, compression.Gzip, data},
		{"gzip of nothing", member(t, stdgzip.Header{}, 6, ""), compression.Gzip, nil},
		{"gzip twice", concat(gz, gz), compression.Gzip, concat(data, data)},
		{"gzip in gzip", compress(t, compression.DefaultSettings(), gz), compression.Gzip, gz},
		{"zstd", zst, compression.Zstd, data},
		{"zstd twice", concat(zst, zst), compression.Zstd, concat(data, data)},
		{"zstd, skippable at start", concat(skippable(0, "a"), zst), compression.Zstd, data},
		{"zstd, skippable at end", concat(zst, skippable(0xf, string(gz))), compression.Zstd, data},
		{"zstd, skippable in the middle", concat(
			compress(t, compression.Settings{Format: compression.Zstd}, data[:half]), skippable(7, string(zst)),
			compress(t, compression.Settings{Format: compression.Zstd, Level: 19}, data[half:])), compression.Zstd, data},
		{"skippable alone", skippable(0, "a"), compression.Zstd, nil},
		{"zstd, window of 128 MiB", rawFrame(17<<3, "wide"), compression.Zstd, []byte("wide")},
	} {
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"whole":          func(r io.Reader) io.Reader { return r },
			"byte by byte":   iotest.OneByteReader,
			"in halves":      iotest.HalfReader,
			"data with EOF":  iotest.DataErrReader,
			"a bytes.Buffer": func(io.Reader) io.Reader { return bytes.NewBuffer(test.blob) },
		} {
			t.Run(test.name+"/"+how, func(t *testing.T) {
				src := bytes.NewReader(test.blob)
				got, format, err := decompress(wrap(src))
				if err != nil || format != test.format || !bytes.Equal(got, test.want) {
					t.Fatalf("got %d bytes of %q, error %v; want %d bytes of %q", len(got), format, err, len(test.want), test.format)
				}
				if how != "a bytes.Buffer" && src.Len() != 0 {
					t.Errorf("%d bytes of the input were not read", src.Len())
				}
			})
		}
	}
}

func TestReaderWriteTo(t *testing.T) {
	data := tarLike(t, 1_000_000)
	var manyMembers []byte
	for part := data; len(part) > 0; part = part[min(len(part), 777):] {
		manyMembers = append(manyMembers, member(t, stdgzip.Header{}, 1, string(part[:min(len(part), 777)]))...)
	}
	for name, blob := range map[string][]byte{
		"plain":             data,
		"gzip":              compress(t, compression.DefaultSettings(), data),
		"many gzip members": manyMembers,
		"zstd":              compress(t, compression.Settings{Format: compression.Zstd}, data),
	} {
		t.Run(name, func(t *testing.T) {
			zr, err := compression.NewReader(iotest.HalfReader(bytes.NewReader(blob)))
			if err != nil {
				t.Fatal(err)
			}
			defer zr.Close()
			head := make([]byte, 1000)
			if _, err := io.ReadFull(zr, head); err != nil {
				t.Fatal(err)
			}
			w := &recorder{failAt: -1}
			n, err := io.Copy(w, zr)
			if want := int64(len(data) - len(head)); n != want || err != nil {
				t.Fatalf("io.Copy = %d, %v; want %d, nil", n, err, want)
			}
			if got := concat(head, w.Bytes()); !bytes.Equal(got, data) {
				t.Error("the bytes differ")
			}
			for i, size := range w.sizes {
				if last := i == len(w.sizes)-1; size > 64<<10 || size < 16<<10 && !last {
					t.Errorf("write %d of %d is of %d bytes", i, len(w.sizes), size)
				}
			}
			if n, err := zr.WriteTo(w); n != 0 || err != nil {
				t.Errorf("a second WriteTo = %d, %v; want 0, nil", n, err)
			}
			if n, err := zr.Read(head); n != 0 || err != io.EOF {
				t.Errorf("Read after it = %d, %v; want 0, EOF", n, err)
			}
		})
	}
}

func TestReaderWriteToFails(t *testing.T) {
	blob := compress(t, compression.DefaultSettings(), tarLike(t, 300_000))
	for name, test := range map[string]struct {
		w    *recorder
		want error
	}{
		"error": {&recorder{failAt: 1, err: errBoom}, errBoom},
		"short": {&recorder{failAt: 1}, io.ErrShortWrite},
	} {
		t.Run(name, func(t *testing.T) {
			zr, err := compression.NewReader(bytes.NewReader(blob))
			if err != nil {
				t.Fatal(err)
			}
			defer zr.Close()
			n, err := zr.WriteTo(test.w)
			if n != int64(test.w.Len()) || err != test.want {
				t.Errorf("WriteTo = %d, %v; want %d, %v", n, err, test.w.Len(), test.want)
			}
			if _, err := zr.Read(make([]byte, 1)); err != test.want {
				t.Errorf("Read after it: %v; want %v", err, test.want)
			}
		})
	}
}

// Truncation is found wherever it happens. The library alone does not: see
// gzipReader.
func TestReaderTruncated(t *testing.T) {
	for name, parts := range streams(t) {
		t.Run(name, func(t *testing.T) {
			complete := map[int]bool{}
			for i := range parts {
				complete[len(concat(parts[:i+1]...))] = true
			}
			blob := concat(parts...)
			for n := compression.DetectLen; n <= len(blob); n++ {
				_, _, err := decompress(bytes.NewReader(blob[:n]))
				switch {
				case complete[n]:
					if err != nil {
						t.Errorf("the first %d bytes of %d: %v", n, len(blob), err)
					}
				case !errors.Is(err, compression.ErrCorrupt) || !errors.Is(err, io.ErrUnexpectedEOF):
					t.Errorf("the first %d bytes of %d: error %v; want ErrCorrupt and ErrUnexpectedEOF", n, len(blob), err)
				}
			}
		})
	}
}

// An error of the underlying reader is not corruption, also when it is the
// io.ErrUnexpectedEOF of a cut HTTP body, and also between frames.
func TestReaderSourceError(t *testing.T) {
	all := streams(t)
	all["plain"] = [][]byte{[]byte("just some text")}
	for name, parts := range all {
		for _, want := range []error{errBoom, io.ErrUnexpectedEOF} {
			t.Run(name+"/"+want.Error(), func(t *testing.T) {
				blob := concat(parts...)
				for n := 0; n <= len(blob); n++ {
					r := io.MultiReader(bytes.NewReader(blob[:n]), iotest.ErrReader(want))
					if _, _, err := decompress(r); err != want {
						t.Errorf("after %d bytes of %d: error %v; want %v, unchanged", n, len(blob), err, want)
					}
				}
			})
		}
	}
}

func TestReaderCorrupt(t *testing.T) {
	gz := member(t, stdgzip.Header{}, 6, "some text")
	zst := compress(t, compression.Settings{Format: compression.Zstd}, []byte("some text"))
	for name, blob := range map[string][]byte{
		"gzip, then text":           concat(gz, []byte("trailing garbage")),
		"gzip, then a byte":         concat(gz, []byte("x")),
		"gzip, then zeros":          concat(gz, make([]byte, 512)),
		"gzip, then zstd":           concat(gz, zst),
		"gzip, wrong checksum":      flip(gz, len(gz)-8),
		"gzip, wrong size":          flip(gz, len(gz)-1),
		"gzip, wrong data":          flip(gz, len(gz)-12),
		"gzip, reserved flag":       flip(gz, 3),
		"zstd, then text":           concat(zst, []byte("trailing garbage")),
		"zstd, then a byte":         concat(zst, []byte("x")),
		"zstd, then zeros":          concat(zst, make([]byte, 512)),
		"zstd, then gzip":           concat(zst, gz),
		"zstd, wrong checksum":      flip(zst, len(zst)-1),
		"zstd, window above limit":  rawFrame(17<<3|1, "wide"),
		"zstd, largest window":      rawFrame(0xff, "wide"),
		"zstd, large single frame":  []byte("\x28\xb5\x2f\xfd\xe0\x00\x00\x00\x00\x00\x00\x00\x7f\x00\x00\x00"),
		"zstd, unknown dictionary":  []byte("\x28\xb5\x2f\xfd\x01\x00\x07\x09\x00\x00x"),
		"zstd, reserved block type": []byte("\x28\xb5\x2f\xfd\x00\x00\x0f\x00\x00x"),
	} {
		t.Run(name, func(t *testing.T) {
			_, format, err := decompress(bytes.NewReader(blob))
			if !errors.Is(err, compression.ErrCorrupt) || !strings.Contains(err.Error(), string(format)) {
				t.Errorf("error %v; want ErrCorrupt that names %q", err, format)
			}
		})
	}
}

func TestReaderClose(t *testing.T) {
	data := tarLike(t, 300_000)
	for _, s := range allSettings() {
		t.Run(s.String(), func(t *testing.T) {
			src := bytes.NewReader(compress(t, s, data))
			zr, err := compression.NewReader(src)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(zr, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := zr.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
			if n, err := zr.Read(make([]byte, 100)); n != 0 || err == nil || err == io.EOF {
				t.Errorf("Read after Close = %d, %v; want an error", n, err)
			}
			if n, err := zr.WriteTo(io.Discard); n != 0 || err == nil {
				t.Errorf("WriteTo after Close = %d, %v; want an error", n, err)
			}
			if zr.Format() != s.Format {
				t.Errorf("Format after Close = %q, want %q", zr.Format(), s.Format)
			}
		})
	}
}

// An eStargz layer is gzip members, one or more a file, then one with the table
// of contents, then a footer of 51 bytes. It decompresses to its diffID by any
// gzip reader.
func TestReaderEStargz(t *testing.T) {
	data := string(tarLike(t, 300_000))
	var blob []byte
	for part := data; part != ""; part = part[min(len(part), 10_000):] {
		blob = append(blob, member(t, stdgzip.Header{}, 9, part[:min(len(part), 10_000)])...)
	}
	tocOffset := len(blob)
	blob = append(blob, member(t, stdgzip.Header{}, 9, "stargz.index.json\x00 as a tar entry, then the end marker")...)
	subfield := fmt.Sprintf("%016xSTARGZ", tocOffset)
	footer := member(t, stdgzip.Header{Extra: append([]byte{'S', 'G', byte(len(subfield)), 0}, subfield...)}, stdgzip.NoCompression, "")
	if len(footer) != 51 {
		t.Fatalf("the footer is of %d bytes, want 51", len(footer))
	}
	blob = append(blob, footer...)

	std, err := stdgzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	want, err := io.ReadAll(std)
	if err != nil {
		t.Fatal(err)
	}
	got, format, err := decompress(bytes.NewReader(blob))
	if err != nil || format != compression.Gzip || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes of %q, error %v; want %d bytes of gzip", len(got), format, err, len(want))
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("just some text"))
	for _, parts := range streams(f) {
		f.Add(concat(parts...))
		f.Add(concat(parts[0], []byte("garbage")))
	}
	f.Add(rawFrame(17<<3|1, "wide"))
	f.Add([]byte("\x1f\x8b\b@\x00\x00\x00\x00\x02\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00")) // a reserved flag
	f.Fuzz(func(t *testing.T, blob []byte) {
		const limit = 16 << 20
		zr, err := compression.NewReader(bytes.NewReader(blob))
		if err != nil {
			t.Fatalf("NewReader: %v, but its reader has no errors", err)
		}
		defer zr.Close()
		got, err := io.ReadAll(io.LimitReader(zr, limit))
		if err != nil && !errors.Is(err, compression.ErrCorrupt) {
			t.Errorf("error %v is not ErrCorrupt", err)
		}
		want, wantErr := blob, error(nil)
		switch zr.Format() {
		case compression.Zstd:
			return
		case compression.Gzip:
			want, wantErr = gunzip(blob, limit)
		}
		if wantErr == nil && errors.Is(err, gzip.ErrHeader) {
			return // reserved flags are set, which RFC 1952 has refused, and the standard library passes over
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, want %d others", len(got), len(want))
		}
	})
}

// gunzip is what the standard library makes of blob.
func gunzip(blob []byte, limit int64) ([]byte, error) {
	zr, err := stdgzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(zr, limit))
}

// flip returns blob with the bits of byte i turned over.
func flip(blob []byte, i int) []byte {
	blob = bytes.Clone(blob)
	blob[i] ^= 0xff
	return blob
}
