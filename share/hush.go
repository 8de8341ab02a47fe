package share

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// hush takes the credentials of a request out of the answer that refuses it:
// that becomes the text of an error.
func hush(resp *http.Response, authorization string) {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what comes of it is enough
	_ = resp.Body.Close()
	var doc any
	if json.Unmarshal(body, &doc) == nil {
		body = plainJSON(doc) // where a string has one form only
	}
	for _, secret := range secrets(authorization) {
		body = bytes.ReplaceAll(body, []byte(secret), []byte("REDACTED"))
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
}

// secrets returns what must not be told of an Authorization header, in the forms
// in which an answer may have it.
func secrets(authorization string) (all []string) {
	_, credentials, _ := strings.Cut(authorization, " ")
	plain, err := base64.StdEncoding.DecodeString(credentials)
	_, password, ok := strings.Cut(string(plain), ":")
	if err != nil || !ok {
		password = ""
	}
	for _, secret := range []string{credentials, password} {
		if secret != "" {
			quoted := plainJSON(secret)
			all = append(all, secret, string(quoted[1:len(quoted)-1]), url.QueryEscape(secret))
		}
	}
	return all
}

// plainJSON encodes what came from JSON, with no more escapes than needed.
func plainJSON(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // which never fails
	return bytes.TrimSpace(buf.Bytes())
}

// maxErrorBody is how much of a refusal is read, in bytes: what ggcr takes.
const maxErrorBody = 64 << 10

// redact takes out of an error what the query of an address may hold: where an
// upload goes is a secret, and redirects are signed. It must be done before the
// error is wrapped.
func redact(err error) error {
	var uerr *url.Error
	for inner := err; errors.As(inner, &uerr); inner = uerr.Err {
		u, perr := url.Parse(uerr.URL)
		if perr != nil {
			uerr.URL = "…"
			continue
		}
		u.User, u.RawQuery = nil, ""
		uerr.URL = u.String()
	}
	return err
}
