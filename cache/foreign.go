package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"slices"

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
	Size      int64           `json:"size"`

	isManifest bool // it stands where manifests do
}

// A manifest is what is read of an image manifest or an index, of the OCI's
// former artifact manifest, or of Docker's first image manifest.
type manifest struct {
	MediaType types.MediaType `json:"mediaType"`
	Manifests []link          `json:"manifests"`
	Subject   link            `json:"subject"`
	Config    link            `json:"config"`
	Layers    []link          `json:"layers"`
	Blobs     []link          `json:"blobs"`
	FSLayers  []struct {
		Digest string `json:"blobSum"`
	} `json:"fsLayers"`
}

// readManifest reads a blob as a manifest. It reports false for what is none
// of an image or an index.
func readManifest(b *layout.Blob) (m manifest, ok bool, err error) {
	raw, err := io.ReadAll(io.NewSectionReader(b, 0, min(b.Size, maxManifest)))
	if err != nil || !bytes.HasPrefix(bytes.TrimSpace(raw), []byte{'{'}) {
		return manifest{}, false, err
	}
	if err := json.Unmarshal(raw, &m); err != nil && !errors.As(err, new(*json.UnmarshalTypeError)) { // after which the rest is there
		return manifest{}, false, nil
	}
	return m, len(m.Manifests) > 0 || m.Config.Digest != "", nil
}

// links returns all that a manifest names.
func (m manifest) links() (links []link) {
	for _, l := range append(m.Manifests[:len(m.Manifests):len(m.Manifests)], m.Subject) {
		l.isManifest = true
		links = append(links, l)
	}
	links = append(links, m.Config)
	links = append(append(links, m.Layers...), m.Blobs...)
	for _, l := range m.FSLayers {
		links = append(links, link{Digest: l.Digest})
	}
	return slices.DeleteFunc(links, func(l link) bool { return l.Digest == "" })
}

// othersReach reports whether an image or an index that another tool listed
// in the layout reaches a blob: then the blob is theirs too.
func (c *Cache) othersReach(h v1.Hash) (found bool, err error) {
	want := h.String()
	c.walk(func(l link, _ manifest, werr error) (more bool) {
		found, err = l.Digest == want, unreadable(werr)
		return !found && err == nil
	})
	return found, err
}

// reached returns the digests that what other tools listed in the layout
// reaches. It returns an error if a manifest that is there cannot be read: it
// may reach more.
func (c *Cache) reached() (digests map[string]bool, err error) {
	digests = map[string]bool{}
	c.walk(func(l link, _ manifest, werr error) (more bool) {
		digests[l.Digest], err = true, unreadable(werr)
		return err == nil
	})
	return digests, err
}

// unreadable returns err, unless it says that a manifest is not there or is
// no file: then it reaches nothing.
func unreadable(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil
	}
	return err
}

// walk calls visit once with each digest that what other tools listed in the
// layout reaches, and, of a manifest or an index, with what it says or why
// it cannot be read, until visit returns false.
func (c *Cache) walk(visit func(l link, m manifest, err error) (more bool)) {
	seen := map[string]bool{}
	todo := []link{}
	for _, raw := range c.catalog.foreign() {
		var l link
		if json.Unmarshal(raw, &l) == nil {
			l.isManifest = true
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
		var m manifest
		var err error
		if l.isManifest {
			m, err = c.manifest(l.Digest)
		}
		if !visit(l, m, err) {
			return
		}
		todo = append(todo, m.links()...)
	}
}

// manifest returns what a manifest or an index says: nothing if it is none.
func (c *Cache) manifest(digest string) (manifest, error) {
	h, err := v1.NewHash(digest)
	if err != nil {
		return manifest{}, nil
	}
	b, err := c.layout.Blob(h)
	if err != nil {
		return manifest{}, err
	}
	defer b.Close()
	m, _, err := readManifest(b)
	return m, err
}
