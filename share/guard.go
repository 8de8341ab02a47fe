package share

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
)

// A guard stands before a registry. It bounds what is read of an answer, checks
// it against the digest that it should have, and keeps credentials out of
// answers that become the text of an error. It leaves layers alone, wherever a
// registry redirects them.
type guard struct{ http.RoundTripper }

// maxAnswer bounds an answer of which nothing more is known, in bytes.
const maxAnswer = 2 * maxIndex

// An expectation is what an answer must be.
type expectation struct {
	most   int64   // bytes
	digest v1.Hash // zero: any
}

type expectationKey struct{}

// expect has the answer to a request be of at most so many bytes, and of a
// digest unless that is zero. The error is [ErrMalformed], with
// [*cache.DigestMismatchError] in the latter case.
func expect(ctx context.Context, most int64, digest v1.Hash) context.Context {
	return context.WithValue(ctx, expectationKey{}, expectation{most, digest})
}

// RoundTrip implements http.RoundTripper.
func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.RoundTripper.RoundTrip(req)
	if err != nil {
		return resp, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		hush(resp, req.Header.Get("Authorization"))
		return resp, nil
	}
	e, ok := expectationOf(req)
	if !ok || req.Method == http.MethodHead || resp.StatusCode != http.StatusOK {
		return resp, nil
	}
	b := &guardedBody{ReadCloser: resp.Body, expectation: e, left: e.most, values: e.most/minValue + 64}
	if e.digest != (v1.Hash{}) {
		if b.hash, err = v1.Hasher(e.digest.Algorithm); err != nil {
			_ = resp.Body.Close()
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	}
	resp.Body, resp.ContentLength = b, -1 // so that whoever reads it meets the end, where the digest is checked
	return resp, nil
}

// expectationOf returns what the answer to a request must be. Requests for
// tokens, which come on the way to a manifest, have its context.
func expectationOf(req *http.Request) (expectation, bool) {
	first := req
	for first.Response != nil && first.Response.Request != nil { // it was redirected
		first = first.Response.Request
	}
	e, ok := req.Context().Value(expectationKey{}).(expectation)
	switch path := first.URL.Path; {
	case strings.Contains(path, "/blobs/"):
		return e, ok
	case ok && strings.Contains(path, "/manifests/"):
		return e, true
	}
	return expectation{most: maxAnswer}, true
}

// minValue is how many bytes a value of our JSON takes at the least, on
// average. Of shorter ones, like null, decoding makes a hundred times as much.
const minValue = 16

// A guardedBody is an answer as it is read.
type guardedBody struct {
	io.ReadCloser
	expectation
	hash   hash.Hash // nil: nothing is checked
	left   int64     // bytes that may come
	values int64     // of JSON, that may come
	lexer
}

func (b *guardedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	b.values -= b.commas(p[:n])
	if b.hash != nil {
		b.hash.Write(p[:n])
	}
	switch {
	case b.left < 0:
		return 0, fmt.Errorf("%w: an answer of more than %d bytes", ErrMalformed, b.most)
	case b.values < 0:
		return 0, fmt.Errorf("%w: an answer of too many values", ErrMalformed)
	case err == io.EOF && b.hash != nil:
		got := v1.Hash{Algorithm: b.digest.Algorithm, Hex: hex.EncodeToString(b.hash.Sum(nil))}
		if got != b.digest {
			return 0, fmt.Errorf("%w: %w", ErrMalformed, &cache.DigestMismatchError{Want: b.digest, Got: got})
		}
	}
	return n, err
}

// A lexer knows as much of JSON as it takes to count values.
type lexer struct{ quoted, escaped bool }

// commas returns how many commas p has outside of strings.
func (l *lexer) commas(p []byte) (n int64) {
	for _, c := range p {
		switch {
		case l.escaped:
			l.escaped = false
		case c == '\\':
			l.escaped = l.quoted
		case c == '"':
			l.quoted = !l.quoted
		case c == ',' && !l.quoted:
			n++
		}
	}
	return n
}
