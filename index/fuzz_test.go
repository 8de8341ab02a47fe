package index_test

import (
	"bytes"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
)

// FuzzDecode reads any bytes as an index.json. What can be read can be
// written, and what was written is read again and written the same.
func FuzzDecode(f *testing.F) {
	for _, tt := range forms {
		c := index.New()
		put(c, tt.of...)
		f.Add(encode(f, c))
	}
	f.Add(encode(f, marked(f)))
	f.Add("")
	f.Add(`{"schemaVersion":2,"manifests":null}`)
	f.Add(document(ours(0, ""), ours(0, `,"tag":"x"`), ours(0, `,"dev.ggcr.cache.x":"y"`), `{"foreign":1}`, `null`))
	f.Add(strings.TrimSuffix(document(ours(1, ""), "\n"+ours(2, "")+"\n"), "}") + `,"subject":{"a":[1]},"annotations":{"a":"<"}}`)
	f.Add(document(strings.Replace(ours(0, ""), ":7", ":-7", 1)) + "x")
	f.Fuzz(func(t *testing.T, text string) {
		c := index.New()
		if _, err := c.Decode([]byte(text)); err != nil {
			if !errors.Is(err, index.ErrMalformed) || !strings.Contains(err.Error(), "line ") {
				t.Errorf("got %v, want ErrMalformed and where", err)
			}
			return
		}
		first := encode(t, c)
		again := decode(t, first)
		if second := encode(t, again); second != first {
			t.Errorf("written again:\ngot  %s\nwant %s", second, first)
		}
		if again.Len() != c.Len() || again.Foreign() != c.Foreign() {
			t.Errorf("got %d entries and %d foreign, want %d and %d", again.Len(), again.Foreign(), c.Len(), c.Foreign())
		}
		wantEntries(t, again, entries(decode(t, first))...)
	})
}

// FuzzFaster compares the two ways of reading an index, and those of reading a
// record.
func FuzzFaster(f *testing.F) {
	for _, tt := range forms {
		c := index.New()
		put(c, tt.of...)
		f.Add(encode(f, c), string(index.PutRecord(tt.of[0])))
		f.Add("\n"+encode(f, c), "")
	}
	f.Add(encode(f, marked(f)), string(index.KeyRecord(odd, index.BuildKey{Digest: hash(1), MediaType: ociType, Created: 1})))
	head, _, _ := strings.Cut(encode(f, index.New()), "\n")
	long := head[:len(head)-len(`"manifests":[`)]
	for _, lines := range []string{
		ours(0, ""), ours(0, "") + ",\n" + ours(1, ""), ours(0, "") + "\n" + ours(1, ""), ours(0, "") + ",",
		ours(0, "") + ",\n" + ours(0, `,"tag":"x"`) + ",\n null ,\n{\"a\":\n1}", "null", "", "\n", "1,\n2",
		strings.Replace(ours(0, ""), ":7", ":007", 1), strings.Replace(ours(0, ""), ":7", ":9223372036854775807", 1),
		ours(0, `,"dev.ggcr.cache.codec":"x"`), ours(0, `,"dev.ggcr.cache.mtime":"007"`), ours(0, `,"dev.ggcr.cache.mtime":"+7"`),
	} {
		f.Add(head+"\n"+lines+"\n]}\n", `{"n":1,"put":`+lines+"}")
		f.Add(long+"\"x\\\"manifests\":[\n"+lines+"\n]}\n", `{"n":01,"put":`+lines+"}")
		f.Add(long+"\"x\":{\"manifests\":[\n"+lines+"\n]}\n", `{"put":`+lines+`,"delete":"`+hash(0).String()+`"}`)
	}
	f.Fuzz(func(t *testing.T, text, record string) {
		got, want := index.New(), index.New()
		gotFolded, gotErr := got.Decode([]byte(text))
		wantFolded, wantErr := want.DecodeJSON([]byte(text))
		if strings.TrimSpace(text) == "" {
			wantErr = nil
		}
		if (gotErr == nil) != (wantErr == nil) || gotErr == nil && gotFolded != wantFolded {
			t.Fatalf("got %q, %v, want %q, %v", gotFolded, gotErr, wantFolded, wantErr)
		}
		if gotErr != nil {
			return
		}
		for range 2 {
			if got, want := encode(t, got), encode(t, want); got != want {
				t.Fatalf("got  %s\nwant %s", got, want)
			}
			got.Apply([]byte(record))
			want.ApplyJSON([]byte(record))
		}
		if got.Skipped() != want.Skipped() {
			t.Errorf("%d were skipped, want %d", got.Skipped(), want.Skipped())
		}
	})
}

// FuzzApply applies any lines as journal records, twice.
func FuzzApply(f *testing.F) {
	for _, tt := range forms {
		var lines [][]byte
		for _, e := range tt.of {
			lines = append(lines, index.PutRecord(e), index.DeleteRecord(e.Digest), index.PutRecord(e))
		}
		f.Add(bytes.Join(lines, []byte{'\n'}))
	}
	f.Add(bytes.Join([][]byte{
		index.PutRecord(forms[0].of[0]),
		index.KeyRecord(odd, index.BuildKey{Digest: forms[0].of[0].Digest, MediaType: ociType, Shareable: true, Created: 1}),
		index.PinRecords(oddPin, nil, []v1.Hash{forms[0].of[0].Digest})[0],
		index.DropKeyRecord("second"), index.UnpinRecord("other"),
	}, []byte{'\n'}))
	f.Add([]byte(`{"n":1,"delete":"sha256:00"}` + "\n" + `{"n":2,"put":{}}` + "\n\x00"))
	f.Fuzz(func(t *testing.T, journal []byte) {
		lines := bytes.Split(journal, []byte{'\n'})
		apply := func(c *index.Catalog) *index.Catalog {
			for _, line := range lines {
				c.Apply(line)
			}
			return c
		}
		c := apply(index.New())
		if c.Skipped() > len(lines) {
			t.Errorf("%d of %d records were skipped", c.Skipped(), len(lines))
		}
		decoded := decode(t, encode(t, c))
		if got, want := maps.Collect(decoded.Keys()), maps.Collect(c.Keys()); !maps.Equal(got, want) {
			t.Errorf("keys: got %v, want %v", got, want)
		}
		if got, want := decoded.Pins(), c.Pins(); !reflect.DeepEqual(got, want) {
			t.Errorf("pins: got %v, want %v", got, want)
		}
		want := entries(decoded)
		wantEntries(t, decode(t, encode(t, apply(c))), want...)
		wantEntries(t, decode(t, encode(t, apply(decode(t, encode(t, c))))), want...)
		for _, e := range want {
			remove(c, e.Digest)
			if c.Known(e.Digest) {
				t.Errorf("%v is still known", e.Digest)
			}
		}
		if c.Len() != 0 {
			t.Errorf("%d entries are left", c.Len())
		}
	})
}
