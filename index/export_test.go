package index

// DecodeJSON is Decode without the faster way.
func (c *Catalog) DecodeJSON(b []byte) (folded string, err error) { return c.decodeJSON(b) }

// ApplyJSON is Apply without the faster way.
func (c *Catalog) ApplyJSON(line []byte) { c.applyJSON(line) }
