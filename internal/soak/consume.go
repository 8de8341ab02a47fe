package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/internal/soak/layers"
)

// consume reads what open opens in one of several ways, and checks every byte
// that it gets. Of a whole that has the hash want, but no content that is
// known, what it decompresses to is checked. It reports whether all was read.
func (t *task) consume(open func() (io.ReadCloser, error), want v1.Hash, content func() []byte, may func(error) bool) (whole bool) {
	rc, err := open()
	if !t.check(err, may) {
		return false
	}
	way := t.rnd.IntN(100)
	if content == nil || way < 60 {
		whole = t.readWhole(rc, want, content == nil, may)
	} else {
		t.readPart(rc, content(), may)
	}
	if way >= 95 && content != nil {
		return false // dropped: the runtime finds it
	}
	t.check(rc.Close())
	return whole
}

func (t *task) readWhole(rc io.ReadCloser, want v1.Hash, unpack bool, may func(error) bool) bool {
	h, all := sha256.New(), &bytes.Buffer{}
	var w io.Writer = h
	if unpack {
		w = io.MultiWriter(h, all)
	}
	var src io.Reader = rc
	if t.oneIn(2) {
		src = struct{ io.Reader }{rc} // by Read, not by WriteTo
	}
	n, err := io.Copy(w, src)
	if !t.check(err, may) {
		return false
	}
	t.c.out.change(func(now *report) { now.Bytes += n })
	if got := hex.EncodeToString(h.Sum(nil)); got != want.Hex {
		t.fault(wrongBytes, fmt.Sprintf("want %s, got %d bytes sha256:%s", want, n, got))
		return false
	}
	if unpack {
		t.unpack(all)
	}
	return true
}

func (t *task) unpack(blob io.Reader) {
	r, err := compression.NewReader(blob)
	if err == nil {
		var tar []byte
		if tar, err = io.ReadAll(r); err == nil && layers.HashOf(tar) != t.l.DiffID {
			err = fmt.Errorf("decompresses to %s", layers.HashOf(tar))
		}
	}
	if err != nil {
		t.fault(wrongBytes, fmt.Sprintf("a blob of %s: %v", t.l.DiffID, err))
	}
}

// readPart reads some of the content, in pieces.
func (t *task) readPart(r io.Reader, want []byte, may func(error) bool) {
	buf := make([]byte, 1+t.rnd.IntN(64<<10))
	n := 0
	for stop := t.rnd.IntN(len(want) + 1); n < stop; {
		m, err := r.Read(buf)
		if n+m > len(want) || !bytes.Equal(buf[:m], want[n:n+m]) {
			t.fault(wrongBytes, fmt.Sprintf("part of %s, of the %d bytes from %d on", t.l.Digest, m, n))
			return
		}
		n += m
		if err == io.EOF && n == len(want) || !t.check(err, may) {
			break
		}
	}
	t.c.out.change(func(now *report) { now.Bytes += int64(n) })
}
