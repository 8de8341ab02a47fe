package cache

import (
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// expect is what bytes must be. A zero digest and a negative size expect
// nothing.
type expect struct {
	digest v1.Hash
	size   int64
}

// check returns a [*DigestMismatchError] or a [*SizeMismatchError].
func (e expect) check(got v1.Hash, size int64) error {
	if e.digest != (v1.Hash{}) && got != e.digest {
		return &DigestMismatchError{Want: e.digest, Got: got}
	}
	if e.size >= 0 && size != e.size {
		return &SizeMismatchError{Digest: got, Want: e.size, Got: size}
	}
	return nil
}

// checkSum is check for the sum of a hash of the digest's algorithm, or of
// sha256 if no digest is expected.
func (e expect) checkSum(sum []byte, size int64) error {
	alg := e.digest.Algorithm
	if alg == "" {
		alg = "sha256"
	}
	return e.check(sumHash(alg, sum), size)
}

// verified returns a reader that gives EOF only after what it read was as
// expected.
func verified(rc io.ReadCloser, e expect) io.ReadCloser {
	return &verifier{ReadCloser: rc, h: newHash(e.digest.Algorithm), size: e.size, check: e.checkSum}
}

// A verifier checks what it has read before it gives EOF, and when it has
// read more than size, unless that is negative.
type verifier struct {
	io.ReadCloser
	h     hash.Hash
	size  int64
	check func(sum []byte, n int64) error
	n     int64
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.h.Write(p[:n])
	v.n += int64(n)
	if err == io.EOF || v.size >= 0 && v.n > v.size {
		if cerr := v.check(v.h.Sum(nil), v.n); cerr != nil {
			return n, cerr
		}
	}
	return n, err
}
