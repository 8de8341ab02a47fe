package index_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ocicache/ocicache/index"
)

func ours(i int, more string) string {
	return `{"mediaType":"m","size":7,"digest":"` + hash(i).String() + `","annotations":{"dev.ggcr.cache.created":"9"` + more + `}}`
}

// What is not ours, or cannot be an entry, is written back byte for byte.
func TestForeignKept(t *testing.T) {
	digest := hash(0).String()
	tests := map[string]string{
		"a manifest":             `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest + `","size":12}`,
		"with a tag":             `{ "mediaType": "x", "digest": "` + digest + `", "size": 12, "annotations": {"org.opencontainers.image.ref.name": "v1"} }`,
		"over lines":             "{\n\t\"mediaType\": \"x\",\n\t\"digest\": \"" + digest + "\",\n\t\"size\": 12\n}",
		"escapes":                `{"mediaType":"\u003c\/é\u00e9","digest":"` + digest + `","size":1.50e2}`,
		"no descriptor":          `17`,
		"null":                   `null`,
		"a string":               `"dev.ggcr.cache.diffid"`,
		"a list":                 `["dev.ggcr.cache.diffid"]`,
		"keys given twice":       `{"size":1,"size":2}`,
		"negative size":          strings.Replace(ours(0, ""), `:7`, `:-7`, 1),
		"huge size":              strings.Replace(ours(0, ""), `:7`, `:9223372036854775808`, 1),
		"fraction":               strings.Replace(ours(0, ""), `:7`, `:7.0`, 1),
		"size a string":          strings.Replace(ours(0, ""), `:7`, `:"7"`, 1),
		"no size":                strings.Replace(ours(0, ""), `"size":7,`, ``, 1),
		"size null":              strings.Replace(ours(0, ""), `:7`, `:null`, 1),
		"no media type":          strings.Replace(ours(0, ""), `"mediaType":"m",`, ``, 1),
		"no digest":              strings.Replace(ours(0, ""), `"digest":"`+digest+`",`, ``, 1),
		"upper case digest":      strings.Replace(ours(9, ""), `a"`, `A"`, 1),
		"unknown algorithm":      strings.Replace(ours(0, ""), `sha256`, `sha384`, 1),
		"path in the digest":     strings.Replace(ours(0, ""), `sha256:0000000000`, `sha256:../../../x`, 1),
		"a bad diffID":           ours(0, `,"dev.ggcr.cache.diffid":"sha256:12"`),
		"an empty diffID":        ours(0, `,"dev.ggcr.cache.diffid":""`),
		"a bad variant":          ours(0, `,"dev.ggcr.cache.digest":"sha256:12"`),
		"a bad number":           ours(0, `,"dev.ggcr.cache.mtime":"yesterday"`),
		"a number too large":     ours(0, `,"dev.ggcr.cache.mtime":"9223372036854775808"`),
		"annotations a list":     `{"mediaType":"m","size":7,"digest":"` + digest + `","annotations":["dev.ggcr.cache.created"]}`,
		"an annotation a number": ours(0, `,"a":1`),
		"our key as a value":     `{"mediaType":"m","size":7,"digest":"` + digest + `","annotations":{"a":"dev.ggcr.cache.diffid"}}`,
		"our key as a field":     `{"mediaType":"m","size":7,"digest":"` + digest + `","dev.ggcr.cache.diffid":"x","annotations":{}}`,
	}
	for name, raw := range tests {
		t.Run(name, func(t *testing.T) {
			c := decode(t, document(raw, raw, ours(1, "")))
			for range 2 {
				if c.Foreign() != 2 || c.Len() != 1 {
					t.Errorf("got %d foreign and %d ours, want 2 and 1", c.Foreign(), c.Len())
				}
				text := encode(t, c)
				if got := strings.Count(text, raw); got != 2 {
					t.Errorf("got %s\nwant %s in it, twice", text, raw)
				}
				remove(c, hash(0), hash(1))
				put(c, index.Entry{Digest: hash(1), Created: 1})
				c = decode(t, encode(t, c))
			}
		})
	}
}

// What others added to a descriptor of ours stays on it, through puts.
func TestExtrasKept(t *testing.T) {
	tests := map[string]string{ // a descriptor's addition, and how it is written back
		`"platform":{"os":"linux", "architecture":"arm64"}`: "",
		`"urls":["https://example.com/x"]`:                  "",
		`"data":"aGVsbG8="`:                                 "",
		`"artifactType":"application/x"`:                    "",
		`"subject":null`:                                    "",
		`"x-\u003c":{"a":[1,2.50,{"b":null}]}`:              "",
		`"org.opencontainers.image.ref.name":"v1"`:          "annotation",
		`"dev.ggcr.cache.yet-to-come":"<x>"`:                "annotation",
		`"dev.ggcr.cache.":"y"`:                             "annotation",
		`"":""`:                                             "annotation",
	}
	for addition, kind := range tests {
		raw := strings.TrimSuffix(ours(0, ""), "}") + "," + addition + "}"
		if kind == "annotation" {
			raw = ours(0, ","+addition)
		}
		c := decode(t, document(raw))
		put(c, index.Entry{Digest: hash(0), MediaType: "m", Size: 7, Created: 10, DiffID: hash(1), Pair: index.Verified})
		put(c, index.Entry{Digest: hash(1), Tar: true, Created: 1})
		for range 2 {
			var want, got map[string]any
			unmarshal(t, "{"+addition+"}", &want)
			c = decode(t, encode(t, c))
			unmarshal(t, encode(t, c), &got)
			descriptor := got["manifests"].([]any)[0].(map[string]any)
			if kind == "annotation" {
				descriptor = descriptor["annotations"].(map[string]any)
			}
			for key, value := range want {
				if marshal(t, descriptor[key]) != marshal(t, value) {
					t.Errorf("%s: got %v in %v", addition, descriptor[key], descriptor)
				}
			}
			if c.Len() != 2 || c.Foreign() != 0 {
				t.Errorf("%s: got %d entries and %d foreign", addition, c.Len(), c.Foreign())
			}
		}
		remove(c, hash(0))
		put(c, index.Entry{Digest: hash(0), Created: 1})
		if text := encode(t, c); strings.Contains(text, strings.Trim(addition, "{}")) {
			t.Errorf("after a delete: %s is still in %s", addition, text)
		}
	}
}

// The index's own fields and annotations.
func TestTopKept(t *testing.T) {
	const top = `"subject":{"digest":"d", "size":1.0},"artifactType":"a","x":[1, 2],"Manifests":3,"\u00e9":null`
	c := decode(t, `{"annotations":{"a":"b","dev.ggcr.cache.folded":"g:9","dev.ggcr.cache.later":"c"},`+top+`,"manifests":[]}`)
	for range 2 {
		text := encode(t, c)
		var got map[string]any
		unmarshal(t, text, &got)
		var want map[string]any
		unmarshal(t, "{"+top+"}", &want)
		for key, value := range want {
			if marshal(t, got[key]) != marshal(t, value) {
				t.Errorf("%s: got %v, want %v", key, got[key], value)
			}
		}
		if got, want := marshal(t, got["annotations"]), `{"a":"b","dev.ggcr.cache.folded":"g:1","dev.ggcr.cache.later":"c"}`; got != want {
			t.Errorf("annotations: got %s, want %s", got, want)
		}
		c = decode(t, text)
	}
}

// The first line ends where the list begins, however others wrote their
// fields.
func TestTopOverLines(t *testing.T) {
	c := decode(t, "{\n  \"subject\": {\n    \"size\": 1\n  },\n  \"manifests\": []\n}\n")
	line, _, _ := strings.Cut(encode(t, c), "\n")
	if !strings.HasSuffix(line, `"manifests":[`) || !strings.Contains(line, `"subject"`) {
		t.Errorf("got the first line %s", line)
	}
}

// Of two descriptors of one digest the first is the entry, also after it was
// written and read again. What somebody wrote on the second is kept.
func TestDuplicates(t *testing.T) {
	first := index.Entry{Digest: hash(0), MediaType: "m", Size: 7, Created: 9}
	t.Run("the same", func(t *testing.T) {
		c := decode(t, document(ours(0, ""), ours(0, ""), ours(0, `,"dev.ggcr.cache.codec":"x"`)))
		wantEntries(t, c, first)
		if c.Foreign() != 0 {
			t.Errorf("got %d foreign", c.Foreign())
		}
	})
	t.Run("with a tag each", func(t *testing.T) {
		c := decode(t, document(ours(0, ""), ours(0, `,"dev.ggcr.cache.codec":"stale","dev.ggcr.cache.x":"y","tag":"one"`),
			strings.TrimSuffix(ours(0, `,"tag":"two"`), "}")+`,"platform":{"os":"plan9"}}`))
		for range 3 {
			wantEntries(t, c, first)
			text := encode(t, c)
			for _, want := range []string{`"tag":"one"`, `"tag":"two"`, `"plan9"`} {
				if strings.Count(text, want) != 1 {
					t.Errorf("%s is not there once: %s", want, text)
				}
			}
			c = decode(t, text)
		}
		remove(c, hash(0))
		c = decode(t, encode(t, c))
		wantEntries(t, c) // what is deleted does not come back
		if c.Foreign() != 2 {
			t.Errorf("got %d foreign, want 2", c.Foreign())
		}
	})
}

func unmarshal(t *testing.T, text string, to any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), to); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
