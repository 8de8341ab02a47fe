package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache"
	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/internal/filter"
	"github.com/ocicache/ocicache/layout"
)

// A Form says which of a layer's forms a blob is.
type Form string

// The forms. A layer that is distributed uncompressed is of the second. While
// no diffID is known, the media type tells.
const (
	FormCompressed   Form = "compressed"
	FormUncompressed Form = "uncompressed"
	FormUnknown      Form = "unknown"
)

// formOfType returns the form that a media type says.
func formOfType(mediaType string) Form {
	switch {
	case !compression.IsLayer(mediaType):
		return FormUnknown
	case compression.Uncompressed(mediaType) == mediaType:
		return FormUncompressed
	}
	return FormCompressed
}

// A Usage is a blob that the cache has, or remembers.
type Usage struct {
	Digest    v1.Hash // of the blob; for the uncompressed form of a layer, its diffID
	DiffID    v1.Hash // zero if none is known
	Pair      string  // what is known of that: [ocicache.PairVerified], …; "" if nothing is
	MediaType types.MediaType
	Form      Form
	Size      int64 // in bytes, on disk if it is there
	Present   bool  // its bytes are there; else it is remembered
	// Distributed says that the blob is a layer as a registry may have it, and
	// not only the tar of one.
	Distributed bool

	Created  time.Time // when its bytes came; of those that never did, when they were heard of
	LastUsed time.Time // when it was last opened to be read; zero if it never was
	UseCount int64     // how often it was

	Pinned bool     // something holds it, by a name or, unless the cache is read-only, for as long as a process lives
	Pins   []string // the names that hold it, sorted
	InUse  bool     // a reader of this process has it open
	Keys   []string // of the builds that made it, sorted
	Origin string   // the repository that it first came from; "" if that is unknown

	// Remakable says that the bytes can be made again from others that are
	// there: the tar of a blob, or a blob that this cache compressed itself.
	Remakable bool
	// Shared says that more than one thing needs the bytes: several
	// compressed forms have this tar, several keys or pins this layer, or an
	// image of another tool in the directory reaches it.
	Shared bool

	sources        []v1.Hash // what is there that its bytes can be made again from
	compressedHere bool      // so that the tar gives the same bytes again
	foreign        bool      // an image of another tool reaches it
	put            uint32    // see [index.Catalog.Put]
	modTime        int64     // of the file, if it is there, in nanoseconds
}

// usageFields are what [Cache.DiskUsage] filters by.
var usageFields = filter.Schema{
	"digest": filter.KindString, "diffid": filter.KindString, "pair": filter.KindString,
	"mediatype": filter.KindString, "form": filter.KindString, "origin": filter.KindString,
	"size": filter.KindInt, "usecount": filter.KindInt,
	"created": filter.KindTime, "lastused": filter.KindTime, "touched": filter.KindTime,
	"present": filter.KindBool, "pinned": filter.KindBool, "inuse": filter.KindBool,
	"remakable": filter.KindBool, "shared": filter.KindBool,
	"keys": filter.KindStrings, "pins": filter.KindStrings,
}

// field returns the value that filters see.
func (u *Usage) field(name string) filter.Value {
	switch name {
	case "digest":
		return filter.StringValue(u.Digest.String())
	case "diffid":
		return filter.StringValue(text(u.DiffID))
	case "pair":
		return filter.StringValue(u.Pair)
	case "mediatype":
		return filter.StringValue(string(u.MediaType))
	case "form":
		return filter.StringValue(string(u.Form))
	case "origin":
		return filter.StringValue(u.Origin)
	case "size":
		return filter.IntValue(u.Size)
	case "usecount":
		return filter.IntValue(u.UseCount)
	case "created":
		return filter.TimeValue(u.Created)
	case "lastused":
		return filter.TimeValue(u.LastUsed)
	case "touched":
		return filter.TimeValue(u.touched())
	case "present":
		return filter.BoolValue(u.Present)
	case "pinned":
		return filter.BoolValue(u.Pinned)
	case "inuse":
		return filter.BoolValue(u.InUse)
	case "remakable":
		return filter.BoolValue(u.Remakable)
	case "shared":
		return filter.BoolValue(u.Shared)
	case "keys":
		return filter.StringsValue(u.Keys...)
	case "pins":
		return filter.StringsValue(u.Pins...)
	}
	return filter.Value{}
}

// touched is when a blob was used, or made if it never was.
func (u *Usage) touched() time.Time {
	if u.LastUsed.After(u.Created) {
		return u.LastUsed
	}
	return u.Created
}

// text returns a hash as text, "" for the zero one.
func text(h v1.Hash) string {
	if h == (v1.Hash{}) {
		return ""
	}
	return h.String()
}

// DiskUsage returns what the cache has and remembers, sorted by digest: all
// that any of the filters matches, everything without one. The filters are
// containerd's, and compare numbers and times as well:
//
//	form==uncompressed,size>100MB
//	touched<7d,keys~=go-build
//
// The fields are those of [Usage], in lower case, and touched: when it was last
// used, or made if it never was, which is what [PrunePolicy.KeepDuration] goes
// by; lastused is never then, and that is before all times. A duration means
// that long ago. The errors are [ErrClosed], the context's, and those of a
// filter that cannot be read, and [ErrLocked]. What a malformed manifest of
// another tool reaches is not shown.
func (c *Cache) DiskUsage(ctx context.Context, filters ...string) ([]Usage, error) {
	if c.fills.isClosed() {
		return nil, fmt.Errorf("cache: disk usage: %w", ErrClosed)
	}
	f, err := usageFields.Parse(c.o.clock(), filters...)
	if err != nil {
		return nil, fmt.Errorf("cache: disk usage: %w", err)
	}
	c.catchUp()
	reached, err := c.reached()
	switch {
	case errors.Is(err, errMalformedManifest): // show what can be told
		c.fault(err)
	case err != nil:
		return nil, fmt.Errorf("cache: disk usage: %w", err)
	}
	all, err := c.usages(ctx, reached)
	if err != nil {
		return nil, fmt.Errorf("cache: disk usage: %w", err)
	}
	all = slices.DeleteFunc(all, func(u Usage) bool { return !f.Match(u.field) })
	return all, nil
}

// usages returns all usages, sorted by digest, given what other tools' images
// reach.
func (c *Cache) usages(ctx context.Context, reached map[string]bool) ([]Usage, error) {
	held, err := c.held(ctx)
	if err != nil {
		return nil, err
	}
	var all []Usage
	for d := range c.catalog.clone().Details() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		u, err := c.usage(d)
		if err != nil {
			return nil, err
		}
		u.Pinned = len(u.Pins) > 0 || held[u.Digest]
		u.foreign = reached[u.Digest.String()]
		u.Shared = u.foreign || len(u.Keys)+len(u.Pins) > 1
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b Usage) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	findSources(all)
	return all, nil
}

// findSources finds what can be made of what: a tar of each blob that is
// verified to decompress to it, and a blob that this cache compressed of its
// tar.
func findSources(all []Usage) {
	blobs := map[v1.Hash][]v1.Hash{} // by diffID
	present := map[v1.Hash]bool{}
	for _, u := range all {
		present[u.Digest] = u.Present
		if u.Present && u.Form == FormCompressed && u.Pair == ocicache.PairVerified {
			blobs[u.DiffID] = append(blobs[u.DiffID], u.Digest)
		}
	}
	for i := range all {
		u := &all[i]
		switch {
		case !u.Present:
		case u.Form == FormUncompressed:
			u.sources = blobs[u.Digest]
			u.Shared = u.Shared || len(u.sources) > 1
		case u.compressedHere && u.Pair == ocicache.PairVerified && present[u.DiffID]:
			u.sources = []v1.Hash{u.DiffID}
		}
		u.Remakable = len(u.sources) > 0
	}
}

// usage returns what an entry says, and whether its bytes are there.
func (c *Cache) usage(d index.Detail) (Usage, error) {
	u := Usage{
		Digest: d.Digest, DiffID: d.DiffID, MediaType: types.MediaType(d.MediaType), Size: d.Size,
		Form: formOfType(d.MediaType), Created: at(d.Created), Pins: d.Pins, Keys: d.Keys, Origin: d.Origin, InUse: c.uses.isOpen(d.Digest),
		Distributed: !d.Tar || d.Pair != index.Unknown, compressedHere: d.Codec != "", put: d.Put,
	}
	switch size, modTime, err := c.layout.StatBlob(d.Digest); {
	case err == nil:
		u.Present, u.Size, u.modTime = true, size, modTime
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid):
		return u, err
	}
	switch {
	case d.Tar:
		u.Form, u.DiffID, u.Pair = FormUncompressed, d.Digest, ocicache.PairVerified
	case d.DiffID == d.Digest && d.Pair != index.Unknown:
		u.Form, u.Pair = FormUncompressed, d.Pair.String()
	case d.Pair != index.Unknown:
		u.Form, u.Pair = FormCompressed, d.Pair.String()
	}
	use := c.use(d.Digest)
	u.LastUsed, u.UseCount = at(use.Last), use.Count
	return u, nil
}

func at(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// held returns what live processes hold. Looking takes a lock, which cannot be
// had where nothing can be written.
func (c *Cache) held(ctx context.Context) (held map[v1.Hash]bool, err error) {
	if c.o.readOnly {
		return nil, nil
	}
	err = c.layout.Update(ctx, func(tx *layout.Tx) error {
		held, err = tx.Held()
		return err
	})
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		c.fault(err)
		return nil, nil
	}
	return held, err
}

// UsageTotal sums usages up. Sizes are in bytes, of what is there.
type UsageTotal struct {
	Present    int // blobs that are there
	Remembered int // pairs whose bytes are gone
	Bytes      int64
	Remakable  int64 // of these, what can be made again from the others
	Shared     int64 // likewise, what more than one thing needs
	Pinned     int64 // likewise, what something holds
}

// TotalUsage sums usages up.
func TotalUsage(usages []Usage) (t UsageTotal) {
	for _, u := range usages {
		if !u.Present {
			t.Remembered++
			continue
		}
		t.Present++
		t.Bytes += u.Size
		if u.Remakable {
			t.Remakable += u.Size
		}
		if u.Shared {
			t.Shared += u.Size
		}
		if u.Pinned {
			t.Pinned += u.Size
		}
	}
	return t
}
