package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/compression"
)

const (
	hostileLayout = `{"imageLayoutVersion":"1.0.0"}`
	hostileHeader = `{"version":1,"generation":"g1","boot":"b"}` + "\n"
	// foreignEntry is of another tool, and must survive everything, byte for byte.
	foreignEntry = `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":7,"digest":"sha256:` +
		`cafecafecafecafecafecafecafecafecafecafecafecafecafecafecafecafe","annotations":{"theirs":"\u00e9 <kept>"}}`
)

// hostileTime is the modification time of the blobs in a hostile directory,
// so that a descriptor can claim that they were verified. mtime says so.
var (
	hostileTime = time.Unix(1_700_000_000, 0)
	mtime       = "mtime=1700000000000000000"
)

// hostileDir makes a layout of files, by their path in it.
func hostileDir(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"oci-layout": hostileLayout, ".ocicache/version": "1\n"}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		writeHostile(t, filepath.Join(dir, filepath.FromSlash(name)), text)
	}
	return dir
}

func writeHostile(t testing.TB, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err := errors.Join(err, os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, hostileTime, hostileTime)); err != nil {
		t.Fatal(err)
	}
}

// withBlobs returns files that hold both forms of layers, and an index.json
// and a journal unless they are "".
func withBlobs(index, journal string, layers ...content) map[string]string {
	files := map[string]string{}
	for _, l := range layers {
		files["blobs/sha256/"+l.digest().Hex] = string(l.blob)
		files["blobs/sha256/"+l.diffID().Hex] = string(l.tar)
	}
	if index != "" {
		files["index.json"] = index
	}
	if journal != "" {
		files[".ocicache/journal"] = journal
	}
	return files
}

// item returns a descriptor. Its notes are key=value, of our annotations.
func item(digest, size string, notes ...string) string {
	for i, note := range notes {
		key, value, _ := strings.Cut(note, "=")
		notes[i] = fmt.Sprintf(`"dev.ggcr.cache.%s":"%s"`, key, value)
	}
	return fmt.Sprintf(`{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":%s,"digest":"%s","annotations":{%s}}`,
		size, digest, strings.Join(notes, ","))
}

func indexOf(items ...string) string {
	return `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","annotations":{"dev.ggcr.cache.folded":""},"manifests":[` +
		"\n" + strings.Join(append([]string{foreignEntry}, items...), ",\n") + "\n]}\n"
}

// journalOf returns a journal of records without their numbers.
func journalOf(records ...string) string {
	text := hostileHeader
	for i, r := range records {
		text += fmt.Sprintf(`{"n":%d,%s`+"\n", i+1, r[1:])
	}
	return text
}

func putRecord(item string) string { return `{"put":` + item + `}` }

// trust is what a test lets a hostile index or journal decide.
type trust uint8

const (
	// Every pair that it says was verified is one.
	honest trust = iota
	// It says of a wrong pair that this cache verified it. Nothing but a
	// decompression could tell, so what is got by the diffID may then be a blob
	// of another one. What is read as the tar is not.
	lying
)

// checkServed gets a hash, and reads what it gets in both forms: all that is
// read to its end is what it was asked by. It may be a miss. A cache that is
// read-only cannot note that a claim was refuted, and goes on to repeat it.
func checkServed(t *testing.T, c *cache.Cache, h v1.Hash, tr trust, readOnly bool) {
	t.Helper()
	l, err := c.Get(h)
	if err != nil {
		if !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Get(%.80q): %v, want ErrNotFound", h, err)
		}
		return
	}
	typed := func(form string, err error) {
		var digest *cache.DigestMismatchError
		if !errors.Is(err, cache.ErrNotFound) && !errors.Is(err, cache.ErrCorrupt) && !errors.As(err, &digest) {
			t.Errorf("%s of %s: %v, which has no type", form, h, err)
		}
	}
	tar, err := tryRead(l.Uncompressed)
	if err != nil {
		typed("Uncompressed", err)
	}
	blob, berr := tryRead(l.Compressed)
	if berr != nil {
		typed("Compressed", berr)
	}
	digest, derr := l.Digest()
	if berr == nil && (derr != nil || digestOf(blob) != digest) {
		t.Errorf("%s: Compressed gave %s, and Digest %s, %v", h, digestOf(blob), digest, derr)
	}
	diffID, derr := l.DiffID() // asked after the reading: a claim that was refuted by it is not repeated
	if err == nil && !readOnly && (derr != nil || digestOf(tar) != diffID) {
		t.Errorf("%s: Uncompressed gave %s, and DiffID %s, %v", h, digestOf(tar), diffID, derr)
	}
	if err == nil && berr == nil && digest != h && diffID != h {
		t.Errorf("Get(%s) gave the layer %s of %s", h, digest, diffID)
	}
	if err == nil && digest != h && digestOf(tar) != h {
		t.Errorf("Get(%s).Uncompressed gave %s", h, digestOf(tar))
	}
	if berr == nil && digest != h && tr == honest { // so it was got by its diffID
		if out, err := tryRead(func() (io.ReadCloser, error) { return inflate(blob) }); err != nil || digestOf(out) != h {
			t.Errorf("Get(%s).Compressed gave a blob of %s, %v", h, digestOf(out), err)
		}
	}
}

func inflate(b []byte) (io.ReadCloser, error) { return compression.NewReader(bytes.NewReader(b)) }

// checkUsable fills honest layers through a hostile cache, and looks that they
// are there after a checkpoint, and what other tools listed too.
// What is a diffID may be listed as a digest too, and the digest wins.
func checkUsable(t *testing.T, dir string, c *cache.Cache, tr trust, want ...content) {
	t.Helper()
	for _, w := range want {
		checkForms(t, c.Layer(fake(w)), w)
		checkForms(t, layersOf(t, c.Image(imageOf(t, fake(w))))[0], w)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, opts := range [][]cache.Option{nil, {cache.WithReadOnly()}} {
		again := openDir(t, dir, opts...)
		for _, w := range want {
			checkForms(t, mustGet(t, again, w.digest()), w)
			if got := readAll(t, mustGet(t, again, w.diffID()).Uncompressed); !bytes.Equal(got, w.tar) {
				t.Errorf("by the diffID, Uncompressed gave %s, want %s", digestOf(got), w.diffID())
			}
			checkServed(t, again, w.diffID(), tr, opts != nil)
		}
	}
	if got := string(readFile(t, filepath.Join(dir, "index.json"))); !strings.Contains(got, foreignEntry) {
		t.Errorf("what another tool listed is gone: %.2000s", got)
	}
}

// What stands in an index or a journal decides nothing about the bytes.
func TestHostileEntries(t *testing.T) {
	a, b, fresh := makeLayer(1, 3000), makeLayer(2, 3000), makeLayer(3, 3000)
	da, ta, db, tb := a.digest().String(), a.diffID().String(), b.digest().String(), b.diffID().String()
	size := func(b []byte, off int) string { return itoa(len(b) + off) }
	blobA, tarA := size(a.blob, 0), size(a.tar, 0)
	pair := func(digest, size, diffID, pair string) string {
		return item(digest, size, "diffid="+diffID, "pair="+pair, mtime)
	}
	tar := func(diffID, size, variant string) string { return item(diffID, size, "digest="+variant, mtime) }
	blobB, tarB := size(b.blob, 0), size(b.tar, 0)

	cases := map[string][]string{
		"twice, both verified":     {pair(da, blobA, ta, "verified"), pair(da, blobA, tb, "verified"), tar(ta, tarA, da)},
		"twice, other sizes":       {pair(da, blobA, ta, "verified"), pair(da, "1", ta, "verified"), tar(ta, "5", ""), tar(ta, tarA, da)},
		"twice, both forms":        {tar(ta, tarA, da), pair(ta, tarA, ta, "verified"), pair(da, blobA, ta, "claimed")},
		"a claim that is wrong":    {pair(da, blobA, tb, "claimed"), tar(ta, tarA, da)},
		"claims crossed":           {pair(da, blobA, tb, "claimed"), pair(db, blobB, ta, "claimed")},
		"its own diffID, claimed":  {pair(da, blobA, da, "claimed")},
		"its own variant":          {tar(ta, tarA, ta), pair(da, blobA, ta, "verified")},
		"a tar that names itself":  {item(ta, tarA, "diffid="+ta, "digest="+ta, "pair=verified", mtime)},
		"a refuted pair":           {pair(da, blobA, ta, "refuted"), tar(ta, tarA, "")},
		"variants crossed":         {tar(ta, tarA, db), tar(tb, tarB, da), pair(da, blobA, ta, "verified"), pair(db, blobB, tb, "verified")},
		"a cycle of pairs":         {pair(da, blobA, db, "claimed"), pair(db, blobB, da, "claimed")},
		"a diffID that is a blob":  {pair(da, blobA, db, "verified"), pair(db, blobB, tb, "verified")},
		"a variant that is a tar":  {tar(ta, tarA, tb), pair(da, blobA, ta, "verified"), pair(tb, tarB, tb, "verified")},
		"a codec that is none":     {item(da, blobA, "diffid="+ta, "pair=verified", "codec=gzip;level=99;block=-1;by=x"), tar(ta, tarA, da)},
		"a codec of another":       {item(da, "1", "diffid="+ta, "pair=verified", "codec=zstd;level=22;by=klauspost"), tar(ta, tarA, da)},
		"numbers out of range":     {item(da, blobA, "mtime=9223372036854775808", "created=-9223372036854775809"), item(ta, tarA, "digest=", "mtime=1e9")},
		"times before 1970":        {item(da, blobA, "diffid="+ta, "mtime=-1", "created=-1")},
		"no UTF-8":                 {strings.Replace(pair(da, blobA, ta, "verified"), "docker", "\xff\xfe\x80", 1), strings.Replace(tar(ta, tarA, da), "mtime", "\xff", 1)},
		"NUL bytes":                {strings.Replace(pair(da, blobA, ta, "verified"), "docker", `\u0000`, 1), item(ta, tarA, `digest=`, `unsynced=\u0000`)},
		"an unknown boot":          {item(da, blobA, "diffid="+ta, "pair=verified", mtime, "unsynced=failed:failed:"), item(ta, tarA, "digest="+da, mtime, "unsynced=x")},
		"a deep one of another":    {strings.Repeat(`{"dev.ggcr.cache.":[`, 4000) + strings.Repeat("]}", 4000), pair(da, blobA, ta, "verified")},
		"a deep one in an entry":   {strings.Replace(pair(da, blobA, ta, "verified"), `"size"`, `"x":`+strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+`,"size"`, 1)},
		"none that are any":        {"null", "5", `"x"`, "[]", "{}", `{"digest":5}`, `{"digest":null,"annotations":{"dev.ggcr.cache.x":""}}`},
		"a long annotation":        {item(da, blobA, "diffid="+ta, "unsynced="+strings.Repeat("x", 2<<20)), tar(ta, tarA, da)},
		"a long media type":        {strings.Replace(pair(da, blobA, ta, "verified"), "docker", strings.Repeat("x", 2<<20), 1)},
		"a digest that is a path":  {item("sha256:../../../../../../etc/passwd", "5", "diffid="+ta, mtime), item("../../etc:passwd", "5", "digest="+da), tar(ta, tarA, "sha256:../../x")},
		"a digest in capitals":     {pair("sha256:"+strings.ToUpper(a.digest().Hex), blobA, ta, "verified"), pair("SHA256:"+a.digest().Hex, blobA, ta, "verified")},
		"a digest too short":       {pair(da[:len(da)-1], blobA, ta, "verified"), pair(da+"0", blobA, ta, "verified"), pair("sha256:", "0", "sha256:", "verified")},
		"a digest of NULs":         {pair("sha256:"+strings.Repeat(`\u0000`, 64), "0", ta, "verified")},
		"an algorithm of others":   {pair("md5:"+strings.Repeat("0", 32), "0", ta, "verified"), pair(da, blobA, "sha384:"+strings.Repeat("0", 96), "verified"), pair("sha512:"+a.digest().Hex, blobA, ta, "verified")},
		"the digest of nothing":    {pair(digestOf(nil).String(), "0", digestOf(nil).String(), "verified"), tar(ta, tarA, digestOf(nil).String())},
		"other keys that say more": {strings.Replace(pair(da, blobA, ta, "verified"), `{`, `{"size":1,"SIZE":2,"digest":"x","data":"AAAA","urls":["file:///etc/passwd"],`, 1)},
	}
	for _, n := range []string{"0", "1", "-1", "4611686018427387904", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e3", "1e999", "0.5", `"7"`, "null", size(a.blob, -1), size(a.blob, 1)} {
		cases["size "+n] = []string{pair(da, n, ta, "verified"), tar(ta, n, da), pair(fresh.digest().String(), n, fresh.diffID().String(), "claimed")}
	}
	asked := []v1.Hash{a.digest(), a.diffID(), b.digest(), b.diffID(), fresh.digest(), fresh.diffID(), digestOf(nil)}
	lies := []string{"twice, both verified", "a diffID that is a blob"}
	for name, items := range cases {
		tr, reread := honest, []content{fresh, a, b}
		if slices.Contains(lies, name) {
			tr, reread = lying, []content{fresh}
		}
		var records []string
		for _, i := range items {
			records = append(records, putRecord(i))
		}
		for where, files := range map[string]map[string]string{
			"index":   withBlobs(indexOf(items...), "", a, b),
			"journal": withBlobs(indexOf(), journalOf(records...), a, b),
			"both":    withBlobs(indexOf(items...), journalOf(append(slices.Clone(records[1:]), records...)...), a, b),
		} {
			t.Run(name+"/"+where, func(t *testing.T) {
				dir := hostileDir(t, files)
				ro := openDir(t, dir, cache.WithReadOnly())
				for _, h := range asked {
					checkServed(t, ro, h, tr, true)
				}
				c := openDir(t, dir)
				for _, h := range asked {
					checkServed(t, c, h, tr, false)
				}
				checkUsable(t, dir, c, tr, reread...)
			})
		}
	}
}

// A chain of pairs, each diffID the next one's digest, and of variants: none
// is walked.
func TestHostileChain(t *testing.T) {
	n := many(100_000)
	h := func(i int) string { return digestOf([]byte{byte(i), byte(i >> 8), byte(i >> 16)}).String() }
	lines := make([]string, n)
	for i := range lines {
		lines[i] = item(h(i), "5", "diffid="+h(i+1), "digest="+h(i+2), "pair=verified", mtime) // in the order that is read fast
	}
	a := makeLayer(1, 3000)
	dir := hostileDir(t, withBlobs(indexOf(lines...), "", a))
	c := openDir(t, dir)
	for _, i := range []int{0, 1, n / 2, n - 1, n, n + 1} {
		wantNotFound(t, c, digestOf([]byte{byte(i), byte(i >> 8), byte(i >> 16)}))
	}
	checkUsable(t, dir, c, honest, a)
}

// A hash that is a path, or nothing, is a miss, and its layer's origin is
// asked in its place.
func TestHostileHashes(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "cache")
	secret := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	if err := os.WriteFile(filepath.Join(outside, secret), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := openDir(t, dir)
	want := makeLayer(1, 3000)
	checkForms(t, c.Layer(fake(want)), want)
	good := want.digest().Hex
	for _, h := range []v1.Hash{
		{}, {Algorithm: "sha256"}, {Hex: good}, {Algorithm: "sha256", Hex: "../../" + secret}, {Algorithm: "../..", Hex: secret},
		{Algorithm: "sha256", Hex: "../sha256/" + good}, {Algorithm: "sha256/../sha256", Hex: good}, {Algorithm: "../../etc", Hex: "passwd"},
		{Algorithm: "sha256", Hex: strings.ToUpper(good)}, {Algorithm: "SHA256", Hex: good}, {Algorithm: "sha256", Hex: good[:63]},
		{Algorithm: "sha256", Hex: good + "0"}, {Algorithm: "sha256", Hex: strings.Repeat("\x00", 64)}, {Algorithm: "sha256", Hex: good[:63] + "\n"},
		{Algorithm: "sha512", Hex: good}, {Algorithm: "md5", Hex: good[:32]}, {Algorithm: "sha256", Hex: strings.Repeat("../", 21) + "/"},
	} {
		wantNotFound(t, c, h)
		if err := c.Delete(h); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Delete(%q): got %v, want ErrNotFound", h, err)
		}
		l := fake(want)
		l.named, l.claim = h, h
		if got, err := tryRead(c.Layer(l).Compressed); err == nil && !bytes.Equal(got, want.blob) {
			t.Errorf("%q: Compressed gave %d other bytes", h, len(got))
		}
		_, _ = tryRead(c.Layer(l).Uncompressed)
		claims := fake(want)
		claims.claim = h
		if got, err := tryRead(layersOf(t, c.Image(imageOf(t, claims)))[0].Uncompressed); err == nil && !bytes.Equal(got, want.tar) {
			t.Errorf("%q as a diffID: Uncompressed gave %d other bytes", h, len(got))
		}
	}
	if got := listDir(t, outside); len(got) != 2 {
		t.Errorf("beside the cache there are %q", got)
	}
	if got := len(blobs(t, dir)); got != 2 {
		t.Errorf("%d blobs, want 2", got)
	}
	checkForms(t, mustGet(t, c, want.digest()), want)

	// As a manifest from a registry has them.
	r := newRegistry(t)
	img := r.push(imageOf(t, fake(want)), "repo")
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"sha256:../../" + secret, "sha256:" + strings.ToUpper(good), "../../etc:passwd", "sha256:" + good[:63]} {
		text := bytes.Replace(raw, []byte("sha256:"+good), []byte(bad), 1)
		img := c.Image(&rawImage{Image: img, raw: text})
		if ls, err := img.Layers(); err == nil {
			for _, l := range ls {
				if got, err := tryRead(l.Compressed); err == nil && !bytes.Equal(got, want.blob) {
					t.Errorf("%q: %d other bytes", bad, len(got))
				}
			}
		}
	}
}

// rawImage is an image with another manifest.
type rawImage struct {
	v1.Image
	raw []byte
}

func (i *rawImage) RawManifest() ([]byte, error)        { return i.raw, nil }
func (i *rawImage) Manifest() (*v1.Manifest, error)     { return v1.ParseManifest(bytes.NewReader(i.raw)) }
func (i *rawImage) MediaType() (types.MediaType, error) { return types.DockerManifestSchema2, nil }
