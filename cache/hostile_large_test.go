package cache_test

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// sparse makes a file of text, then NULs that take no room on the disk up to
// a size, then more text.
func sparse(t *testing.T, path, before string, size int64, after string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.WriteString(before)
	terr := f.Truncate(size)
	_, aerr := f.WriteAt([]byte(after), size)
	if err := errors.Join(err, terr, aerr, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// allocated returns how many bytes fn allocated in all, whether they were let
// go of again or not: more than it can have held.
func allocated(fn func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// heap returns the bytes in use, after collecting what is not.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// many returns n, or a tenth of it under the race detector, which makes
// reading a large index twenty times slower and finds no more in it.
func many(n int) int {
	if isRace() {
		return n / 10
	}
	return n
}

const manyBytes = 64 << 20 // of memory, for what asks for more

// Files that a cache does not open, and what it says of them.
func TestHostileFilesRefused(t *testing.T) {
	deep := func(n int, open, end string) string {
		return strings.Repeat(open, n) + "1" + strings.Repeat(end, n)
	}
	head, _, _ := strings.Cut(indexOf(), "[\n")
	for _, tc := range []struct {
		name, file, text string
		nulls            int64
		want             error
		says             string
	}{
		{"deep lists", "index.json", `{"x":` + deep(1_000_000, "[", "]") + "}", 0, cache.ErrMalformed, "line 1, column "},
		{"deep objects", "index.json", "{\n\"manifests\":[\n" + deep(50_000, `{"a":`, "}") + "]}", 0, cache.ErrMalformed, "line 3, column "},
		{"deep in our own form", "index.json", head + "[\n" + deep(50_000, "[", "]") + "\n]}\n", 0, cache.ErrMalformed, "line 2, column "},
		{"deep and cut short", "index.json", strings.Repeat("[", 1_000_000), 0, cache.ErrMalformed, "line 1, column "},
		{"a string without an end", "index.json", "{\n\"" + strings.Repeat("x", 1<<16), 0, cache.ErrMalformed, "line 2, column "},
		{"NULs", "index.json", "", 4096, cache.ErrMalformed, "line 1, column 1"},
		{"NULs in the list", "index.json", head + "[\n" + foreignEntry, 1 << 20, cache.ErrMalformed, "line 2, column "},
		{"NULs after the end", "index.json", indexOf(), 1 << 20, cache.ErrMalformed, "line 4, column 1"},
		{"over a GiB of NULs", "index.json", "", 1<<30 + 1, cache.ErrMalformed, "index.json"},
		{"numbers that are none", "index.json", `{"schemaVersion":2e999}`, 0, cache.ErrMalformed, "line 1, column "},
		{"oci-layout of a GiB", "oci-layout", hostileLayout, 1 << 30, cache.ErrNotLayout, "oci-layout"},
		{"oci-layout of NULs", "oci-layout", "", 1 << 30, cache.ErrNotLayout, "oci-layout"},
		{"oci-layout, deep", "oci-layout", deep(50_000, "[", "]"), 0, cache.ErrNotLayout, "oci-layout"},
		{"oci-layout, a long version", "oci-layout", `{"imageLayoutVersion":"` + strings.Repeat("9", 2000) + `"}`, 0, cache.ErrVersion, "imageLayoutVersion"},
		{"version of a GiB", ".ocicache/version", "1\n", 1 << 30, cache.ErrVersion, "version"},
		{"version of NULs", ".ocicache/version", "", 1 << 30, cache.ErrVersion, "version"},
		{"version, a long one", ".ocicache/version", strings.Repeat("9", 1<<20), 0, cache.ErrVersion, "version"},
		{"journal of another version", ".ocicache/journal", `{"version":2,"generation":"g"}` + "\n", 1 << 30, cache.ErrVersion, "journal"},
		{"old journal of another version", ".ocicache/journal.old", `{"version":-1,"generation":"g"}` + "\n", 1 << 30, cache.ErrVersion, "journal.old"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := hostileDir(t, map[string]string{tc.file: tc.text})
			path := filepath.Join(dir, filepath.FromSlash(tc.file))
			if tc.nulls > 0 {
				sparse(t, path, tc.text, tc.nulls, "")
			}
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			for n, opts := range [][]cache.Option{nil, {cache.WithReadOnly()}} {
				if n > 0 && tc.file == "index.json" {
					break // each time it is waited for
				}
				var c *cache.Cache
				got := allocated(func() { c, err = cache.Open(dir, opts...) })
				if err == nil {
					c.Close()
				}
				if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), dir) {
					t.Errorf("got %.300v, want %v that names %s and the directory", err, tc.want, tc.says)
				}
				if err != nil && len(err.Error()) > 1000 {
					t.Errorf("the error is of %d bytes", len(err.Error()))
				}
				if limit := 41 * (manyBytes / 4); got > int64(limit) { // an index is looked at that often before it is given up
					t.Errorf("%d bytes were allocated, want at most %d", got, limit)
				}
			}
			if after, err := os.Stat(path); err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
				t.Errorf("the file was touched: %v", err)
			}
			if tc.file != "index.json" {
				return
			}
			c := openDir(t, dir, cache.WithRecovery())
			want := makeLayer(1, 3000)
			checkForms(t, c.Layer(fake(want)), want)
		})
	}
}

// Journals of any content open. What is a record counts, whatever stands
// around it.
func TestHostileJournal(t *testing.T) {
	a, b := makeLayer(1, 3000), makeLayer(2, 3000)
	record := func(n string, l content) string {
		return `{"n":` + n + `,"put":` + item(l.digest().String(), itoa(len(l.blob)), "diffid="+l.diffID().String()) + "}\n"
	}
	long := strings.Repeat("x", 1<<19)
	for _, tc := range []struct {
		name, before string
		nulls        int64 // up to which size
		after        string
		listed       bool // a is, by a record after all that
	}{
		{"a line of a GB", hostileHeader, 1_000_000_000, "\n" + record("2", a), true},
		{"a line of 100 MB", hostileHeader + record("1", b), 100_000_000, "\n" + record("2", a), true},
		{"a torn line of 100 MB", hostileHeader + record("1", a), 100_000_000, "", true},
		{"a header of 100 MB", "{", 100_000_000, "\n" + record("2", a), false},
		{"a record of 100 MB", hostileHeader + `{"n":1,"put":`, 100_000_000, "}\n" + record("2", a), true},
		{"no header", "", 0, record("1", a), false},
		{"an empty line", "\n", 0, record("1", a), false},
		{"a header that is no JSON", "header\n", 0, record("1", a), false},
		{"a header that is a list", "[]\n", 0, record("1", a), false},
		{"a header without a generation", `{"version":1}` + "\n", 0, record("1", a), false},
		{"a header of other types", `{"version":"1","generation":1}` + "\n", 0, record("1", a), false},
		{"a header of a long generation", `{"version":1,"generation":"` + strings.Repeat("g", 5000) + `"}` + "\n", 0, record("1", a), false},
		{"a version out of range", `{"version":1e99,"generation":"g"}` + "\n", 0, record("1", a), false},
		{"a generation of signs", `{"version":1,"generation":"\u0000\":\u2028","previous":"\":"}` + "\n", 0, record("1", a), true},
		{"NUL bytes", hostileHeader + "\x00\x00\n", 0, record("1", a), true},
		{"two headers", hostileHeader + hostileHeader, 0, record("1", a), true},
		{"numbers out of range", hostileHeader + record("-1", b) + record("18446744073709551616", b) + record("1e3", b) + record("", b), 0, record("1", a), true},
		{"the largest number", hostileHeader + record("4611686018427387904", b), 0, record("1", a), true},
		{"numbers that fall", hostileHeader + record("9", b) + record("5", b), 0, record("1", a), true},
		{"a deep record", hostileHeader + `{"n":1,"put":` + strings.Repeat("[", 400_000) + strings.Repeat("]", 400_000) + "}\n", 0, record("2", a), true},
		{"a deep record of another", hostileHeader + `{"n":1,"list":{"digest":"x","y":` + strings.Repeat("[", 400_000) + strings.Repeat("]", 400_000) + "}}\n", 0, record("2", a), true},
		{"long lines of other tools", hostileHeader + `{"n":1,"list":{"digest":"x","y":"` + long + `"}}` + "\n", 0, record("2", a), true},
		{"records that are none", hostileHeader + `{"n":1,"put":{}}` + "\n" + `{"n":2,"put":null}` + "\n" + `{"n":3,"delete":"sha256:../../x"}` + "\n" + `{"n":4}` + "\n" + `{"n":5,"list":[]}` + "\n", 0, record("6", a), true},
		{"a path that is deleted", hostileHeader + `{"n":1,"delete":{"Algorithm":"..","Hex":"x"}}` + "\n" + `{"n":2,"delete":"../..:x"}` + "\n", 0, record("3", a), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := hostileDir(t, withBlobs(indexOf(), tc.before+tc.after, a, b))
			if tc.nulls > 0 {
				sparse(t, filepath.Join(dir, ".ocicache", "journal"), tc.before, tc.nulls, tc.after)
			}
			var c *cache.Cache
			if got := allocated(func() { c = openDir(t, dir) }); got > manyBytes {
				t.Errorf("opening allocated %d bytes, want at most %d", got, manyBytes)
			}
			if _, err := c.Get(a.digest()); (err == nil) != tc.listed {
				t.Errorf("Get: %v, want it listed: %v", err, tc.listed)
			}
			for _, h := range []v1.Hash{a.digest(), a.diffID(), b.digest(), b.diffID()} {
				checkServed(t, c, h, honest, false)
			}
			checkUsable(t, dir, c, honest, makeLayer(3, 3000), a)
		})
	}
}

// An index of a million entries opens, in time and memory that are logged.
func TestHostileMillion(t *testing.T) {
	const limit = 1 << 30
	n := many(1_000_000)
	a := makeLayer(1, 3000)
	dir := hostileDir(t, withBlobs("", "", a))
	f, err := os.Create(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	head, _, _ := strings.Cut(indexOf(), foreignEntry)
	must(fmt.Fprint(w, head, foreignEntry, ",\n", item(a.digest().String(), itoa(len(a.blob)), "diffid="+a.diffID().String(), "pair=verified", mtime)))
	rnd := rand.NewChaCha8([32]byte{})
	var sum [64]byte
	for range n {
		must(rnd.Read(sum[:]))
		must(fmt.Fprintf(w, ",\n"+`{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":5,"digest":"sha256:%s","annotations":{"dev.ggcr.cache.diffid":"sha256:%s"}}`,
			hex.EncodeToString(sum[:32]), hex.EncodeToString(sum[32:])))
	}
	must(fmt.Fprint(w, "\n]}\n"))
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}

	before, start := heap(), time.Now()
	c, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	kept := heap() - before
	t.Logf("%d entries were opened in %v, and keep %d MB", n, took, kept>>20)
	if kept > limit {
		t.Errorf("%d bytes are kept, want at most %d", kept, limit)
	}
	checkServed(t, c, a.digest(), honest, false)
	checkServed(t, c, a.diffID(), honest, false)
	fresh := makeLayer(2, 3000)
	checkForms(t, c.Layer(fake(fresh)), fresh)
	wantNotFound(t, c, v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:32])})
	wantNotFound(t, c, v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[32:])})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
