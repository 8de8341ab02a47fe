package index

import (
	"net/url"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

type pinRecord struct {
	Name    string   `json:"name"` // escaped
	Digests []string `json:"digests"`
	Change  string   `json:"change,omitempty"` // "": these are all; or one of those below
}

const (
	addPins    = "add"    // these too
	removePins = "remove" // not these any more
)

// maxPinned is how many digests one record holds at most: those of sha512 are
// far below what the journal takes.
const maxPinned = 5000

// PinRecords returns the journal records after which a pin holds these
// entries, and no others. It is one record, or many that first add to what the
// pin held and then take away from that, so that what it is to hold is held
// after any of them.
func PinRecords(name string, held, hs []v1.Hash) (records [][]byte) {
	if len(hs) <= maxPinned {
		return [][]byte{pinning(name, hs, "")}
	}
	for some := range slices.Chunk(hs, maxPinned) {
		records = append(records, pinning(name, some, addPins))
	}
	stays := map[v1.Hash]bool{}
	for _, h := range hs {
		stays[h] = true
	}
	goes := slices.DeleteFunc(slices.Clone(held), func(h v1.Hash) bool { return stays[h] })
	for some := range slices.Chunk(goes, maxPinned) {
		records = append(records, pinning(name, some, removePins))
	}
	return records
}

func pinning(name string, hs []v1.Hash, change string) []byte {
	p := pinRecord{Name: url.QueryEscape(name), Digests: []string{}, Change: change}
	for _, h := range hs {
		p.Digests = append(p.Digests, h.String())
	}
	return record1("pin", p)
}

// UnpinRecord returns the journal record that removes a pin.
func UnpinRecord(name string) []byte { return record1("unpin", url.QueryEscape(name)) }

// PinsOf returns the names of the pins that hold an entry, sorted.
func (c *Catalog) PinsOf(h v1.Hash) []string {
	r, _ := c.listedRef(h)
	return sorted(c.pins[r])
}

// Pins returns what each pin holds, sorted.
func (c *Catalog) Pins() map[string][]v1.Hash {
	pins := map[string][]v1.Hash{}
	for r, names := range c.pins {
		for _, name := range names {
			pins[name] = append(pins[name], c.nodes[r].key.hash())
		}
	}
	for _, hs := range pins {
		slices.SortFunc(hs, func(a, b v1.Hash) int { return strings.Compare(a.String(), b.String()) })
	}
	return pins
}

func (c *Catalog) applyPin(p pinRecord) {
	name, err := url.QueryUnescape(p.Name)
	if err != nil || name == "" || p.Change != "" && p.Change != addPins && p.Change != removePins {
		c.skipped++
		return
	}
	if p.Change == "" {
		c.dropPin(name)
	}
	for _, s := range p.Digests {
		r, ok := c.listedRef(parseHash(s))
		switch {
		case !ok:
		case p.Change == removePins:
			setOrDeleteList(c.pins, r, without(c.pins[r], name))
		case p.Change == "", !slices.Contains(c.pins[r], name):
			c.addPin(r, name)
		}
	}
}

// addPin adds a name that an entry does not have, unless it has it last.
func (c *Catalog) addPin(r ref, name string) {
	if list := c.pins[r]; len(list) == 0 || list[len(list)-1] != name {
		c.pins[r] = append(list, name)
		c.pinned[name] = append(c.pinned[name], r)
	}
}

func (c *Catalog) applyUnpin(escaped string) {
	name, err := url.QueryUnescape(escaped)
	if err != nil {
		c.skipped++
		return
	}
	c.dropPin(name)
}

func (c *Catalog) dropPin(name string) {
	for _, r := range c.pinned[name] {
		setOrDeleteList(c.pins, r, without(c.pins[r], name))
	}
	delete(c.pinned, name)
}

// encodePins returns the form that [ocicache.AnnotationPins] has.
func (c *Catalog) encodePins(r ref) string {
	names := sorted(c.pins[r])
	for i, name := range names {
		names[i] = url.QueryEscape(name)
	}
	return strings.Join(names, ",")
}

// decodePins reads what encodePins made, and leaves out what it cannot read.
func (c *Catalog) decodePins(r ref, s string) {
	var names []string
	for item := range strings.SplitSeq(s, ",") {
		if name, err := url.QueryUnescape(item); err == nil && name != "" {
			names = append(names, strings.Clone(name)) // not the whole line that it stands on
		}
	}
	slices.Sort(names) // so that one that is there twice is added once
	for _, name := range names {
		c.addPin(r, name)
	}
}
