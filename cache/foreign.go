package cache

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/layout"
)

// maxManifest bounds what is read of a manifest, in bytes: far more than
// registries take.
const maxManifest = 64 << 20

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

// errMalformedManifest is that of what begins as a manifest does.
var errMalformedManifest = errors.New("malformed manifest")

// readManifest reads a blob as a manifest. It reports false for what is none
// of an image or an index.
func readManifest(b *layout.Blob) (m manifest, ok bool, err error) {
	r := bufio.NewReader(io.NewSectionReader(b, 0, min(b.Size, maxManifest)))
	if is, err := isObject(r); !is || err != nil {
		return manifest{}, false, err
	}
	if b.Size > maxManifest {
		return manifest{}, false, fmt.Errorf("%w: %d bytes, the limit is %d", errMalformedManifest, b.Size, maxManifest)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return manifest{}, false, err
	}
	if err := json.Unmarshal(raw, &m); err != nil && !errors.As(err, new(*json.UnmarshalTypeError)) { // after which the rest is there
		return manifest{}, false, fmt.Errorf("%w: %w", errMalformedManifest, err)
	}
	return m, len(m.Manifests) > 0 || m.Config.Digest != "", nil
}

// isObject reports whether what follows is a JSON object, if it is JSON.
func isObject(r *bufio.Reader) (bool, error) {
	for {
		switch b, err := r.ReadByte(); {
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		case b == ' ', b == '\t', b == '\r', b == '\n':
		default:
			return b == '{', r.UnreadByte()
		}
	}
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
		found, err = l.Digest == want, unreadable(l, werr)
		return !found && err == nil
	})
	return found, err
}

// reached returns the digests that what other tools listed in the layout
// reaches. It returns an [*unreadableError] as well if a manifest that is there
// cannot be read: it may reach more.
func (c *Cache) reached() (digests map[string]bool, err error) {
	digests = map[string]bool{}
	c.walk(func(l link, _ manifest, werr error) (more bool) {
		digests[l.Digest] = true
		if err == nil {
			err = unreadable(l, werr)
		}
		return true
	})
	return digests, err
}

// An unreadableError is that of a manifest which is there.
type unreadableError struct {
	digest string
	err    error
}

func (e *unreadableError) Error() string {
	return fmt.Sprintf("another tool's manifest %s may reach more: %v; verify finds it, and puts it aside if it is corrupt", e.digest, e.err)
}

func (e *unreadableError) Unwrap() error { return e.err }

// unreadable returns an [*unreadableError], unless err says that a manifest is
// not there or is no file: then it reaches nothing.
func unreadable(l link, err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil
	}
	return &unreadableError{l.Digest, err}
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
			m, err = c.manifest(l)
		}
		if !visit(l, m, err) {
			return
		}
		todo = append(todo, m.links()...)
	}
}

// manifest returns what a manifest or an index says: nothing if it is none, and
// does not claim to be.
func (c *Cache) manifest(l link) (manifest, error) {
	h, err := v1.NewHash(l.Digest)
	if err != nil {
		return manifest{}, nil
	}
	b, err := c.layout.Blob(h)
	if err != nil {
		return manifest{}, err
	}
	defer b.Close()
	m, _, err := readManifest(b)
	if errors.Is(err, errMalformedManifest) && !l.claimsManifest() {
		return manifest{}, nil
	}
	return m, err
}

// claimsManifest reports whether the media type, if there is one, is a
// manifest's.
func (l link) claimsManifest() bool {
	const formerArtifact = "application/vnd.oci.artifact.manifest.v1+json"
	return l.MediaType.IsImage() || l.MediaType.IsIndex() || l.MediaType.IsSchema1() || l.MediaType == formerArtifact || l.MediaType == ""
}

// errOutdated says that the catalog was read anew, or that other tools' images
// changed, after somebody looked.
var errOutdated = errors.New("other tools change index.json all the time")

// maxLooks is how often somebody looks again.
const maxLooks = 100

// lookAgain calls fn, which looks and then acts under the writers' lock, again as
// long as what it saw has changed.
func lookAgain(fn func() error) (err error) {
	for range maxLooks {
		if err = fn(); !errors.Is(err, errOutdated) {
			return err
		}
	}
	return err
}
