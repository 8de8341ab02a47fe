package index

import (
	"encoding/json"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// record is a line of the journal.
type record struct {
	Put    map[string]json.RawMessage `json:"put"`
	Delete *v1.Hash                   `json:"delete"`
	Drop   *v1.Hash                   `json:"drop"`
	List   json.RawMessage            `json:"list"`
	Use    map[string][2]int64        `json:"use"`
	Key    *keyRecord                 `json:"key"`
	Unkey  *string                    `json:"unkey"`
	Pin    *pinRecord                 `json:"pin"`
	Unpin  *string                    `json:"unpin"`
}

// Apply applies a journal record: what [PutRecord] or another of this
// package's functions made.
// Applying it again is harmless. What it cannot read it leaves out and
// counts.
func (c *Catalog) Apply(line []byte) {
	if c.applyLine(line) {
		c.changes++
	} else {
		c.applyJSON(line)
	}
}

func (c *Catalog) applyJSON(line []byte) {
	var r record
	if json.Unmarshal(line, &r) != nil {
		c.skipped++
		return
	}
	if r.Use != nil {
		c.applyUses(r.Use)
		return
	}
	c.changes++
	switch {
	case r.Put != nil:
		e, _, _, err := parseDescriptor(r.Put)
		if err != nil || !c.put(e) {
			c.skipped++
		}
	case r.Delete != nil:
		c.remove(*r.Delete)
	case r.Drop != nil:
		c.drop(*r.Drop)
	case r.List != nil:
		c.list(r.List)
	case r.Key != nil:
		c.applyKey(*r.Key)
	case r.Unkey != nil:
		c.applyUnkey(*r.Unkey)
	case r.Pin != nil:
		c.applyPin(*r.Pin)
	case r.Unpin != nil:
		c.applyUnpin(*r.Unpin)
	default:
		c.skipped++
	}
}

// list adds a descriptor that is none of ours, unless one of its digest is
// there.
func (c *Catalog) list(raw json.RawMessage) {
	digest := digestIn(raw)
	if digest == "" {
		c.skipped++
		return
	}
	if c.foreignBy == nil {
		c.foreignBy = map[string]bool{}
		for _, other := range c.foreign {
			c.foreignBy[digestIn(other)] = true
		}
	}
	if !c.foreignBy[digest] {
		c.foreignBy[digest] = true
		c.foreign = append(c.foreign, raw)
	}
}

// digestIn returns the digest that a descriptor names, "" if it names none.
func digestIn(raw json.RawMessage) string {
	var d struct {
		Digest string `json:"digest"`
	}
	_ = json.Unmarshal(raw, &d)
	return d.Digest
}
