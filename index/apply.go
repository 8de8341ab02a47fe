package index

import (
	"encoding/json"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// record is a line of the journal.
type record struct {
	Put    map[string]json.RawMessage `json:"put"`
	Delete *v1.Hash                   `json:"delete"`
}

// Apply applies a journal record: what [PutRecord] or [DeleteRecord] made.
// Applying it again is harmless. What it cannot read it leaves out and
// counts.
func (c *Catalog) Apply(line []byte) {
	if !c.applyLine(line) {
		c.applyJSON(line)
	}
}

func (c *Catalog) applyJSON(line []byte) {
	var r record
	if json.Unmarshal(line, &r) != nil {
		c.skipped++
		return
	}
	switch {
	case r.Put != nil:
		e, _, err := parseDescriptor(r.Put)
		if err != nil || !c.put(e) {
			c.skipped++
		}
	case r.Delete != nil:
		c.remove(*r.Delete)
	default:
		c.skipped++
	}
}
