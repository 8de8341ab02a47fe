package index

import (
	"net/url"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

type pinRecord struct {
	Name    string   `json:"name"`
	Digests []string `json:"digests"`
}

// PinRecord returns the journal record of a pin that holds these entries, and
// no others that one of its name held before.
func PinRecord(name string, hs []v1.Hash) []byte {
	p := pinRecord{Name: name, Digests: []string{}}
	for _, h := range hs {
		p.Digests = append(p.Digests, h.String())
	}
	return record1("pin", p)
}

// UnpinRecord returns the journal record that removes a pin.
func UnpinRecord(name string) []byte { return record1("unpin", name) }

// PinsOf returns the names of the pins that hold an entry, sorted. They are
// not to be changed.
func (c *Catalog) PinsOf(h v1.Hash) []string {
	r, _ := c.listedRef(h)
	return c.pins[r]
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
	c.dropPin(p.Name)
	for _, s := range p.Digests {
		if r, ok := c.listedRef(parseHash(s)); ok {
			c.pins[r] = with(c.pins[r], p.Name)
		}
	}
}

func (c *Catalog) dropPin(name string) {
	for r, names := range c.pins {
		setOrDeleteList(c.pins, r, without(names, name))
	}
}

// encodePins returns the form that [ocicache.AnnotationPins] has.
func (c *Catalog) encodePins(r ref) string {
	names := make([]string, len(c.pins[r]))
	for i, name := range c.pins[r] {
		names[i] = url.QueryEscape(name)
	}
	return strings.Join(names, ",")
}

// decodePins reads what encodePins made, and leaves out what it cannot read.
func (c *Catalog) decodePins(r ref, s string) {
	for item := range strings.SplitSeq(s, ",") {
		if name, err := url.QueryUnescape(item); err == nil && name != "" {
			c.pins[r] = with(c.pins[r], name)
		}
	}
}
