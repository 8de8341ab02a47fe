package share_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocicache/ocicache"
)

const hubHost = "hub.example.com"

// A hub is a registry as strict as CNCF distribution: blobs belong to
// repositories, and a manifest may name only what is there. It is an
// http.RoundTripper, so that nothing but the requests orders what happens.
type hub struct {
	mu    sync.Mutex
	repos map[string]*hubRepo
	log   []string // method and path, by kind

	noTagDelete, noDelete bool
	lenient               bool // takes manifests that name what is not there
	immutable             string
	page                  int // tags on a page; 0: as many as are asked for
	hook                  func(req *http.Request) (*http.Response, error)
}

type hubRepo struct {
	blobs     map[string][]byte
	manifests map[string]hubManifest // by digest
	tags      map[string]string      // to digests
	uploads   map[string][]byte
}

type hubManifest struct {
	mediaType string
	raw       []byte
}

func newHub() *hub { return &hub{repos: map[string]*hubRepo{}} }

func (h *hub) repo(name string) *hubRepo {
	r := h.repos[name]
	if r == nil {
		r = &hubRepo{blobs: map[string][]byte{}, manifests: map[string]hubManifest{}, tags: map[string]string{}, uploads: map[string][]byte{}}
		h.repos[name] = r
	}
	return r
}

func (h *hub) RoundTrip(req *http.Request) (*http.Response, error) {
	if h.hook != nil {
		if resp, err := h.hook(req); resp != nil || err != nil {
			if req.Body != nil {
				_, _ = io.Copy(io.Discard, req.Body)
				req.Body.Close()
			}
			return resp, err
		}
	}
	return h.answer(req), nil
}

// answer answers as if it were the only request.
func (h *hub) answer(req *http.Request) *http.Response {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		req.Body.Close()
	}
	w := httptest.NewRecorder()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serve(w, req, body)
	resp := w.Result()
	resp.Request = req
	if n, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64); err == nil {
		resp.ContentLength = n
	}
	return resp
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q}]}`, code)
}

func hubDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (h *hub) serve(w http.ResponseWriter, req *http.Request, body []byte) {
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	if path == "" {
		h.log = append(h.log, "ping")
		return
	}
	parts := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for i, kind := range parts {
		rest := parts[i+1:]
		r := h.repo(strings.Join(parts[:i], "/"))
		switch {
		case kind == "manifests" && len(rest) == 1:
			h.log = append(h.log, req.Method+" manifest "+rest[0])
			h.manifest(w, req, r, rest[0], body)
			return
		case kind == "tags" && len(rest) == 1:
			h.log = append(h.log, "tags")
			h.tags(w, req, r)
			return
		case kind == "blobs" && len(rest) == 1 && rest[0] != "uploads":
			h.log = append(h.log, req.Method+" blob")
			h.blob(w, req, r, rest[0])
			return
		case kind == "blobs" && rest[0] == "uploads":
			h.log = append(h.log, req.Method+" upload")
			h.upload(w, req, r, body)
			return
		}
	}
	refuse(w, http.StatusNotFound, "NAME_UNKNOWN")
}

func (h *hub) manifest(w http.ResponseWriter, req *http.Request, r *hubRepo, ref string, body []byte) {
	digest := ref
	byTag := !strings.HasPrefix(ref, "sha256:")
	if byTag {
		digest = r.tags[ref]
	}
	m, ok := r.manifests[digest]
	switch req.Method {
	case http.MethodPut:
		mediaType := req.Header.Get("Content-Type")
		if byTag && ref == h.immutable && ok {
			refuse(w, http.StatusConflict, "TAG_IMMUTABLE")
			return
		}
		if code := r.missing(mediaType, body); code != "" && !h.lenient {
			refuse(w, http.StatusBadRequest, code)
			return
		}
		digest = hubDigest(body)
		r.manifests[digest] = hubManifest{mediaType, body}
		if byTag {
			r.tags[ref] = digest
		}
		w.Header().Set("Docker-Content-Digest", digest)
		w.WriteHeader(http.StatusCreated)
	case http.MethodDelete:
		switch {
		case h.noDelete, h.noTagDelete && byTag:
			refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
		case !ok:
			refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
		case byTag:
			delete(r.tags, ref)
			w.WriteHeader(http.StatusAccepted)
		default:
			delete(r.manifests, digest)
			maps.DeleteFunc(r.tags, func(_, d string) bool { return d == digest })
			w.WriteHeader(http.StatusAccepted)
		}
	default:
		if !ok {
			refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
			return
		}
		w.Header().Set("Docker-Content-Digest", digest)
		w.Header().Set("Content-Type", m.mediaType)
		w.Header().Set("Content-Length", strconv.Itoa(len(m.raw)))
		if req.Method == http.MethodGet {
			_, _ = w.Write(m.raw)
		}
	}
}

// missing returns the error of a manifest that names what is not there.
func (r *hubRepo) missing(mediaType string, raw []byte) string {
	var m struct {
		Manifests, Layers []ocispec.Descriptor
		Config            ocispec.Descriptor
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return "MANIFEST_INVALID"
	}
	if mediaType == ocispec.MediaTypeImageIndex {
		for _, d := range m.Manifests {
			if _, ok := r.manifests[string(d.Digest)]; !ok {
				return "MANIFEST_BLOB_UNKNOWN"
			}
		}
		return ""
	}
	for _, d := range append(m.Layers, m.Config) {
		if _, ok := r.blobs[string(d.Digest)]; !ok {
			return "MANIFEST_BLOB_UNKNOWN"
		}
	}
	return ""
}

func (h *hub) tags(w http.ResponseWriter, req *http.Request, r *hubRepo) {
	n, _ := strconv.Atoi(req.URL.Query().Get("n"))
	if h.page > 0 {
		n = h.page
	}
	last := req.URL.Query().Get("last")
	tags := slices.DeleteFunc(slices.Sorted(maps.Keys(r.tags)), func(tag string) bool { return tag <= last })
	if n > 0 && len(tags) > n {
		tags = tags[:n]
		u := url.URL{Path: req.URL.Path, RawQuery: url.Values{"n": {strconv.Itoa(n)}, "last": {tags[n-1]}}.Encode()}
		w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, u.String()))
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"name": "x", "tags": tags})
}

func (h *hub) blob(w http.ResponseWriter, req *http.Request, r *hubRepo, digest string) {
	b, ok := r.blobs[digest]
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	if req.Method == http.MethodGet {
		_, _ = w.Write(b)
	}
}

func (h *hub) upload(w http.ResponseWriter, req *http.Request, r *hubRepo, body []byte) {
	q := req.URL.Query()
	switch req.Method {
	case http.MethodPost:
		if from := q.Get("from"); from != "" {
			if b, ok := h.repo(from).blobs[q.Get("mount")]; ok {
				r.blobs[q.Get("mount")] = b
				h.log = append(h.log, "mounted")
				w.WriteHeader(http.StatusCreated)
				return
			}
		}
		id := strconv.Itoa(len(r.uploads) + 1)
		r.uploads[id] = nil
		w.Header().Set("Location", req.URL.Path+id+"?_state=secret")
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPatch:
		r.uploads[req.URL.Path] = body
		w.Header().Set("Location", req.URL.Path+"?_state=secret")
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPut:
		b := append(r.uploads[req.URL.Path], body...)
		if hubDigest(b) != q.Get("digest") {
			refuse(w, http.StatusBadRequest, "DIGEST_INVALID")
			return
		}
		r.blobs[q.Get("digest")] = b
		w.WriteHeader(http.StatusCreated)
	}
}

// requests returns what was asked since it was last called, save pings.
func (h *hub) requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	log := slices.DeleteFunc(h.log, func(s string) bool { return s == "ping" })
	h.log = nil
	return log
}

func countPrefix(log []string, prefix string) (n int) {
	for _, s := range log {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

// A pushed is a layer as the tag has it.
type pushed struct{ diffID, keys string }

// snapshot returns what a tag holds, by digest. All that it names must be
// there, and each shard tagged.
func (h *hub) snapshot(t testing.TB, repo, tag string) map[string]pushed {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.repo(repo)
	var idx ocispec.Index
	index, ok := r.manifests[r.tags[tag]]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(index.raw, &idx); err != nil {
		t.Fatal(err)
	}
	if idx.Annotations[ocicache.AnnotationSnapshot] != "1" {
		t.Errorf("%s is no snapshot: %v", tag, idx.Annotations)
	}
	tagged := map[string]bool{}
	for _, digest := range r.tags {
		tagged[digest] = true
	}
	layers := map[string]pushed{}
	for _, child := range idx.Manifests {
		if !tagged[string(child.Digest)] {
			t.Errorf("shard %s of %s is not tagged", child.Digest, tag)
		}
		shard, ok := r.manifests[string(child.Digest)]
		if !ok {
			t.Errorf("shard %s of %s is not there", child.Digest, tag)
			continue
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(shard.raw, &m); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.blobs[string(m.Config.Digest)]; !ok {
			t.Errorf("config %s of %s is not there", m.Config.Digest, tag)
		}
		for _, d := range m.Layers {
			if _, ok := r.blobs[string(d.Digest)]; !ok {
				t.Errorf("layer %s of %s is not there", d.Digest, tag)
			}
			layers[string(d.Digest)] = pushed{d.Annotations[ocicache.AnnotationDiffID], d.Annotations[ocicache.AnnotationBuildKeys]}
		}
	}
	return layers
}

func (h *hub) tagNames(repo, infix string) (tags []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for tag := range h.repo(repo).tags {
		if strings.Contains(tag, infix) {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}

func hubTag(t testing.TB, ref string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(hubHost + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}
