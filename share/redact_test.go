package share_test

import (
	"bytes"
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

	"github.com/ocicache/ocicache/share"
)

func answer(code int, body string, header ...string) *http.Response {
	resp := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	if len(header) > 0 {
		resp.Header.Set(header[0], header[1])
	}
	return resp
}

// Whatever fails, the credentials and the addresses of uploads and redirects
// are in no error of a push either.
func TestPushCredentials(t *testing.T) {
	const password = "geh/e\"im<+1"
	for _, failing := range []string{"manifests", "blobs/sha256", "uploads", "tags/list"} {
		h := newHub()
		h.hook = func(req *http.Request) (*http.Response, error) {
			switch _, got, ok := req.BasicAuth(); {
			case !ok:
				return answer(http.StatusUnauthorized, "", "Www-Authenticate", `Basic realm="r"`), nil
			case strings.Contains(req.URL.Path, failing):
				return answer(http.StatusForbidden, fmt.Sprintf(`{"errors":[{"code":"DENIED","message":%q}]}`, got+req.Header.Get("Authorization"))), nil
			}
			return nil, nil
		}
		var log bytes.Buffer
		_, err := pushTo(t.Context(), t, h, cacheOf(t, 1), "repo:tag", share.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
			share.WithKeychain(keychain{authn.AuthConfig{Username: "jemand", Password: password}}))
		if err == nil {
			t.Errorf("%s: no error", failing)
		}
		for _, secret := range []string{password, url.QueryEscape(password), base64.StdEncoding.EncodeToString([]byte("jemand:" + password)), "secret"} {
			if said := fmt.Sprint(err, log.String()); strings.Contains(said, secret) {
				t.Errorf("%s: %q is in %s", failing, secret, said)
			}
		}
	}
}

// What a redirect is signed with is in no error.
func TestRedirectsRedacted(t *testing.T) {
	h := newHub()
	mustPush(t, h, cacheOf(t, 1), "repo:tag")
	broken := errors.New("broken")
	h.hook = func(req *http.Request) (*http.Response, error) {
		switch {
		case req.URL.Path == "/bucket":
			return nil, broken
		case strings.Contains(req.URL.Path, "/blobs/"):
			return answer(http.StatusTemporaryRedirect, "", "Location", "https://"+hubHost+"/bucket?signature=geheim"), nil
		}
		return nil, nil
	}
	c := openCache(t, t.TempDir(), fromHub(h))
	pullFrom(t, h, c, "repo:tag")
	_, err := tryRead(mustGet(t, c, sumHash(numbered(1).blob)).Compressed)
	if !errors.Is(err, broken) || strings.Contains(err.Error(), "geheim") {
		t.Errorf("got %v", err)
	}
}
