package cache

import (
	"encoding/json"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxManifest bounds what is read of a manifest, in bytes: what registries
// take at most, and more.
const maxManifest = 8 << 20

// A link is what is read of a descriptor, in an index or a manifest.
type link struct {
	MediaType types.MediaType `json:"mediaType"`
	Digest    string          `json:"digest"`
}

// othersReach reports whether an image or an index that another tool listed
// in the layout reaches a blob: then the blob is theirs too.
func (c *Cache) othersReach(h v1.Hash) bool {
	want := h.String()
	seen := map[string]bool{}
	todo := []link{}
	for _, raw := range c.catalog.foreign() {
		var l link
		if json.Unmarshal(raw, &l) == nil {
			todo = append(todo, l)
		}
	}
	for len(todo) > 0 {
		l := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if l.Digest == want {
			return true
		}
		if !seen[l.Digest] && (l.MediaType.IsImage() || l.MediaType.IsIndex()) {
			seen[l.Digest] = true
			todo = append(todo, c.links(l.Digest)...)
		}
	}
	return false
}

// links returns what a manifest or an index names, nothing if it cannot be
// read.
func (c *Cache) links(digest string) []link {
	h, err := v1.NewHash(digest)
	if err != nil {
		return nil
	}
	b, err := c.layout.Blob(h)
	if err != nil {
		return nil
	}
	defer b.Close()
	var m struct {
		Manifests []link `json:"manifests"`
		Config    link   `json:"config"`
		Layers    []link `json:"layers"`
	}
	if json.NewDecoder(io.LimitReader(b, maxManifest)).Decode(&m) != nil {
		return nil
	}
	return append(append(m.Manifests, m.Layers...), m.Config)
}
