package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/ocicache/ocicache/cache"
)

func verify(t *testing.T, c *cache.Cache, o cache.VerifyOptions) cache.VerifyReport {
	t.Helper()
	r, err := c.Verify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// findings returns what a report found, a line each: problem, digest, repair.
func findings(r cache.VerifyReport) []string {
	var lines []string
	for _, f := range r.Findings {
		lines = append(lines, fmt.Sprintf("%s %s %s", f.Problem, f.Digest, f.Repair))
	}
	slices.Sort(lines)
	return lines
}

func wantFindings(t *testing.T, r cache.VerifyReport, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := findings(r); !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s\nin full: %v", strings.Join(got, "\n"), strings.Join(want, "\n"), r.Findings)
	}
}

// silently changes a blob, and leaves its size and modification time as they
// were.
func silently(t *testing.T, path string, b []byte) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, b)
	if err := os.Chtimes(path, fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
}

func TestVerifySound(t *testing.T) {
	c := open(t)
	blobs, bytes := 0, int64(0)
	for i := range uint64(4) {
		l := makeLayer(i, 100_000)
		checkForms(t, c.Layer(fake(l)), l)
		blobs, bytes = blobs+2, bytes+int64(len(l.blob)+len(l.tar))
	}
	for _, report := range []bool{true, false} {
		r := verify(t, c, cache.VerifyOptions{ReportOnly: report})
		wantFindings(t, r)
		if r.Blobs != blobs || r.Bytes != bytes || r.Pairs != 4 {
			t.Errorf("got %d blobs, %d bytes, %d pairs; want %d, %d, 4", r.Blobs, r.Bytes, r.Pairs, blobs, bytes)
		}
	}
}

// Silent change is found, and what was found is put right: once repaired,
// nothing is left to find, and reads give the right bytes.
func TestVerifyFinds(t *testing.T) {
	one, two := makeLayer(1, 100_000), makeLayer(2, 100_000)
	replaceInIndex := func(old, with string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, "index.json")
			b := readFile(t, path)
			changed := bytes.ReplaceAll(b, []byte(old), []byte(with))
			if bytes.Equal(b, changed) {
				t.Fatalf("index.json does not have %q:\n%s", old, b)
			}
			if err := os.WriteFile(path, changed, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	other := digestOf([]byte("other"))
	line := func(p cache.Problem, h v1.Hash, r cache.Repair) string { return fmt.Sprintf("%s %s %s", p, h, r) }
	for name, test := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   []string
		is     error // that a finding's error is
		stays  bool  // it is only reported
		opts   []cache.Option
	}{
		"rot of a blob": {
			damage: func(t *testing.T, dir string) { silently(t, blobPath(dir, one.digest()), []byte("rot")) },
			want:   []string{line(cache.Corrupt, one.digest(), cache.Quarantined)},
		},
		"rot of a tar": {
			damage: func(t *testing.T, dir string) { silently(t, blobPath(dir, one.diffID()), []byte("rot")) },
			want:   []string{line(cache.Corrupt, one.diffID(), cache.Quarantined)},
		},
		"short": {
			damage: func(t *testing.T, dir string) { truncate(t, blobPath(dir, one.digest()), 100) },
			want:   []string{line(cache.Corrupt, one.digest(), cache.Quarantined)},
		},
		"gone": {
			damage: func(t *testing.T, dir string) { must(os.Remove(blobPath(dir, one.digest()))) },
			want:   []string{line(cache.Missing, one.digest(), cache.Recorded)},
			is:     fs.ErrNotExist,
		},
		"touched": {
			damage: func(t *testing.T, dir string) {
				must(os.Chtimes(blobPath(dir, one.digest()), time.Now(), time.Now().Add(-time.Hour)))
			},
		},
		"nothing lists it": {
			damage: func(t *testing.T, dir string) { must(os.WriteFile(blobPath(dir, other), []byte("other"), 0o644)) },
			want:   []string{line(cache.Unlisted, other, cache.NoRepair)},
			stays:  true,
		},
		"a lie about a pair": {
			damage: replaceInIndex(`"dev.ggcr.cache.diffid":"`+one.diffID().String(), `"dev.ggcr.cache.diffid":"`+other.String()),
			want:   []string{line(cache.WrongPair, one.digest(), cache.Recorded)},
		},
		"layers exchanged": {
			damage: replaceInIndex(`"dev.ggcr.cache.digest":"`+one.digest().String(), `"dev.ggcr.cache.digest":"`+two.digest().String()),
			want:   []string{line(cache.WrongPair, one.diffID(), cache.Recorded)},
		},
		"size": {
			damage: replaceInIndex(fmt.Sprintf(`"size":%d,`, len(one.blob)), `"size":1,`),
			want:   []string{line(cache.WrongSize, one.digest(), cache.Recorded)},
		},
		"media type": {
			damage: replaceInIndex(`{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":`+fmt.Sprint(len(one.blob)), `{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","size":`+fmt.Sprint(len(one.blob))),
			want:   []string{line(cache.WrongMediaType, one.digest(), cache.NoRepair)},
			stays:  true,
		},
		"a directory": {
			damage: func(t *testing.T, dir string) { must(os.Mkdir(blobPath(dir, other), 0o755)) },
			want:   []string{line(cache.Stray, other, cache.Quarantined)},
			is:     fs.ErrInvalid,
		},
		"no digest": {
			damage: func(t *testing.T, dir string) {
				must(os.WriteFile(filepath.Join(dir, "blobs", "sha256", "README"), nil, 0o644))
			},
			want:  []string{line(cache.Stray, v1.Hash{}, cache.NoRepair)},
			stays: true,
		},
		"unreadable": {
			damage: func(*testing.T, string) {},
			opts: []cache.Option{cache.WithHook(func(op, name string) error {
				if op == "read" && filepath.Base(name) == one.digest().Hex {
					return syscall.EIO
				}
				return nil
			})},
			want:  []string{line(cache.Unreadable, one.digest(), cache.NoRepair)},
			is:    syscall.EIO,
			stays: true,
		},
		"a bomb": {
			damage: func(*testing.T, string) {},
			opts:   []cache.Option{cache.WithMaxUncompressed(10_000)},
			want:   []string{line(cache.Unreadable, one.digest(), cache.NoRepair), line(cache.Unreadable, two.digest(), cache.NoRepair)},
			is:     cache.ErrTooLarge,
			stays:  true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := openDir(t, dir)
			for _, l := range []content{one, two} {
				checkForms(t, c.Layer(fake(l)), l)
			}
			must(c.Close())
			test.damage(t, dir)
			tamperedPaths.Store(blobPath(dir, other), true)
			tamperedPaths.Store(filepath.Join(dir, "blobs", "sha256", "README"), true)
			before := tree(t, dir)

			only := openDir(t, dir, append(test.opts, cache.WithReadOnly())...)
			r := verify(t, only, cache.VerifyOptions{ReportOnly: true})
			if (len(r.Findings) == 0) != (len(test.want) == 0) {
				t.Errorf("read-only: got %v, want %v", r.Findings, test.want)
			}
			if after := tree(t, dir); after != before {
				t.Errorf("read-only: the directory was\n%s\nand is\n%s", before, after)
			}

			c = openDir(t, dir, test.opts...)
			r = verify(t, c, cache.VerifyOptions{})
			wantFindings(t, r, test.want...)
			if test.is != nil && !errors.Is(r.Findings[0].Err, test.is) {
				t.Errorf("got %v, want %v", r.Findings[0].Err, test.is)
			}
			if test.stays {
				return
			}
			wantFindings(t, verify(t, c, cache.VerifyOptions{}))
			for _, l := range []content{one, two} {
				checkForms(t, c.Layer(fake(l)), l)
				checkForms(t, mustGet(t, c, l.digest()), l)
				checkForms(t, mustGet(t, c, l.diffID()), l)
			}
		})
	}
}

// tree describes all files of a directory.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		lines = append(lines, fmt.Sprint(path, fi.ModTime(), digestOf(readFile(t, path))))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// index.json and the journal are lost: the blobs tell what was in them.
func TestRebuild(t *testing.T) {
	dir := t.TempDir()
	c := openDir(t, dir)
	gz, zst := makeLayer(1, 100_000), content{tar: makeTar(2, 100_000), mediaType: "application/vnd.oci.image.layer.v1.tar+zstd"}
	zst.blob = zstded(zst.tar)
	half := makeLayer(3, 100_000) // of which only the blob is kept
	image := imageOf(t, fake(makeLayer(4, 100_000)))
	for _, l := range []content{gz, zst} {
		checkForms(t, c.Layer(fake(l)), l)
	}
	readAll(t, c.Layer(fake(half)).Compressed)
	must(c.Close())
	p, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	must(p.AppendImage(image))

	must(os.Remove(filepath.Join(dir, "index.json")))
	must(os.Remove(filepath.Join(dir, ".ocicache", "journal")))
	c = openDir(t, dir)
	wantNotFound(t, c, gz.digest())
	r := verify(t, c, cache.VerifyOptions{Rebuild: true})
	for _, f := range r.Findings {
		if f.Problem != cache.Unlisted || f.Repair != cache.Listed {
			t.Errorf("got %v, want an unlisted blob that is listed now", f)
		}
	}
	wantFindings(t, verify(t, c, cache.VerifyOptions{}))
	must(c.Close())

	c = openDir(t, dir)
	for _, l := range []content{gz, zst, half} {
		checkForms(t, mustGet(t, c, l.digest()), l)
		checkForms(t, mustGet(t, c, l.diffID()), l)
	}
	mediaType, err := mustGet(t, c, zst.digest()).MediaType()
	if err != nil || mediaType != zst.mediaType {
		t.Errorf("got media type %s, %v; want %s", mediaType, err, zst.mediaType)
	}
	ii, err := p.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	want, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ii.Image(want); err != nil {
		t.Errorf("the other tool's image: %v", err)
	}
}

// What is listed already is left as it is.
func TestRebuildNothingLost(t *testing.T) {
	dir := t.TempDir()
	c := openDir(t, dir)
	l := makeLayer(1, 100_000)
	checkForms(t, c.Layer(fake(l)), l)
	must(c.Flush())
	before := readFile(t, filepath.Join(dir, "index.json"))
	wantFindings(t, verify(t, c, cache.VerifyOptions{Rebuild: true}))
	if after := readFile(t, filepath.Join(dir, "index.json")); !bytes.Equal(before, after) {
		t.Errorf("the index was\n%s\nand is\n%s", before, after)
	}
}

func TestVerifyEnds(t *testing.T) {
	l := makeLayer(1, 500_000)
	dir := t.TempDir()
	c := openDir(t, dir)
	checkForms(t, c.Layer(fake(l)), l)

	ctx, cancel := context.WithCancel(t.Context())
	slow := cache.VerifyOptions{BytesPerSecond: 1, Progress: func(cache.Progress) { cancel() }}
	if _, err := c.Verify(ctx, slow); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := c.Verify(ctx, cache.VerifyOptions{BytesPerSecond: 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a rate that cannot be met in time: got %v", err)
	}
	closing := make(chan error, 1)
	slow.Progress = func(cache.Progress) {
		select {
		case closing <- nil:
			go func() { closing <- c.Close() }()
		default:
		}
	}
	if _, err := c.Verify(t.Context(), slow); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
	for range 2 {
		if err := <-closing; err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Verify(t.Context(), cache.VerifyOptions{}); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
	only := openDir(t, dir, cache.WithReadOnly())
	if _, err := only.Verify(t.Context(), cache.VerifyOptions{}); !errors.Is(err, cache.ErrReadOnly) {
		t.Errorf("read-only: got %v", err)
	}
}

// With the option, a change that leaves size and time as they were is noticed
// at the next read; without it, only Verify sees it.
func TestVerifyReads(t *testing.T) {
	want := makeLayer(1, 100_000)
	c := open(t, cache.WithVerifyReads())
	l := fake(want)
	checkForms(t, c.Layer(l), want)
	checkForms(t, c.Layer(l), want)
	for _, h := range []v1.Hash{want.digest(), want.diffID()} {
		silently(t, blobPath(dirOf(c), h), []byte("rot"))
		checkForms(t, c.Layer(l), want)
	}
	if got := c.Stats().Repairs; got != 2 {
		t.Errorf("Repairs: got %d, want 2", got)
	}
	checkForms(t, mustGet(t, c, want.diffID()), want)
}

// An index.json that is none is set aside, and what the blobs tell comes back.
func TestRecovery(t *testing.T) {
	want := makeLayer(1, 100_000)
	dir := t.TempDir()
	c := openDir(t, dir)
	checkForms(t, c.Layer(fake(want)), want)
	must(c.Close())
	const bad = `{"manifests":[{`
	must(os.WriteFile(filepath.Join(dir, "index.json"), []byte(bad), 0o644))
	if _, err := cache.Open(dir); !errors.Is(err, cache.ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
	if _, err := cache.Open(dir, cache.WithRecovery(), cache.WithReadOnly()); !errors.Is(err, cache.ErrMalformed) {
		t.Errorf("read-only: got %v, want ErrMalformed", err)
	}
	c = openDir(t, dir, cache.WithRecovery())
	wantNotFound(t, c, want.digest())
	verify(t, c, cache.VerifyOptions{Rebuild: true})
	checkForms(t, mustGet(t, c, want.diffID()), want)
	aside := filepath.Join(dir, ".ocicache", "quarantine")
	names := listDir(t, aside)
	if len(names) != 1 || string(readFile(t, filepath.Join(aside, names[0]))) != bad {
		t.Errorf("set aside: got %v", names)
	}
}
