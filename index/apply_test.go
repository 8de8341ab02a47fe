package index_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
)

func TestApplyTwice(t *testing.T) {
	for _, tt := range forms {
		c := index.New()
		put(c, tt.of...)
		put(c, tt.of...)
		wantEntries(t, c, tt.of...)
		for _, e := range tt.of {
			remove(c, e.Digest, e.Digest)
			if _, ok := c.Get(e.Digest); ok || c.Known(e.Digest) {
				t.Errorf("%s: %v is still known", tt.name, e.Digest)
			}
		}
		if c.Len() != 0 || c.Skipped() != 0 {
			t.Errorf("%s: got %d entries and %d skipped, want none", tt.name, c.Len(), c.Skipped())
		}
	}
}

// Of a pair that one hash is deleted of, the other stays, and knows nothing
// of it.
func TestRemoveHalfAPair(t *testing.T) {
	blob := index.Entry{Digest: hash(0), MediaType: gzipType, Size: 7, DiffID: hash(1), Pair: index.Verified, Codec: "c", Created: 9, Unsynced: "b"}
	tar := index.Entry{Digest: hash(1), MediaType: tarType, Size: 70, Tar: true, Variant: hash(0), Created: 9}
	alone := func(e index.Entry) index.Entry {
		e.DiffID, e.Pair, e.Variant = v1.Hash{}, index.Unknown, v1.Hash{}
		return e
	}
	for _, order := range [][]index.Entry{{blob, tar}, {tar, blob}} {
		c := index.New()
		put(c, order...)
		remove(c, blob.Digest)
		wantEntries(t, c, alone(tar))
		if c.Known(blob.Digest) || len(c.Variants(tar.Digest)) > 0 {
			t.Error("the digest is still known")
		}
		// Its place is taken by another, which is none of the tar's variants.
		other := index.Entry{Digest: hash(2), Size: 8, DiffID: hash(3), Pair: index.Verified, Created: 9}
		put(c, other)
		wantEntries(t, c, alone(tar), other)
		if got := c.Variants(tar.Digest); len(got) > 0 {
			t.Errorf("variants: got %+v, want none", got)
		}

		c = index.New()
		put(c, order...)
		remove(c, tar.Digest)
		wantEntries(t, c, alone(blob))
		if c.Known(tar.Digest) || len(c.Variants(tar.Digest)) > 0 {
			t.Error("the diffID is still known")
		}
	}

	// A diffID that has no entry can be forgotten too.
	c := index.New()
	put(c, blob)
	if !c.Known(tar.Digest) {
		t.Error("the diffID is not known")
	}
	remove(c, tar.Digest)
	wantEntries(t, c, alone(blob))
}

// An entry that names itself goes as a whole.
func TestRemoveSelf(t *testing.T) {
	for _, e := range []index.Entry{
		{Digest: hash(0), DiffID: hash(0), Pair: index.Verified, Created: 1},
		{Digest: hash(0), Tar: true, Variant: hash(0), Created: 1},
		{Digest: hash(0), Tar: true, Variant: hash(0), DiffID: hash(0), Pair: index.Claimed, Created: 1},
		{Digest: hash(0), Tar: true, Variant: hash(0), DiffID: hash(1), Pair: index.Claimed, Created: 1},
	} {
		c := index.New()
		put(c, e)
		wantEntries(t, c, e)
		remove(c, hash(0))
		wantEntries(t, c)
		other := index.Entry{Digest: hash(5), DiffID: hash(6), Pair: index.Verified, Created: 1}
		put(c, other)
		wantEntries(t, c, other)
		for _, h := range []v1.Hash{hash(0), hash(1)} {
			if c.Known(h) || c.Variants(h) != nil {
				t.Errorf("%+v: %v is still known: %+v", e, h, c.Variants(h))
			}
		}
	}
}

// An op is a record, for a catalog and for the model of one.
type op struct {
	put    *index.Entry
	delete v1.Hash
}

func (o op) record() []byte {
	if o.put != nil {
		return index.PutRecord(*o.put)
	}
	return index.DeleteRecord(o.delete)
}

// randomOp puts or deletes one of n hashes.
func randomOp(r *rand.Rand, n int) op {
	if r.IntN(3) == 0 {
		return op{delete: hash(r.IntN(n))}
	}
	e := &index.Entry{
		Digest:    hash(r.IntN(n)),
		MediaType: fmt.Sprint("m", r.IntN(3)),
		Size:      r.Int64N(100),
		Created:   1 + r.Int64N(100),
		ModTime:   r.Int64N(3),
	}
	if r.IntN(3) == 0 {
		e.Tar = true
		if r.IntN(4) > 0 {
			e.Variant = hash(r.IntN(n))
		}
	}
	if r.IntN(3) > 0 {
		e.DiffID, e.Pair = hash(r.IntN(n)), index.Pair(1+r.IntN(3))
	}
	if r.IntN(4) == 0 {
		e.Codec = "c"
	}
	if r.IntN(4) == 0 {
		e.Unsynced = "b"
	}
	return op{put: e}
}

func replay(c *index.Catalog, ops []op) *index.Catalog {
	for _, o := range ops {
		c.Apply(o.record())
	}
	return c
}

// Whatever part of a journal the index holds already, replaying all of it,
// or of a suffix of it that begins no later, comes to the same.
func TestReplay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		ops := make([]op, 1+r.IntN(40))
		for i := range ops {
			ops[i] = randomOp(r, 2+r.IntN(10))
		}
		want := replay(index.New(), ops)
		wantEntries(t, replay(replay(index.New(), ops), ops), entries(want)...)
		for k := range len(ops) + 1 {
			state := encode(t, replay(index.New(), ops[:k]))
			for _, from := range []int{0, r.IntN(k + 1), k} {
				got := replay(decode(t, state), ops[from:])
				wantEntries(t, got, entries(want)...)
				for h := range 12 {
					if got.Known(hash(h)) != want.Known(hash(h)) {
						t.Errorf("Known(%v): got %v", hash(h), got.Known(hash(h)))
					}
				}
			}
			if t.Failed() {
				t.Fatalf("round %d: index holds %d of %d records", round, k, len(ops))
			}
		}
	}
}

// model is a catalog as simple as can be.
type model map[v1.Hash]index.Entry

func (m model) apply(o op) {
	if o.put != nil {
		m[o.put.Digest] = *o.put
		return
	}
	delete(m, o.delete)
	for h, e := range m {
		if e.DiffID == o.delete {
			e.DiffID, e.Pair = v1.Hash{}, index.Unknown
		}
		if e.Variant == o.delete {
			e.Variant = v1.Hash{}
		}
		m[h] = e
	}
}

func (m model) entries() (es []index.Entry) {
	for _, e := range m {
		es = append(es, e)
	}
	return es
}

func (m model) known(h v1.Hash) bool {
	if _, ok := m[h]; ok {
		return true
	}
	return slices.ContainsFunc(m.entries(), func(e index.Entry) bool { return e.DiffID == h })
}

// variants returns how many there are, verified and claimed.
func (m model) variants(h v1.Hash) (verified, claimed int) {
	for _, e := range m {
		switch {
		case e.DiffID != h:
		case e.Pair == index.Verified:
			verified++
		case e.Pair == index.Claimed:
			claimed++
		}
	}
	return verified, claimed
}

// A catalog does what the model does, through thousands of records that use
// its nodes again and again.
func TestModel(t *testing.T) {
	for _, n := range []int{2, 4, 12, 40} {
		r := rand.New(rand.NewPCG(3, uint64(n)))
		c, m := index.New(), model{}
		for step := range 3000 {
			o := randomOp(r, n)
			c.Apply(o.record())
			m.apply(o)
			wantEntries(t, c, m.entries()...)
			for i := range n {
				checkHash(t, c, m, hash(i))
			}
			if step%500 == 499 {
				c = decode(t, encode(t, c)) // and on with what was read
			}
			if t.Failed() {
				t.Fatalf("%d hashes, step %d: %s", n, step, o.record())
			}
		}
	}
}

func checkHash(t *testing.T, c *index.Catalog, m model, h v1.Hash) {
	t.Helper()
	if got, want := c.Known(h), m.known(h); got != want {
		t.Errorf("Known(%v): got %v, want %v", h, got, want)
	}
	if _, ok := c.Get(h); ok != (m[h].Digest == h) {
		t.Errorf("Get(%v): got %v", h, ok)
	}
	verified, claimed := m.variants(h)
	got := c.Variants(h)
	if len(got) != verified+claimed {
		t.Fatalf("Variants(%v): got %d, want %d", h, len(got), verified+claimed)
	}
	for i, v := range got {
		if v != m[v.Digest] || v.DiffID != h || (v.Pair == index.Verified) != (i < verified) {
			t.Errorf("Variants(%v): %d is %+v", h, i, v)
		}
		if v.Digest == m[h].Variant && v.Pair == index.Verified && i > 0 {
			t.Errorf("Variants(%v): the one to prefer is %d", h, i)
		}
	}
}
