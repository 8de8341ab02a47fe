package share_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/share"
)

func hash256(s string) v1.Hash {
	sum := sha256.Sum256([]byte(s))
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

func hash512(s string) v1.Hash {
	sum := sha512.Sum512([]byte(s))
	return v1.Hash{Algorithm: "sha512", Hex: hex.EncodeToString(sum[:])}
}

// makeEntry returns the i-th of many entries, of all classes.
func makeEntry(i int) share.Entry {
	e := share.Entry{
		Digest:    hash256(fmt.Sprint("digest", i)),
		Size:      int64(i) * 1000,
		MediaType: types.DockerLayer,
		DiffID:    hash256(fmt.Sprint("diffid", i)),
	}
	switch i % 8 {
	case 0:
		e.MediaType = types.OCILayerZStd
	case 1:
		e.MediaType, e.DiffID = "application/vnd.example.opaque", v1.Hash{}
	case 2:
		e.MediaType, e.DiffID = types.OCIUncompressedLayer, e.Digest
	case 3:
		e.Digest, e.DiffID = hash512(fmt.Sprint("digest", i)), hash512(fmt.Sprint("diffid", i))
	case 4:
		e.Keys = []string{fmt.Sprint("go-build ", i), fmt.Sprint("ko,", i)}
	}
	return e
}

func makeEntries(n int) []share.Entry {
	var es []share.Entry
	for i := range n {
		es = append(es, makeEntry(i))
	}
	return es
}

func encode(t *testing.T, es []share.Entry) (shards []share.Manifest, index []byte) {
	t.Helper()
	shards, index, err := share.Encode(share.Unite(es))
	if err != nil {
		t.Fatal(err)
	}
	return shards, index
}

func digests(shards []share.Manifest) map[v1.Hash]bool {
	all := map[v1.Hash]bool{}
	for _, s := range shards {
		all[hash256(string(s.Bytes))] = true
	}
	return all
}

// The same entries give the same bytes, in whichever order and pieces they
// came together.
func TestDeterminism(t *testing.T) {
	es := makeEntries(3000)
	_, want := encode(t, es)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		rnd.Shuffle(len(es), func(i, j int) { es[i], es[j] = es[j], es[i] })
		cut := rnd.IntN(len(es))
		if _, got := encode(t, share.Unite(es[:cut], es[cut/2:])); !bytes.Equal(got, want) {
			t.Fatal("another order gives another snapshot")
		}
	}
}

// The bytes are part of the format: a snapshot that is pushed by another
// version of this package has the same shards.
func TestBytes(t *testing.T) {
	shards, index := encode(t, makeEntries(8))
	var got []string
	for _, s := range shards {
		got = append(got, hash256(string(s.Bytes)).Hex[:12])
	}
	got = append(got, hash256(string(index)).Hex[:12])
	want := []string{"75b56608f720", "5388217f940e", "f334ea5d8353", "ea9d77667025"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q\n%s\n%s", got, want, shards[0].Bytes, index)
	}
}

// One more entry changes one shard of its class, or splits it.
func TestOneMore(t *testing.T) {
	es := makeEntries(700)
	was, _ := encode(t, es)
	splits := 0
	for i := 700; i < 900; i++ {
		now, _ := encode(t, append(es, makeEntry(i)))
		old := digests(was)
		added := 0
		for d := range digests(now) {
			if !old[d] {
				added++
			}
			delete(old, d)
		}
		if len(old) > 1 || added > len(old)+1 {
			t.Errorf("entry %d replaces %d shards by %d", i, len(old), added)
		}
		if added > 1 {
			splits++
		}
		es = append(es, makeEntry(i))
		was = now
	}
	if splits == 0 {
		t.Error("no shard was split")
	}
}

// What a shard holds is bounded, and of one class.
func TestShardLimits(t *testing.T) {
	long := func(n int) []string {
		var keys []string
		for i := range n {
			keys = append(keys, fmt.Sprint(i)+strings.Repeat("\x00", share.MaxKey-10))
		}
		return keys
	}
	with := func(es []share.Entry, keys int) []share.Entry {
		for i := range es {
			es[i].Keys = nil
			for _, key := range long(keys) {
				es[i].Keys = append(es[i].Keys, fmt.Sprint(i)+key)
			}
		}
		return es
	}
	short := makeEntries(2)
	for i := range 5000 {
		short[0].Keys = append(short[0].Keys, fmt.Sprint(i))
	}
	for name, es := range map[string][]share.Entry{
		"many":                makeEntries(5000),
		"long keys":           with(makeEntries(500), 3),
		"one, with many keys": with(makeEntries(1), 1000),
		"short keys":          short,
		"two, with many keys": with(makeEntries(2), 300),
	} {
		shards, index := encode(t, es)
		n := 0
		for _, s := range shards {
			n += len(s.Entries)
			if len(s.Entries) > share.MaxShard || len(s.Bytes) > share.MaxShardBytes {
				t.Errorf("%s: a shard of %d entries and %d bytes", name, len(s.Entries), len(s.Bytes))
			}
			for _, e := range s.Entries {
				if got := classOf(e); got != s.Class {
					t.Errorf("%s: %v is of class %d, in a shard of class %d", name, e, got, s.Class)
				}
			}
		}
		if n != len(es) {
			t.Errorf("%s: %d entries, want %d", name, n, len(es))
		}
		if ds, err := share.DecodeIndex(index); err != nil || len(ds) != len(shards) {
			t.Errorf("%s: got %d shards, %v; want %d", name, len(ds), err, len(shards))
		}
	}
}

func classOf(e share.Entry) int {
	switch {
	case e.DiffID == v1.Hash{}:
		return 2
	case e.MediaType == types.DockerLayer || e.MediaType == types.OCILayer:
		return 0
	}
	return 1
}

// What is encoded is decoded, whatever is in keys.
func TestRoundTrip(t *testing.T) {
	odd := makeEntry(4)
	odd.Keys = []string{",", "%2C", " ", "+", "a,b", "\"<&>", "日本", "\xff\xfe", "\x00", strings.Repeat("k", share.MaxKey)}
	for b := range 256 {
		odd.Keys = append(odd.Keys, "byte "+string([]byte{byte(b)}))
	}
	want := share.Unite(makeEntries(1000), []share.Entry{odd})
	shards, index := encode(t, want)
	ds, err := share.DecodeIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	var got []share.Entry
	for i, s := range shards {
		if h := hash256(string(s.Bytes)); ds[i].Digest != h || ds[i].Size != int64(len(s.Bytes)) {
			t.Errorf("the index has %v for %s", ds[i], h)
		}
		es, config, err := share.DecodeShard(s.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if config != hash256(string(s.Config)).String() {
			t.Errorf("config: got %s", config)
		}
		if err := share.CheckConfig(s.Config, es); err != nil {
			t.Error(err)
		}
		got = append(got, es...)
	}
	if got = share.Unite(got); !reflect.DeepEqual(got, want) {
		t.Error("what is decoded is something else")
	}
}

// Nothing local is in a snapshot.
func TestNothingLocal(t *testing.T) {
	shards, index := encode(t, makeEntries(100))
	shared := []string{ocicache.AnnotationDiffID, ocicache.AnnotationBuildKeys, ocicache.AnnotationSnapshot}
	all := index
	for _, s := range shards {
		all = append(append(all, s.Bytes...), s.Config...)
	}
	for _, word := range strings.Split(string(all), `"`) {
		if strings.HasPrefix(word, ocicache.AnnotationPrefix) && !slices.Contains(shared, word) {
			t.Errorf("%s is in it", word)
		}
	}
	if strings.Contains(string(all), `"created"`) {
		t.Error("a time is in it")
	}
}

func TestUnite(t *testing.T) {
	es := makeEntries(300)
	a, b, c := es[:200], es[100:], es[50:250]
	if got, want := share.Unite(a, b, c), share.Unite(c, b, a); !reflect.DeepEqual(got, want) {
		t.Error("the order of lists matters")
	}
	if got, want := share.Unite(share.Unite(a, b), c), share.Unite(a, share.Unite(b, c)); !reflect.DeepEqual(got, want) {
		t.Error("the order of unions matters")
	}
	all := share.Unite(a, b)
	if got := share.Unite(all, all, a); !reflect.DeepEqual(got, all) {
		t.Error("uniting again changes something")
	}
	if got := share.Unite(); len(got) != 0 {
		t.Errorf("nothing: got %v", got)
	}
}

// Of what lists say differently, one thing is left.
func TestUniteConflicts(t *testing.T) {
	low, high := makeEntry(4), makeEntry(12)
	if low.Digest.Hex > high.Digest.Hex {
		low, high = high, low
	}
	low.Keys, high.Keys = []string{"k", "low"}, []string{"high", "k"}
	for _, got := range [][]share.Entry{share.Unite([]share.Entry{low, high}), share.Unite([]share.Entry{high}, []share.Entry{low})} {
		if len(got) != 2 || !slices.Equal(got[0].Keys, []string{"k", "low"}) || !slices.Equal(got[1].Keys, []string{"high"}) {
			t.Errorf("a key for two: got %v", got)
		}
	}

	known, unknown, lie := low, low, low
	unknown.DiffID = v1.Hash{}
	lie.DiffID, lie.Size = hash256("lie"), 1
	for _, test := range []struct {
		lists [][]share.Entry
		want  share.Entry
	}{
		{[][]share.Entry{{known}, {unknown}}, known},
		{[][]share.Entry{{unknown}, {known}}, known},
		{[][]share.Entry{{known}, {lie}}, known},
		{[][]share.Entry{{lie}, {known}}, lie},
	} {
		if got := share.Unite(test.lists...); len(got) != 1 || !reflect.DeepEqual(got[0], test.want) {
			t.Errorf("got %v, want %v", got, test.want)
		}
	}
	if slices.Equal(low.Keys, []string{"low"}) {
		t.Error("uniting has changed what it united")
	}
}

// Which keys are left off an entry with too many does not depend on the order
// in which they came.
func TestUniteManyKeys(t *testing.T) {
	of := func(keys ...string) []share.Entry {
		e := makeEntry(5)
		e.Keys = keys
		return []share.Entry{e}
	}
	var most []string // but for 2767 bytes, of 524288
	for i := range 521 {
		most = append(most, fmt.Sprintf("a%0999d", i))
	}
	long, short := strings.Repeat("b", 3000), "c"
	all := share.Unite(of(most...), of(long), of(short))
	if n := len(all[0].Keys); n != len(most)+1 {
		t.Errorf("%d keys are left, want %d", n, len(most)+1)
	}
	for _, got := range [][]share.Entry{
		share.Unite(share.Unite(of(most...), of(long)), of(short)),
		share.Unite(share.Unite(of(long), of(short)), of(most...)),
		share.Unite(all, of(long)),
	} {
		if !reflect.DeepEqual(got, all) {
			t.Errorf("got %d keys, want %d", len(got[0].Keys), len(all[0].Keys))
		}
	}
}

// A push must not send what a pull refuses.
func TestEncodeRefuses(t *testing.T) {
	for name, change := range badEntries() {
		e := makeEntry(4)
		change(&e)
		if _, _, err := share.Encode([]share.Entry{e}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, _, err := share.Encode(makeEntries(1)); err != nil {
		t.Error(err)
	}
}

func badEntries() map[string]func(*share.Entry) {
	return map[string]func(*share.Entry){
		"negative size":    func(e *share.Entry) { e.Size = -1 },
		"huge size":        func(e *share.Entry) { e.Size = 1 << 62 },
		"no media type":    func(e *share.Entry) { e.MediaType = "" },
		"no type":          func(e *share.Entry) { e.MediaType = "layer" },
		"long media type":  func(e *share.Entry) { e.MediaType = types.MediaType("a/" + strings.Repeat("b", 300)) },
		"escape sequence":  func(e *share.Entry) { e.MediaType = "a/\x1b[2J" },
		"an image":         func(e *share.Entry) { e.MediaType = types.OCIManifestSchema1 },
		"an index":         func(e *share.Entry) { e.MediaType = types.DockerManifestList },
		"an empty key":     func(e *share.Entry) { e.Keys = []string{""} },
		"a key of 5000":    func(e *share.Entry) { e.Keys = []string{strings.Repeat("k", 5000)} },
		"1001 keys":        func(e *share.Entry) { e.Keys = slices.Repeat([]string{"k"}, 1001) },
		"one of many keys": func(e *share.Entry) { e.Keys = []string{"a", "b", ""} },
	}
}

// edited returns JSON in which the value at a path is another one; a number in
// the path is an index.
func edited(t *testing.T, raw []byte, value any, path ...any) []byte {
	t.Helper()
	var doc any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	at := doc
	for i, step := range path {
		last := i == len(path)-1
		switch step := step.(type) {
		case string:
			if m := at.(map[string]any); last {
				m[step] = value
			} else {
				at = m[step]
			}
		case int:
			if l := at.([]any); last {
				l[step] = value
			} else {
				at = l[step]
			}
		}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeShardRefuses(t *testing.T) {
	shards, _ := encode(t, makeEntries(100))
	good := shards[0].Bytes
	many := make([]any, 251)
	for i := range many {
		many[i] = map[string]any{"mediaType": types.DockerLayer, "size": 1, "digest": hash256(fmt.Sprint(i)).String()}
	}
	for name, raw := range map[string][]byte{
		"nothing":            nil,
		"null":               []byte("null"),
		"a list":             []byte("[]"),
		"another artifact":   edited(t, good, "application/vnd.oci.empty.v1+json", "artifactType"),
		"an index":           edited(t, good, types.OCIImageIndex, "mediaType"),
		"no layers":          edited(t, good, []any{}, "layers"),
		"null layers":        edited(t, good, nil, "layers"),
		"251 layers":         edited(t, good, many, "layers"),
		"a null layer":       edited(t, good, nil, "layers", 0),
		"no digest":          edited(t, good, "", "layers", 0, "digest"),
		"a path":             edited(t, good, "../../etc/passwd", "layers", 0, "digest"),
		"an odd algorithm":   edited(t, good, "md5:d41d8cd98f00b204e9800998ecf8427e", "layers", 0, "digest"),
		"negative size":      edited(t, good, -1, "layers", 0, "size"),
		"huge size":          edited(t, good, int64(1)<<62, "layers", 0, "size"),
		"overflowing size":   edited(t, good, 1e30, "layers", 0, "size"),
		"no media type":      edited(t, good, "", "layers", 0, "mediaType"),
		"a manifest":         edited(t, good, types.OCIManifestSchema1, "layers", 0, "mediaType"),
		"a control sequence": edited(t, good, "a/\x1b[2J", "layers", 0, "mediaType"),
		"a bad diffID":       edited(t, good, "sha256:0", "layers", 0, "annotations", ocicache.AnnotationDiffID),
		"an empty diffID":    edited(t, good, "", "layers", 0, "annotations", ocicache.AnnotationDiffID),
		"no key":             edited(t, good, "", "layers", 0, "annotations", ocicache.AnnotationBuildKeys),
		"an empty key":       edited(t, good, "a,,b", "layers", 0, "annotations", ocicache.AnnotationBuildKeys),
		"1001 keys":          edited(t, good, strings.Repeat("k,", 1000)+"k", "layers", 0, "annotations", ocicache.AnnotationBuildKeys),
		"a bad escape":       edited(t, good, "%zz", "layers", 0, "annotations", ocicache.AnnotationBuildKeys),
		"a long key":         edited(t, good, strings.Repeat("k", 5000), "layers", 0, "annotations", ocicache.AnnotationBuildKeys),
	} {
		if _, _, err := share.DecodeShard(raw); !errors.Is(err, share.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// What others may add is passed over.
	raw := edited(t, good, []string{"http://example.com"}, "layers", 0, "urls")
	raw = edited(t, raw, "verified", "layers", 0, "annotations", ocicache.AnnotationPair)
	if got, _, err := share.DecodeShard(raw); err != nil || !reflect.DeepEqual(got, shards[0].Entries) {
		t.Errorf("additions: %v", err)
	}
}

func TestDecodeIndexRefuses(t *testing.T) {
	_, good := encode(t, makeEntries(100))
	var idx v1.IndexManifest
	if err := json.Unmarshal(good, &idx); err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"nothing":         nil,
		"null":            []byte("null"),
		"no annotation":   edited(t, good, nil, "annotations"),
		"another version": edited(t, good, "2", "annotations", ocicache.AnnotationSnapshot),
		"an image":        edited(t, good, types.OCIManifestSchema1, "mediaType"),
		"an index in it":  edited(t, good, types.OCIImageIndex, "manifests", 0, "mediaType"),
		"a null child":    edited(t, good, nil, "manifests", 0),
		"no digest":       edited(t, good, map[string]any{"mediaType": types.OCIManifestSchema1, "size": 5}, "manifests", 0),
		"no size":         edited(t, good, 0, "manifests", 0, "size"),
		"a large shard":   edited(t, good, share.MaxShardBytes+1, "manifests", 0, "size"),
		"a child twice":   share.EncodeIndex(idx.Manifests[0], idx.Manifests[1], idx.Manifests[0]),
	} {
		if _, err := share.DecodeIndex(raw); !errors.Is(err, share.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestCheckConfigRefuses(t *testing.T) {
	known, unknown := makeEntry(4), makeEntry(1)
	config := func(hs ...v1.Hash) []byte {
		b, err := json.Marshal(map[string]any{"rootfs": map[string]any{"diff_ids": hs}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, test := range map[string]struct {
		raw     []byte
		entries []share.Entry
	}{
		"no JSON":         {[]byte("{"), []share.Entry{known}},
		"empty":           {[]byte("{}"), []share.Entry{known}},
		"another diffID":  {config(hash256("other")), []share.Entry{known}},
		"one more":        {config(known.DiffID, known.DiffID), []share.Entry{known}},
		"of diffless":     {config(known.DiffID), []share.Entry{unknown}},
		"mixed, empty":    {[]byte("{}"), []share.Entry{unknown, known}},
		"mixed, too few":  {config(known.DiffID), []share.Entry{unknown, known}},
		"mixed, reversed": {[]byte("{}"), []share.Entry{known, unknown}},
	} {
		if err := share.CheckConfig(test.raw, test.entries); !errors.Is(err, share.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
