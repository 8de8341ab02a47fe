package index

import (
	"encoding/hex"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// key is a digest without pointers: a catalog of millions is nothing to the
// garbage collector.
type key struct {
	alg byte
	sum [64]byte
}

const (
	sha256 byte = iota + 1
	sha512
)

func makeKey(h v1.Hash) (k key, ok bool) {
	n := 0
	switch h.Algorithm {
	case "sha256":
		k.alg, n = sha256, 32
	case "sha512":
		k.alg, n = sha512, 64
	}
	if n == 0 || len(h.Hex) != 2*n {
		return key{}, false
	}
	var bad byte
	for i := range n {
		hi, lo := unhex[h.Hex[2*i]]-1, unhex[h.Hex[2*i+1]]-1 // 255 for what is none
		bad |= hi | lo
		k.sum[i] = hi<<4 | lo
	}
	if bad > 15 {
		return key{}, false
	}
	return k, true
}

// unhex holds the value of each hexadecimal digit, in lower case, plus one.
var unhex = [256]byte{
	'0': 1, '1': 2, '2': 3, '3': 4, '4': 5, '5': 6, '6': 7, '7': 8, '8': 9, '9': 10,
	'a': 11, 'b': 12, 'c': 13, 'd': 14, 'e': 15, 'f': 16,
}

func (k key) hash() v1.Hash {
	switch k.alg {
	case sha256:
		return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(k.sum[:32])}
	case sha512:
		return v1.Hash{Algorithm: "sha512", Hex: hex.EncodeToString(k.sum[:])}
	}
	return v1.Hash{}
}
