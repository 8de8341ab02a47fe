package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/layout"
)

// maxManifest bounds what is read of a manifest, in bytes: what registries
// take at most, and more.
const maxManifest = 8 << 20

// A link is what is read of a descriptor, in an index or a manifest.
type link struct {
	MediaType types.MediaType `json:"mediaType"`
	Digest    string          `json:"digest"`
}

// A manifest is what is read of an image manifest or an index.
type manifest struct {
	MediaType types.MediaType `json:"mediaType"`
	Manifests []link          `json:"manifests"`
	Config    link            `json:"config"`
	Layers    []link          `json:"layers"`
}

// readManifest reads a blob as a manifest. It reports false for what is none.
func readManifest(b *layout.Blob) (m manifest, ok bool, err error) {
	raw, err := io.ReadAll(io.NewSectionReader(b, 0, min(b.Size, maxManifest)))
	if err != nil || !bytes.HasPrefix(bytes.TrimSpace(raw), []byte{'{'}) {
		return manifest{}, false, err
	}
	if json.Unmarshal(raw, &m) != nil {
		return manifest{}, false, nil
	}
	return m, len(m.Manifests) > 0 || m.Config.Digest != "", nil
}

// links returns all that a manifest names.
func (m manifest) links() []link {
	links := append(m.Manifests[:len(m.Manifests):len(m.Manifests)], m.Layers...)
	if m.Config.Digest != "" {
		links = append(links, m.Config)
	}
	return links
}

// othersReach reports whether an image or an index that another tool listed
// in the layout reaches a blob: then the blob is theirs too.
func (c *Cache) othersReach(h v1.Hash) (found bool, err error) {
	want := h.String()
	err = c.reach(func(digest string) bool {
		found = digest == want
		return !found
	})
	return found, err
}

// reach calls yield with each digest that what other tools listed in the
// layout reaches, once, until yield returns false. It returns an error if a
// manifest that is there cannot be read: it may reach more.
func (c *Cache) reach(yield func(digest string) bool) error {
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
		if seen[l.Digest] {
			continue
		}
		seen[l.Digest] = true
		if !yield(l.Digest) {
			return nil
		}
		if l.MediaType.IsImage() || l.MediaType.IsIndex() {
			links, err := c.links(l.Digest)
			if err != nil {
				return err
			}
			todo = append(todo, links...)
		}
	}
	return nil
}

// links returns what a manifest or an index names: nothing if it is not
// there, or is none.
func (c *Cache) links(digest string) ([]link, error) {
	h, err := v1.NewHash(digest)
	if err != nil {
		return nil, nil
	}
	b, err := c.layout.Blob(h)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer b.Close()
	m, _, err := readManifest(b)
	return m.links(), err
}
