//go:build unix

package cache_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

const limitVar = "OCICACHE_TEST_FILE_LIMIT"

// The system refuses writes in the middle of a blob, with readers of both
// forms at different offsets: each gets its bytes. It runs in a process of
// its own, whose files may not grow past a limit.
func TestWriteFailsHalfway(t *testing.T) {
	if os.Getenv(limitVar) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestWriteFailsHalfway$", "-test.v")
		cmd.Env = append(os.Environ(), limitVar+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestWriteFailsHalfway") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	const limit = 1 << 20
	signal.Ignore(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	want := makeLayer(1, 8_000_000)
	if len(want.blob) <= limit {
		t.Fatalf("the blob has %d bytes, and would fit", len(want.blob))
	}
	c := open(t)
	gate := make(chan struct{})
	slow := func() (io.ReadCloser, error) {
		rest := &gatedReader{r: bytes.NewReader(want.blob[400_000:]), gate: gate}
		return io.NopCloser(io.MultiReader(bytes.NewReader(want.blob[:400_000]), rest)), nil
	}
	type reader struct {
		rc   io.ReadCloser
		want []byte
	}
	var readers []reader
	for _, off := range []int{0, 1, 70_000, 300_000} {
		for _, form := range []struct {
			open func(v1.Layer) (io.ReadCloser, error)
			want []byte
		}{{v1.Layer.Compressed, want.blob}, {v1.Layer.Uncompressed, want.tar}} {
			l := fake(want)
			l.compressed = slow
			rc, err := form.open(c.Layer(l))
			if err != nil {
				t.Fatal(err)
			}
			defer rc.Close()
			head := make([]byte, off)
			if _, err := io.ReadFull(rc, head); err != nil || !bytes.Equal(head, form.want[:off]) {
				t.Fatalf("first %d bytes: %v", off, err)
			}
			readers = append(readers, reader{rc, form.want[off:]})
		}
	}
	close(gate)
	for i, r := range readers {
		if got, err := io.ReadAll(r.rc); err != nil || !bytes.Equal(got, r.want) {
			t.Errorf("reader %d: %d more bytes, %v; want %d", i, len(got), err, len(r.want))
		}
	}
	if s := c.Stats(); s.WriteFaults == 0 || s.Fallbacks == 0 {
		t.Errorf("nothing failed, and the test tests nothing: %+v", s)
	}
	wantNotFound(t, c, want.digest())
	small := makeLayer(2, 10_000)
	checkForms(t, c.Layer(fake(small)), small)
	checkForms(t, mustGet(t, c, small.diffID()), small)
}
