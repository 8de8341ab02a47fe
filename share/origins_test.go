package share_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/share"
)

func descriptorOf(l content) v1.Descriptor {
	e := l.entry()
	return v1.Descriptor{Digest: e.Digest, Size: e.Size, MediaType: e.MediaType}
}

func TestOrigins(t *testing.T) {
	r := newRegistry(t)
	here, lost := makeLayer(1, 5000), makeLayer(2, 5000)
	r.blob("repo", here.blob)
	origins := share.Origins()
	for range 10 {
		l, err := origins(r.host()+"/repo", descriptorOf(here))
		if err != nil {
			t.Fatal(err)
		}
		checkForms(t, l, here)
		if exists, err := partial.Exists(l); err != nil || !exists {
			t.Errorf("Exists: got %t, %v", exists, err)
		}
	}
	if n := r.count(http.MethodGet, "/v2/") - r.count(http.MethodGet, "/blobs/"); n != 1 {
		t.Errorf("authenticated %d times, want once", n)
	}
	l, err := origins(r.host()+"/repo", descriptorOf(lost))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryRead(l.Compressed); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("lost: got %v", err)
	}
	if exists, err := partial.Exists(l); err != nil || exists {
		t.Errorf("lost: Exists: got %t, %v", exists, err)
	}
	if _, err := origins("no repository!", descriptorOf(here)); err == nil {
		t.Error("no repository: no error")
	}
}

// Only that a blob is not there means that it is not there.
func TestOriginsErrors(t *testing.T) {
	want := makeLayer(1, 5000)
	tests := map[string]struct {
		path   string
		status int
		lost   bool
	}{
		"blob 404":     {"/blobs/", http.StatusNotFound, true},
		"blob 403":     {"/blobs/", http.StatusForbidden, false},
		"blob 401":     {"/blobs/", http.StatusUnauthorized, false},
		"registry 404": {"/v2/", http.StatusNotFound, false},
		"registry 403": {"/v2/", http.StatusForbidden, false},
	}
	for name, test := range tests {
		r := newRegistry(t)
		r.blob("repo", want.blob)
		r.on(func(w http.ResponseWriter, req *http.Request) bool {
			if strings.Contains(req.URL.Path, test.path) {
				w.WriteHeader(test.status)
				return true
			}
			return false
		})
		l, err := share.Origins()(r.host()+"/repo", descriptorOf(want))
		if err != nil {
			t.Fatal(err)
		}
		_, err = tryRead(l.Compressed)
		var terr *transport.Error
		if !errors.As(err, &terr) || errors.Is(err, cache.ErrNotFound) != test.lost {
			t.Errorf("%s: got %v, want lost %t", name, err, test.lost)
		}
	}
}

// Layers of any size come from wherever a registry redirects them.
func TestOriginsRedirect(t *testing.T) {
	r := newRegistry(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
	d := v1.Descriptor{Digest: hash256(string(want)), Size: int64(len(want)), MediaType: "application/octet-stream"}
	r.on(func(w http.ResponseWriter, req *http.Request) bool {
		switch {
		case strings.Contains(req.URL.Path, "/blobs/"):
			http.Redirect(w, req, "/bucket/object?signature=geheim", http.StatusTemporaryRedirect)
		case req.URL.Path == "/bucket/object":
			must(w.Write(want))
		default:
			return false
		}
		return true
	})
	l, err := share.Origins()(r.host()+"/repo", d)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tryRead(l.Compressed); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// However many repositories a cache has, few of them are kept.
func TestOriginsBounded(t *testing.T) {
	var repos []string
	for i := range 3 * share.MaxHomes {
		repos = append(repos, fmt.Sprintf("localhost/repo%d", i))
	}
	if n, err := share.OpenOrigins(repos); err != nil || n != share.MaxHomes {
		t.Errorf("%d repositories are kept, %v; want %d", n, err, share.MaxHomes)
	}
}

type keychain struct{ authn.AuthConfig }

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(k.AuthConfig), nil
}

// A registry that wants a password, or a token, gets it; and however it fails
// then, and whatever it says, neither is in an error or a log.
func TestCredentials(t *testing.T) {
	const user, password, token, signature = "jemand", `geh/e"im<+1`, "to.ken.geh-eim", "signatur-geheim"
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	echo := func(w http.ResponseWriter, req *http.Request, status int) {
		w.WriteHeader(status)
		said := req.Header.Get("Authorization")
		if u, p, ok := req.BasicAuth(); ok {
			said += " which is " + u + ":" + p
		}
		must(fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q,"detail":%[1]q}]}`, said))
	}
	answer := func(status int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, req *http.Request) bool { echo(w, req, status); return true }
	}
	failures := map[string]func(w http.ResponseWriter, req *http.Request) bool{
		"nothing": func(http.ResponseWriter, *http.Request) bool { return false },
		"401":     answer(http.StatusUnauthorized),
		"403":     answer(http.StatusForbidden),
		"404":     answer(http.StatusNotFound),
		"400":     answer(http.StatusBadRequest),
		"redirected nowhere": func(w http.ResponseWriter, req *http.Request) bool {
			http.Redirect(w, req, "ftp://example.com/?signature="+signature, http.StatusTemporaryRedirect)
			return true
		},
		"no token": answer(http.StatusTeapot),
		"garbage":  func(w http.ResponseWriter, _ *http.Request) bool { must(w.Write([]byte(password))); return true },
	}
	for _, bearer := range []bool{false, true} {
		for name, fail := range failures {
			r := newRegistry(t)
			l := makeLayer(1, 500)
			r.blob("repo", l.blob)
			r.snapshot("repo", "tag", l.entry())
			authorized := 0
			r.on(func(w http.ResponseWriter, req *http.Request) bool {
				got, want := req.Header.Get("Authorization"), "Basic "+basic
				if bearer && req.URL.Path != "/token" {
					want = "Bearer " + token
				}
				switch {
				case got != want && bearer:
					w.Header().Set("WWW-Authenticate", `Bearer realm="`+r.URL+`/token",service="s"`)
					w.WriteHeader(http.StatusUnauthorized)
				case got != want:
					w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
					w.WriteHeader(http.StatusUnauthorized)
				case req.URL.Path == "/token" && name == "no token":
					authorized += 2
					echo(w, req, http.StatusForbidden)
				case req.URL.Path == "/token":
					must(w.Write(marshal(t, map[string]string{"token": token})))
				case req.URL.Path == "/v2/":
					return false
				default:
					authorized++
					return fail(w, req)
				}
				return true
			})
			var log bytes.Buffer
			opts := []share.Option{
				share.WithKeychain(keychain{authn.AuthConfig{Username: user, Password: password}}),
				share.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))),
			}
			c := openCache(t, t.TempDir())
			_, perr := share.Pull(t.Context(), c, r.ref("repo:tag"), append(opts, share.WithBytes())...)
			layer, err := share.Origins(opts...)(r.host()+"/repo", descriptorOf(l))
			if err != nil {
				t.Fatal(err)
			}
			_, rerr := tryRead(layer.Compressed)
			if ok := name == "nothing"; (perr == nil) != ok || (rerr == nil) != ok || authorized < 2 {
				t.Errorf("bearer %t, %s: got %v and %v after %d requests", bearer, name, perr, rerr, authorized)
			}
			for _, secret := range []string{basic, password, token, signature} {
				if said := fmt.Sprint(perr, rerr, log.String()); strings.Contains(said, secret) || strings.Contains(said, url.QueryEscape(secret)) {
					t.Errorf("bearer %t, %s: %q is in %s", bearer, name, secret, said)
				}
			}
		}
	}
}

// A keychain that fails is an error, which comes as it is.
func TestKeychainFails(t *testing.T) {
	r := newRegistry(t)
	broken := errors.New("the helper has crashed")
	opt := share.WithKeychain(failingKeychain{broken})
	if _, err := share.Pull(t.Context(), openCache(t, t.TempDir()), r.ref("repo:tag"), opt); !errors.Is(err, broken) {
		t.Errorf("Pull: got %v", err)
	}
	l, err := share.Origins(opt)(r.host()+"/repo", descriptorOf(makeLayer(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryRead(l.Compressed); !errors.Is(err, broken) {
		t.Errorf("Origins: got %v", err)
	}
}

type failingKeychain struct{ err error }

func (k failingKeychain) Resolve(authn.Resource) (authn.Authenticator, error) { return nil, k.err }

// The context ends a pull, and Close a read, from a registry that has stopped
// to answer.
func TestOriginsStall(t *testing.T) {
	r := newRegistry(t)
	l := makeLayer(1, 5000)
	r.snapshot("repo", "tag", l.entry())
	asked, release := make(chan bool, 9), make(chan bool)
	defer close(release)
	r.on(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasSuffix(req.URL.Path, l.entry().Digest.String()) {
			return false
		}
		must(w.Write(l.blob[:10]))
		w.(http.Flusher).Flush()
		asked <- true
		select {
		case <-release:
		case <-req.Context().Done():
		}
		return true
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	_, err := share.Pull(ctx, openCache(t, t.TempDir()), r.ref("repo:tag"), share.WithBytes())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("WithBytes: got %v", err)
	}

	c := openCache(t, t.TempDir(), cache.WithOrigins(share.Origins()), cache.WithCloseTimeout(0))
	mustPull(t, c, r.ref("repo:tag"))
	rc, err := mustGet(t, c, l.entry().Digest).Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	closed := make(chan error)
	go func() { <-asked; closed <- c.Close() }()
	if _, err := io.ReadAll(rc); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
