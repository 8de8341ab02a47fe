package share_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/share"
)

// wantRefused pulls, and looks that nothing came of it.
func wantRefused(t *testing.T, r *reg, want error, opts ...share.Option) {
	t.Helper()
	c := openCache(t, t.TempDir())
	got, err := share.Pull(t.Context(), c, r.ref("repo:tag"), opts...)
	if !errors.Is(err, want) {
		t.Errorf("got %+v, %v, want %v", got, err, want)
	}
	if us := usages(t, c); len(us) != got.Added || got.Added > 0 {
		t.Errorf("%d entries, and %d reported", len(us), got.Added)
	}
}

// liar has the registry answer with something else where a path ends so.
func (r *reg) liar(suffix string, answer []byte) {
	r.on(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, suffix) {
			return false
		}
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		must(w.Write(answer))
		return true
	})
}

// A shard and its config must have their digests.
func TestPullWrongDigests(t *testing.T) {
	other, _ := encode(t, makeEntries(16)[8:])
	for _, answer := range []func(share.Manifest) (path string, answer []byte){
		func(s share.Manifest) (string, []byte) { return hash256(string(s.Bytes)).Hex, bytes.ToUpper(s.Bytes) },
		func(s share.Manifest) (string, []byte) { return hash256(string(s.Bytes)).Hex, s.Bytes[1:] },
		func(s share.Manifest) (string, []byte) { return hash256(string(s.Bytes)).Hex, nil },
		func(s share.Manifest) (string, []byte) { return hash256(string(s.Config)).Hex, other[0].Config },
		func(s share.Manifest) (string, []byte) { return hash256(string(s.Config)).Hex, nil },
	} {
		r := newRegistry(t)
		s := r.foreign("repo", "tag", makeEntry(4))
		r.liar(answer(s))
		wantRefused(t, r, share.ErrMalformed)
		var mismatch *cache.DigestMismatchError
		if _, err := share.Pull(t.Context(), openCache(t, t.TempDir()), r.ref("repo:tag")); !errors.As(err, &mismatch) {
			t.Errorf("got %v", err)
		}
	}
}

// foreign puts a snapshot of one entry whose shard has a config as others may
// write it, which must be read.
func (r *reg) foreign(repo, tag string, e share.Entry) share.Manifest {
	r.t.Helper()
	shards, _ := encode(r.t, []share.Entry{e})
	s := shards[0]
	s.Config = append(slices.Clone(s.Config), '\n')
	s.Bytes = edited(r.t, s.Bytes, hash256(string(s.Config)).String(), "config", "digest")
	r.manifest(repo, tag, types.OCIImageIndex, share.EncodeIndex(r.shard(repo, s)))
	return s
}

// A config that others wrote, and that says the same, is as good.
func TestPullForeignConfig(t *testing.T) {
	r := newRegistry(t)
	s := r.foreign("repo", "tag", makeEntry(4))
	if got := mustPull(t, openCache(t, t.TempDir()), r.ref("repo:tag")); got.Added != 1 {
		t.Errorf("got %+v", got)
	}
	if n := r.count(http.MethodGet, hash256(string(s.Config)).Hex); n != 1 {
		t.Errorf("the config was read %d times", n)
	}
}

// Shards that are none, or say other things than their configs, are refused;
// and so is an index that lists something else.
func TestPullMalformed(t *testing.T) {
	good, index := encode(t, []share.Entry{makeEntry(4), makeEntry(12)})
	one, _ := encode(t, []share.Entry{makeEntry(4)})
	for name, put := range map[string]func(*reg) []byte{ // what is put under the tag
		"an image": func(r *reg) []byte { r.shard("repo", good[0]); return good[0].Bytes },
		"an index of indexes": func(r *reg) []byte {
			r.shard("repo", good[0])
			return share.EncodeIndex(r.manifest("repo", "", types.OCIImageIndex, index))
		},
		"an index as a shard": func(r *reg) []byte {
			r.shard("repo", good[0])
			d := r.manifest("repo", "", types.OCIImageIndex, index)
			d.MediaType = types.OCIManifestSchema1
			return share.EncodeIndex(d)
		},
		"another index": func(r *reg) []byte {
			return marshal(t, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex})
		},
		"no JSON": func(r *reg) []byte { r.shard("repo", good[0]); r.liar("/tag", []byte("geheim")); return index },
		"another shard's config": func(r *reg) []byte {
			config := r.blob("repo", one[0].Config)
			return share.EncodeIndex(r.manifest("repo", "", types.OCIManifestSchema1, edited(t, good[0].Bytes, config.String(), "config", "digest")))
		},
		"a config with other diffIDs": func(r *reg) []byte {
			config := r.blob("repo", edited(t, good[0].Config, hash256("other").String(), "rootfs", "diff_ids", 1))
			return share.EncodeIndex(r.manifest("repo", "", types.OCIManifestSchema1, edited(t, good[0].Bytes, config.String(), "config", "digest")))
		},
		"a config without diffIDs": func(r *reg) []byte {
			config := r.blob("repo", []byte("{}"))
			return share.EncodeIndex(r.manifest("repo", "", types.OCIManifestSchema1, edited(t, good[0].Bytes, config.String(), "config", "digest")))
		},
		"a large config": func(r *reg) []byte {
			config := r.blob("repo", append(good[0].Config, strings.Repeat(" ", 100_000)...))
			return share.EncodeIndex(r.manifest("repo", "", types.OCIManifestSchema1, edited(t, good[0].Bytes, config.String(), "config", "digest")))
		},
		"an empty config for a layer with a diffID": func(r *reg) []byte {
			mixed := edited(t, good[0].Bytes, layersOf(t, makeEntry(1), makeEntry(4)), "layers")
			config := r.blob("repo", []byte("{}"))
			return share.EncodeIndex(r.manifest("repo", "", types.OCIManifestSchema1, edited(t, mixed, config.String(), "config", "digest")))
		},
		"a config that is a path": func(r *reg) []byte {
			return share.EncodeIndex(r.manifest("repo", "", types.OCIManifestSchema1, edited(t, good[0].Bytes, "../../../x", "config", "digest")))
		},
		"a shard larger than it says": func(r *reg) []byte {
			d := r.shard("repo", good[0])
			d.Size--
			return share.EncodeIndex(d)
		},
		"a shard smaller than it says": func(r *reg) []byte {
			d := r.shard("repo", good[0])
			d.Size++
			return share.EncodeIndex(d)
		},
		"a shard twice": func(r *reg) []byte {
			d := r.shard("repo", good[0])
			return share.EncodeIndex(d, d)
		},
		"a shard that lists a shard": func(r *reg) []byte {
			layer := r.shard("repo", good[0])
			d := r.manifest("repo", "", types.OCIManifestSchema1, edited(t, good[0].Bytes, layer, "layers", 0))
			return share.EncodeIndex(d)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			r.manifest("repo", "tag", types.OCIImageIndex, put(r))
			wantRefused(t, r, share.ErrMalformed)
		})
	}
}

// Where a shard says that its layers are is not looked at.
func TestPullForeignURLs(t *testing.T) {
	elsewhere := newRegistry(t)
	r := newRegistry(t)
	l := makeLayer(1, 5000)
	shards, _ := encode(t, []share.Entry{l.entry()})
	r.blob("repo", shards[0].Config)
	raw := edited(t, shards[0].Bytes, []string{elsewhere.URL + "/v2/repo/blobs/" + l.entry().Digest.String()}, "layers", 0, "urls")
	raw = edited(t, raw, l.blob, "layers", 0, "data")
	r.manifest("repo", "tag", types.OCIImageIndex, share.EncodeIndex(r.manifest("repo", "", types.OCIManifestSchema1, raw)))
	c := openCache(t, t.TempDir(), cache.WithOrigins(share.Origins()))
	mustPull(t, c, r.ref("repo:tag"))
	if _, err := tryRead(mustGet(t, c, l.entry().Digest).Compressed); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if n := elsewhere.requests.Load(); n > 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

// More entries than allowed are an error, before any is fetched if the index
// tells.
func TestPullTooMany(t *testing.T) {
	r := newRegistry(t)
	shards := r.snapshot("repo", "tag", makeEntries(2000)...)
	wantRefused(t, r, share.ErrTooManyEntries, share.WithMaxEntries(len(shards)-1))
	if n := r.count(http.MethodGet, "/blobs/"); n > 0 {
		t.Errorf("%d configs were fetched", n)
	}
	c := openCache(t, t.TempDir())
	got, err := share.Pull(t.Context(), c, r.ref("repo:tag"), share.WithMaxEntries(1999))
	if us := usages(t, c); !errors.Is(err, share.ErrTooManyEntries) || len(us) > 1999 || len(us) != got.Added {
		t.Errorf("got %d entries, %+v, %v", len(us), got, err)
	}
	mustPull(t, c, r.ref("repo:tag"), share.WithMaxEntries(2000))
}

// endless answers JSON that does not end, until its reader has enough.
func endless(sent *atomic.Int64, prefix, element string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", string(types.OCIImageIndex))
		n, _ := io.WriteString(w, prefix)
		chunk := []byte(strings.Repeat(element, 64<<10/len(element)))
		for err := error(nil); err == nil && sent.Load() < 100<<20; {
			sent.Add(int64(n))
			n, err = w.Write(chunk)
		}
		return true
	}
}

// Of an answer without end little is read, and little is made.
func TestPullEndless(t *testing.T) {
	for name, element := range map[string]string{
		"spaces": " ", "objects": "{},", "null": "null,", "lists": "[],", "a string": "a",
		"children": `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:` + strings.Repeat("0", 64) + `"},`,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			var sent atomic.Int64
			r.on(endless(&sent, `{"mediaType":"`+string(types.OCIImageIndex)+`","layers":[],"manifests":[`, element))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			wantRefused(t, r, share.ErrMalformed)
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("%d MB were allocated", grown>>20)
			}
			if sent.Load() > 32<<20 {
				t.Errorf("%d MB were sent", sent.Load()>>20)
			}
		})
	}
}

// JSON that is valid, within the limit, and of which decoding makes a hundred
// times as much, is refused before it is decoded.
func TestPullDense(t *testing.T) {
	for _, element := range []string{"{}", "null"} {
		for _, list := range []string{"manifests", "layers"} {
			r := newRegistry(t)
			_, index := encode(t, nil)
			dense := "[" + strings.Repeat(element+",", share.MaxIndex/8) + element + "]"
			raw := strings.TrimSuffix(string(index), "}") + `,"` + list + `":` + dense + "}"
			r.liar("/tag", []byte(raw))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			wantRefused(t, r, share.ErrMalformed)
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("%s of %s: %d MB were allocated", list, element, grown>>20)
			}
		}
	}
}

// Keys full of what the guard counts are not mistaken for that.
func TestPullManyKeys(t *testing.T) {
	r := newRegistry(t)
	var es []share.Entry
	for i := range 150 {
		e := makeEntry(8*i + 4)
		e.Keys = nil
		for j := range 1000 {
			e.Keys = append(e.Keys, fmt.Sprintf("%x", 1000*i+j))
		}
		es = append(es, e)
	}
	r.snapshot("repo", "tag", es...)
	if got := mustPull(t, openCache(t, t.TempDir()), r.ref("repo:tag")); got.Keys != 150_000 || got.Shards > 2 {
		t.Errorf("got %+v", got)
	}
}

// A registry that drips is waited for as long as the context lasts.
func TestPullStall(t *testing.T) {
	for _, part := range []string{"/manifests/tag", "/manifests/sha256:", "/blobs/", "/v2/"} {
		r := newRegistry(t)
		r.foreign("repo", "tag", makeEntry(4))
		ctx, cancel := context.WithCancel(t.Context())
		r.on(func(w http.ResponseWriter, req *http.Request) bool {
			if !strings.Contains(req.URL.Path, part) {
				return false
			}
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			must(io.WriteString(w, " "))
			w.(http.Flusher).Flush()
			cancel()
			<-req.Context().Done()
			return true
		})
		if _, err := share.Pull(ctx, openCache(t, t.TempDir()), r.ref("repo:tag")); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", part, err)
		}
	}
}

// An answer that is cut off is an error, and nothing of it is taken.
func TestPullTruncated(t *testing.T) {
	for _, part := range []string{"/manifests/tag", "/manifests/sha256:", "/blobs/"} {
		r := newRegistry(t)
		r.foreign("repo", "tag", makeEntry(4))
		r.on(func(w http.ResponseWriter, req *http.Request) bool {
			if !strings.Contains(req.URL.Path, part) {
				return false
			}
			w.Header().Set("Content-Length", "400")
			must(io.WriteString(w, `{"mediaType":`))
			return true
		})
		wantRefused(t, r, io.ErrUnexpectedEOF)
	}
}

// A tag that moves while it is pulled, its shards gone, is read again.
func TestPullMoved(t *testing.T) {
	r := newRegistry(t)
	old := r.snapshot("repo", "tag", makeEntries(100)...)
	lost := hash256(string(old[0].Bytes)).String()
	moved := false
	r.on(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasSuffix(req.URL.Path, lost) {
			return false
		}
		if !moved {
			moved = true
			r.snapshot("repo", "tag", makeEntries(120)...)
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	c := openCache(t, t.TempDir())
	got := mustPull(t, c, r.ref("repo:tag"), share.WithJobs(1))
	if us := usages(t, c); got.Lost != 0 || len(us) != 120 || !moved {
		t.Errorf("got %d entries, %+v", len(us), got)
	}
}

// Shards that the registry has lost are reported, and the others taken; a tag
// that moves for ever is not followed for ever.
func TestPullLostShards(t *testing.T) {
	for _, moving := range []bool{false, true} {
		r := newRegistry(t)
		shards := r.snapshot("repo", "tag", makeEntries(1000)...)
		lost := hash256(string(shards[0].Bytes)).String()
		n := 1000
		r.on(func(w http.ResponseWriter, req *http.Request) bool {
			if moving && strings.HasSuffix(req.URL.Path, "/manifests/tag") && req.Method == http.MethodGet {
				n += 8
				_, index := encode(t, makeEntries(n))
				w.Header().Set("Content-Type", string(types.OCIImageIndex))
				must(w.Write(index))
				return true
			}
			if !strings.HasSuffix(req.URL.Path, lost) {
				return false
			}
			w.WriteHeader(http.StatusNotFound)
			return true
		})
		c := openCache(t, t.TempDir())
		got := mustPull(t, c, r.ref("repo:tag"))
		want := 1000 - len(shards[0].Entries)
		if us := usages(t, c); len(us) != got.Added || got.Lost == 0 || !moving && (got.Lost != 1 || len(us) != want) {
			t.Errorf("moving %t: got %d entries, %+v, want %d", moving, len(us), got, want)
		}
	}
}

// A pull into a cache that cannot be written fails.
func TestPullReadOnly(t *testing.T) {
	r := newRegistry(t)
	r.snapshot("repo", "tag", makeEntries(10)...)
	dir := t.TempDir()
	must(openCache(t, dir).Close())
	c := openCache(t, dir, cache.WithReadOnly())
	if _, err := share.Pull(t.Context(), c, r.ref("repo:tag")); !errors.Is(err, cache.ErrReadOnly) {
		t.Errorf("got %v", err)
	}
}

// layersOf returns the layers of shards of entries, in the order of these.
func layersOf(t *testing.T, es ...share.Entry) (layers []any) {
	t.Helper()
	for _, e := range es {
		shards, _ := encode(t, []share.Entry{e})
		var m map[string]any
		if err := json.Unmarshal(shards[0].Bytes, &m); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, m["layers"].([]any)...)
	}
	return layers
}
