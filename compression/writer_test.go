package compression_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/ocicache/ocicache/compression"
)

var errBoom = errors.New("boom")

// recorder is a writer that keeps what it is given and fails at one call, with
// err or, if that is nil, by writing too little.
type recorder struct {
	bytes.Buffer
	sizes  []int
	failAt int
	err    error
}

func (r *recorder) Write(p []byte) (int, error) {
	i := len(r.sizes)
	r.sizes = append(r.sizes, len(p))
	if i == r.failAt {
		n, _ := r.Buffer.Write(p[:len(p)/2])
		return n, r.err
	}
	return r.Buffer.Write(p)
}

// allSettings is every kind of compressing there is.
func allSettings() []compression.Settings {
	all := []compression.Settings{{Format: compression.Plain}, compression.DefaultSettings()}
	for level := 1; level <= 9; level++ {
		all = append(all, compression.Settings{Format: compression.Gzip, Level: level, BlockSize: 1 << 16})
	}
	for _, level := range []int{1, 3, 6, 10} {
		all = append(all, compression.Settings{Format: compression.Zstd, Level: level})
	}
	return all
}

func TestWriterRoundTrip(t *testing.T) {
	data := tarLike(t, 300_000)
	for _, s := range allSettings() {
		for _, size := range []int{0, 1, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1 << 17, len(data)} {
			t.Run(fmt.Sprintf("%v/%d", s, size), func(t *testing.T) {
				blob := compress(t, s, data[:size])
				got, format, err := decompress(bytes.NewReader(blob))
				if err != nil || !bytes.Equal(got, data[:size]) {
					t.Errorf("got %d bytes, error %v; want %d", len(got), err, size)
				}
				if format != s.Format {
					t.Errorf("format %q, want %q", format, s.Format)
				}
			})
		}
	}
}

// The bytes depend on nothing but the input and the settings.
func TestWriterDeterministic(t *testing.T) {
	data := tarLike(t, 400_000)
	ways := map[string]func(io.Writer) error{
		"one write": func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		},
		"many writes": func(w io.Writer) error {
			for part := data; len(part) > 0; part = part[min(len(part), 7919):] {
				if _, err := w.Write(part[:min(len(part), 7919)]); err != nil {
					return err
				}
			}
			return nil
		},
		"write and copy": func(w io.Writer) error {
			if _, err := w.Write(data[:1000]); err != nil {
				return err
			}
			_, err := io.Copy(w, struct{ io.Reader }{bytes.NewReader(data[1000:])}) // no WriteTo
			return err
		},
	}
	for _, s := range allSettings() {
		t.Run(s.String(), func(t *testing.T) {
			want := sha256.Sum256(compress(t, s, data))
			for _, procs := range []int{1, 2} {
				withProcs(procs, func() {
					for way, write := range ways {
						h := sha256.New()
						zw, err := compression.NewWriter(h, s)
						if err != nil {
							t.Fatal(err)
						}
						if err := errors.Join(write(zw), zw.Close()); err != nil {
							t.Fatal(err)
						}
						if got := h.Sum(nil); !bytes.Equal(got, want[:]) {
							t.Errorf("%s with GOMAXPROCS=%d gives other bytes", way, procs)
						}
					}
				})
			}
		})
	}
}

func withProcs(n int, f func()) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
	f()
}

// If this fails after an update of a dependency, settings that were recorded
// before no longer make the same bytes. Then the encoder needs another name
// (the by= of Settings.String).
func TestWriterSameBytesAsEver(t *testing.T) {
	// Letters, and copies of what came up to 64 KiB before.
	data := make([]byte, 3<<20)
	state := uint64(1)
	for i := 0; i < len(data); {
		state = state*6364136223846793005 + 1442695040888963407
		if back := int(state >> 44 & 0xffff); state>>60 < 4 && back >= 200 && back <= i {
			i += copy(data[i:], data[i-back:][:state>>36&0x7f])
			continue
		}
		data[i] = 'a' + byte(state>>61)*byte(state>>33%3)
		i++
	}
	for _, test := range []struct{ settings, want string }{
		{"gzip;level=1;block=1048576;by=pgzip", "bb376408b93a2996a5090cb800161708397f58ae77a7725facc9851d4a1093c2"},
		{"gzip;level=6;block=131072;by=pgzip", "80629ffe5089841d314eaafa99a2119a1861a18cf388423dd3bcb4979433d7d7"},
		{"gzip;level=9;block=1048576;by=pgzip", "9be57354f1a72d450481cb8edf792277de683cac40e4f567f66eb4b27eaee1d7"},
		{"zstd;level=3;by=klauspost", "b2e0649a9a1340d258d74df703f2922f8f617dc0258b28994393de8b15cef3e4"},
		{"zstd;level=10;by=klauspost", "e92fe3e944e5932c7591ed2f9a5f8d83186fc67f955c9e6bcdadcd669a882bc1"},
	} {
		t.Run(test.settings, func(t *testing.T) {
			s, err := compression.ParseSettings(test.settings)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%x", sha256.Sum256(compress(t, s, data))); got != test.want {
				t.Errorf("the compressed bytes are %s, want %s", got, test.want)
			}
		})
	}
}

// Let call i of w fail, for i = 0, 1, 2, … until nothing fails. Each bubble
// also fails the test if a goroutine is left waiting when it ends.
func TestWriterFailingWriter(t *testing.T) {
	data := tarLike(t, 150_000)
	for _, s := range allSettings() {
		for _, want := range []error{errBoom, io.ErrShortWrite} {
			t.Run(fmt.Sprintf("%v/%v", s, want), func(t *testing.T) {
				for i, failed := 0, true; failed; i++ {
					w := &recorder{failAt: i, err: want}
					if want == io.ErrShortWrite {
						w.err = nil
					}
					synctest.Test(t, func(t *testing.T) { failed = writeAll(t, w, s, data, want) })
				}
			})
		}
	}
}

// writeAll compresses data to w and reports whether that failed. If it does, it
// has to do so with want, for good, and without more calls of w.
func writeAll(t *testing.T, w *recorder, s compression.Settings, data []byte, want error) bool {
	zw, err := compression.NewWriter(w, s)
	if err != nil {
		t.Fatal(err)
	}
	var writeErr error
	for part := data; len(part) > 0 && writeErr == nil; part = part[min(len(part), 50_000):] {
		_, writeErr = zw.Write(part[:min(len(part), 50_000)])
	}
	closeErr := zw.Close()
	calls := len(w.sizes)
	if calls <= w.failAt {
		if writeErr != nil || closeErr != nil {
			t.Errorf("w did not fail, but Write: %v, Close: %v", writeErr, closeErr)
		}
		return false
	}
	if writeErr != nil && writeErr != want {
		t.Errorf("Write: %v, want %v", writeErr, want)
	}
	if closeErr != want {
		t.Errorf("Close: %v, want %v", closeErr, want)
	}
	if err := zw.Close(); err != want {
		t.Errorf("Close again: %v, want %v", err, want)
	}
	if _, err := zw.Write(data); err != want {
		t.Errorf("Write after it: %v, want %v", err, want)
	}
	if len(w.sizes) != calls {
		t.Error("w was called after Close")
	}
	return true
}

// A writer that is closed early leaves no goroutine waiting, or the bubble fails
// the test.
func TestWriterClose(t *testing.T) {
	data := tarLike(t, 300_000)
	for _, s := range allSettings() {
		for _, size := range []int{0, 10, len(data)} {
			t.Run(fmt.Sprintf("%v/%d", s, size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := &recorder{failAt: -1}
					zw, err := compression.NewWriter(w, s)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := zw.Write(data[:size]); err != nil {
						t.Fatal(err)
					}
					if err := zw.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
					n := w.Len()
					if err := zw.Close(); err != nil {
						t.Errorf("Close again: %v", err)
					}
					if _, err := zw.Write(data); err == nil {
						t.Error("Write after Close: no error")
					}
					if w.Len() != n {
						t.Error("w was written to after Close")
					}
				})
			})
		}
	}
}

// A writer that nobody closes loses its goroutines to the garbage collector.
func TestWriterDropped(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 10 {
		zw, err := compression.NewWriter(io.Discard, compression.DefaultSettings())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := zw.Write(make([]byte, 3<<20)); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if i == 10_000 {
			t.Fatalf("%d goroutines, want %d", runtime.NumGoroutine(), before)
		}
		runtime.GC()
		runtime.Gosched()
	}
}

func TestNewWriterRefuses(t *testing.T) {
	for _, s := range badSettings {
		if zw, err := compression.NewWriter(io.Discard, s); err == nil {
			zw.Close()
			t.Errorf("NewWriter(%+v): no error", s)
		}
	}
}
