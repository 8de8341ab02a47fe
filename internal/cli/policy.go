package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ocicache/ocicache/cache"
)

// policyFlags returns the flags of a policy, which are its fields in a file.
func policyFlags(p *cache.PrunePolicy) *pflag.FlagSet {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.BoolVar(&p.All, "all", false, "remove all that nothing protects; without a limit, remembered pairs and build keys too")
	f.StringArrayVar(&p.Filters, "filter", nil, "remove only what this `FILTER` matches (may be repeated)")
	f.Var((*durationValue)(&p.KeepDuration), "keep-duration", "keep what was used or made so short a time ago")
	f.Var((*sizeValue)(&p.ReservedBytes), "reserved-bytes", "never remove below so much")
	f.Var((*sizeValue)(&p.MaxBytes), "max-bytes", "remove down to so much")
	f.Var((*sizeValue)(&p.MinFreeBytes), "min-free-bytes", "remove until so much is free on the disk")
	return f
}

// policiesOf reads a file of policies.
func policiesOf(file string) ([]cache.PrunePolicy, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(b, &list); errors.As(err, new(*json.UnmarshalTypeError)) { // in Go's own words
		return nil, fmt.Errorf("%s: want a JSON list of objects", file)
	} else if err != nil {
		return nil, fmt.Errorf("%s: want a JSON list of objects: %w", file, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s has no policies: want a JSON list of at least one", file)
	}
	var policies []cache.PrunePolicy
	for i, fields := range list {
		p, err := policyOf(fields)
		if err != nil {
			return nil, fmt.Errorf("%s: policy %d: %w", file, i+1, err)
		}
		policies = append(policies, p)
	}
	return policies, nil
}

// policyOf sets flags to what the fields of the same names say.
func policyOf(fields map[string]json.RawMessage) (p cache.PrunePolicy, err error) {
	flags := policyFlags(&p)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if flags.Lookup(name) == nil {
			return p, fmt.Errorf("no such field: %q: want %s", name, names(flags))
		}
		values := []json.RawMessage{fields[name]}
		if name == "filter" && bytes.HasPrefix(fields[name], []byte("[")) {
			if err := json.Unmarshal(fields[name], &values); err != nil {
				return p, err
			}
		}
		for _, v := range values {
			if err := flags.Set(name, word(v)); errors.As(err, new(*strconv.NumError)) { // likewise
				return p, fmt.Errorf("%q is %s, want true or false", name, v)
			} else if err != nil {
				return p, err
			}
		}
	}
	return p, checkPolicy(flags, p, "")
}

// checkPolicy refuses what says something else than it does: a limit of 0 is
// none. Its errors have dashes before the fields' names.
func checkPolicy(flags *pflag.FlagSet, p cache.PrunePolicy, dashes string) error {
	for _, field := range []struct {
		name   string
		none   bool
		advice string
	}{
		{"filter", slices.ContainsFunc(p.Filters, func(f string) bool { return strings.TrimSpace(f) == "" }), "want one as in form==uncompressed, or " + dashes + "all"},
		{"keep-duration", p.KeepDuration == 0, "to keep nothing for its age, leave it out"},
		{"reserved-bytes", p.ReservedBytes == 0, "to reserve nothing, leave it out"},
		{"max-bytes", p.MaxBytes == 0, "to remove all that nothing protects, use " + dashes + "all"},
		{"min-free-bytes", p.MinFreeBytes == 0, "to remove whatever is free, leave it out"},
	} {
		if flags.Changed(field.name) && field.none {
			return fmt.Errorf("%s%s says nothing: %s", dashes, field.name, field.advice)
		}
	}
	limits := p.All || len(p.Filters) > 0 || p.KeepDuration > 0 || p.MaxBytes > 0 || p.MinFreeBytes > 0
	if p.ReservedBytes > 0 && !limits {
		return fmt.Errorf("%[1]sreserved-bytes says only what stays: want %[1]sall, %[1]sfilter, %[1]skeep-duration, %[1]smax-bytes or %[1]smin-free-bytes beside it", dashes)
	}
	return nil
}

// word returns a JSON value as a flag takes it.
func word(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) != nil || string(v) == "null" {
		return string(v)
	}
	return s
}

func names(flags *pflag.FlagSet) string {
	var all []string
	flags.VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	return strings.Join(all, ", ")
}

// changed returns the name of a flag that was given, "" if none was.
func changed(flags *pflag.FlagSet) (name string) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			name = f.Name
		}
	})
	return name
}
