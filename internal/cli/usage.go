package cli

import (
	"time"

	"github.com/ocicache/ocicache/cache"
)

// usageJSON is a blob as ls and inspect print it. The names are those that
// filters go by.
type usageJSON struct {
	Digest    string     `json:"digest"`
	DiffID    string     `json:"diffid,omitempty"`
	Pair      string     `json:"pair,omitempty"`
	MediaType string     `json:"mediatype"`
	Form      cache.Form `json:"form"`
	Size      int64      `json:"size"`
	Present   bool       `json:"present"`
	Created   *time.Time `json:"created,omitempty"`
	LastUsed  *time.Time `json:"lastused,omitempty"`
	UseCount  int64      `json:"usecount"`
	Pinned    bool       `json:"pinned"`
	Pins      []string   `json:"pins,omitempty"`
	InUse     bool       `json:"inuse"`
	Keys      []string   `json:"keys,omitempty"`
	Origin    string     `json:"origin,omitempty"`
	Remakable bool       `json:"remakable"`
	Shared    bool       `json:"shared"`
}

func usageOf(u cache.Usage) usageJSON {
	return usageJSON{
		Digest: u.Digest.String(), DiffID: full(u.DiffID), Pair: u.Pair, MediaType: string(u.MediaType), Form: u.Form,
		Size: u.Size, Present: u.Present, Created: timeOf(u.Created), LastUsed: timeOf(u.LastUsed), UseCount: u.UseCount,
		Pinned: u.Pinned, Pins: u.Pins, InUse: u.InUse, Keys: u.Keys, Origin: u.Origin, Remakable: u.Remakable, Shared: u.Shared,
	}
}

// usagesOf never returns nil, which JSON would have as null.
func usagesOf(usages []cache.Usage) []usageJSON {
	all := make([]usageJSON, 0, len(usages))
	for _, u := range usages {
		all = append(all, usageOf(u))
	}
	return all
}

func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
