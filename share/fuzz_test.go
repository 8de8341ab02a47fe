package share_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/ocicache/ocicache/share"
)

func FuzzDecodeIndex(f *testing.F) {
	_, index, err := share.Encode(share.Unite(makeEntries(20)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(index)
	f.Add([]byte(`{"manifests":[null,{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ds, err := share.DecodeIndex(raw)
		if err != nil {
			if !errors.Is(err, share.ErrMalformed) {
				t.Errorf("got %v", err)
			}
			return
		}
		for _, d := range ds {
			if d.Digest.Hex == "" || d.Size <= 0 || d.Size > share.MaxShardBytes {
				t.Errorf("got %v", d)
			}
		}
	})
}

// What can be decoded can be encoded, and is then decoded as the same.
func FuzzDecodeShard(f *testing.F) {
	shards, _, err := share.Encode(share.Unite(makeEntries(50)))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range shards {
		f.Add(s.Bytes)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		es, _, err := share.DecodeShard(raw)
		if err != nil {
			if !errors.Is(err, share.ErrMalformed) {
				t.Errorf("got %v", err)
			}
			return
		}
		want := share.Unite(es)
		encoded, index, err := share.Encode(want)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		var got []share.Entry
		for _, s := range encoded {
			es, _, err := share.DecodeShard(s.Bytes)
			if err == nil {
				err = share.CheckConfig(s.Config, es)
			}
			if err != nil {
				t.Fatalf("decode: %v", err)
			}
			got = append(got, es...)
		}
		if got = share.Unite(got); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if _, again, err := share.Encode(got); err != nil || !bytes.Equal(again, index) {
			t.Fatalf("another snapshot of the same: %v", err)
		}
	})
}

func FuzzCheckConfig(f *testing.F) {
	shards, _, err := share.Encode(share.Unite(makeEntries(20)))
	if err != nil {
		f.Fatal(err)
	}
	for i, s := range shards {
		f.Add(s.Config, i)
	}
	f.Fuzz(func(t *testing.T, raw []byte, i int) {
		if i < 0 || i >= len(shards) {
			return
		}
		err := share.CheckConfig(raw, shards[i].Entries)
		if err != nil && !errors.Is(err, share.ErrMalformed) {
			t.Errorf("got %v", err)
		}
	})
}
