package cache

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// newHash returns the hash of an algorithm that [layout.Layout.Valid] knows;
// of any other it is sha256.
func newHash(alg string) hash.Hash {
	if alg == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

func sumHash(alg string, sum []byte) v1.Hash {
	return v1.Hash{Algorithm: alg, Hex: hex.EncodeToString(sum)}
}
