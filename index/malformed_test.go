package index_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ocicache/ocicache/index"
)

func TestDecodeMalformed(t *testing.T) {
	tests := []struct{ name, text, where string }{
		{"no JSON", `hello`, "line 1, column 1"},
		{"a list", `[]`, "line 1, column 2"},
		{"null", `null`, "line 1"},
		{"cut short", `{"schemaVersion":2,`, "line 1, column 19"},
		{"cut short in the list", "{\"manifests\":[\n{},\n", "line 2, column 4"},
		{"cut short in a descriptor", "{\"manifests\":[\n{},\n{\"a", "line 3, column 3"},
		{"a bad descriptor", "{\"schemaVersion\":2,\"manifests\":[\n{\"size\":1},\n{\"size\":}\n]}", "line 3, column 9"},
		{"a NUL in a descriptor", "{\"manifests\":[\n{\"size\":1},\n\n{\"size\x00\":1}\n]}", "line 4, column 7"},
		{"no comma", "{\"manifests\":[\n{\"size\":1}\n{\"size\":2}\n]}", "line 3, column 1"},
		{"no list", "{\n\"manifests\":{}}", "line 2, column 14"},
		{"a number for a list", "{\n\"manifests\":5}", "line 2, column 14"},
		{"no map of annotations", "{\n\"annotations\":[]}", "line 2, column 17"},
		{"an annotation that is no string", "{\n\"annotations\":{\"a\":{}}}", "line 2, column 23"},
		{"another schema version", "{\n\"schemaVersion\":1}", "line 2, column 18"},
		{"more after the end", "{}\n{}", "line 2, column 1"},
		{"bytes after the end", "{\"manifests\":[]}\n\n  x", "line 3, column 3"},
		{"a byte order mark", "\ufeff{}", "line 1, column 1"},
		{"too deep", "{\"manifests\":[\n" + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "]}", "line 2"},
		{"too deep elsewhere", "{\n\"x\":" + strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000) + "}", "line 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := index.New().Decode([]byte(tt.text))
			if !errors.Is(err, index.ErrMalformed) {
				t.Fatalf("got %v, want ErrMalformed", err)
			}
			if !strings.Contains(err.Error(), tt.where) {
				t.Errorf("got %q, want it to say %s", err, tt.where)
			}
			if len(err.Error()) > 300 {
				t.Errorf("the error is of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestDecodeEmpty(t *testing.T) {
	for _, text := range []string{
		"", " \n", "{}", `{"manifests":null}`, `{"manifests":[]}`, `{"schemaVersion":2,"annotations":null,"manifests":[ ]}`,
		`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"}`, "\n\n{\n}\n\n",
	} {
		c := index.New()
		folded, err := c.Decode([]byte(text))
		if err != nil || folded != "" || c.Len() != 0 || c.Foreign() != 0 {
			t.Errorf("%q: got %q, %d entries, %d foreign, %v", text, folded, c.Len(), c.Foreign(), err)
		}
	}
}

// Deep, but not too deep: kept as it is.
func TestDecodeDeep(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	c := decode(t, document(deep))
	if text := encode(t, c); !strings.Contains(text, deep) {
		t.Error("it is not kept")
	}
}

func TestApplyMalformed(t *testing.T) {
	good := string(index.PutRecord(index.Entry{Digest: hash(0), Created: 1}))
	bad := []string{
		"", "x", "{", "null", "[]", "{}", `{"n":1}`, `{"put":null}`, `{"put":5}`, `{"put":{}}`, `{"delete":null}`, `{"delete":5}`,
		`{"delete":""}`, `{"delete":"sha256:12"}`, `{"delete":"md5:12"}`, good[:len(good)-1], good + good,
		strings.Replace(good, `:0,`, `:-1,`, 1), strings.Replace(good, `:0,`, `:1e99,`, 1), strings.Replace(good, "sha256", "sha384", 1),
		strings.Replace(good, "dev.ggcr", "com.ggcr", 1), "\x00\x00\x00", strings.Repeat("[", 20000),
	}
	c := index.New()
	put(c, index.Entry{Digest: hash(0), Created: 5})
	for i, line := range bad {
		c.Apply([]byte(line))
		if c.Skipped() != i+1 {
			t.Errorf("%.60q was not skipped", line)
			c = index.New()
			for range i + 1 {
				c.Apply(nil)
			}
		}
	}
	if c.Len() > 1 {
		t.Errorf("got %d entries", c.Len())
	}
}
