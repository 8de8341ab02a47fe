package layout_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/layout"
)

// A replica is the simplest that can follow a log: a set of names, and the
// names that other tools put into the index.
type replica struct {
	mu     sync.Mutex
	live   state
	next   *state
	resets int
	ended  []bool
}

type state struct {
	Folded  string   `json:"folded,omitempty"`
	Foreign []string `json:"foreign,omitempty"`
	Names   []string `json:"names"`
}

func (r *replica) Reset(index []byte) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resets++
	r.next = &state{}
	if len(index) == 0 {
		return "", nil
	}
	err := json.Unmarshal(index, r.next)
	return r.next.Folded, err
}

func (r *replica) Apply(line []byte) {
	var record struct{ Add string }
	if json.Unmarshal(line, &record) != nil || record.Add == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	to := &r.live
	if r.next != nil {
		to = r.next
	}
	if !slices.Contains(to.Names, record.Add) {
		to.Names = append(to.Names, record.Add)
	}
}

func (r *replica) End(ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ok {
		r.live = *r.next
	}
	r.next = nil
	r.ended = append(r.ended, ok)
}

func (r *replica) state() state {
	r.mu.Lock()
	defer r.mu.Unlock()
	return state{Foreign: slices.Sorted(slices.Values(r.live.Foreign)), Names: slices.Sorted(slices.Values(r.live.Names))}
}

// encode writes an index in the form that layout relies on: all but the list
// on the first line.
func (r *replica) encode(cp layout.Checkpoint, w io.Writer) error {
	s := r.state()
	foreign, err := json.Marshal(append([]string{}, s.Foreign...))
	if err != nil {
		return err
	}
	names, err := json.Marshal(append([]string{}, s.Names...))
	if err != nil {
		return err
	}
	folded, err := json.Marshal(cp.Folded)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "{\"folded\":%s,\"foreign\":%s,\"names\":[\n%s}\n", folded, foreign, names[1:])
	return err
}

// A handle is an open layout and what it knows: to others it is like a
// process of its own.
type handle struct {
	*layout.Layout
	t testing.TB
	r *replica
}

// open opens a layout and loads it. When the test is over, the directory is
// checked.
func open(t testing.TB, dir string) *handle {
	t.Helper()
	return openWith(t, dir, layout.Options{})
}

func openWith(t testing.TB, dir string, o layout.Options) *handle {
	t.Helper()
	l, err := layout.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	h := &handle{Layout: l, t: t, r: &replica{}}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		checkDir(t, dir)
	})
	if err := l.Load(h.r); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *handle) add(names ...string) {
	h.t.Helper()
	err := h.Update(context.Background(), func(tx *layout.Tx) error {
		return tx.Append(records(names...)...)
	})
	if err != nil {
		h.t.Fatalf("add %q: %v", names, err)
	}
}

func records(names ...string) [][]byte {
	var rs [][]byte
	for _, name := range names {
		rs = append(rs, fmt.Appendf(nil, `{"add":%q}`, name))
	}
	return rs
}

func (h *handle) fold() {
	h.t.Helper()
	if err := h.Checkpoint(context.Background(), h.r.encode); err != nil {
		h.t.Fatalf("checkpoint: %v", err)
	}
}

func (h *handle) catchUp() {
	h.t.Helper()
	if err := h.CatchUp(); err != nil {
		h.t.Fatalf("catch up: %v", err)
	}
}

// want catches up, and compares what is known.
func (h *handle) want(names ...string) {
	h.t.Helper()
	h.catchUp()
	slices.Sort(names)
	if got := h.r.state().Names; !slices.Equal(got, names) {
		h.t.Errorf("names: got %q, want %q", got, names)
	}
}

func (h *handle) wantForeign(names ...string) {
	h.t.Helper()
	h.catchUp()
	slices.Sort(names)
	if got := h.r.state().Foreign; !slices.Equal(got, names) {
		h.t.Errorf("foreign names: got %q, want %q", got, names)
	}
}

// commit makes data a blob.
func (h *handle) commit(data string) v1.Hash {
	h.t.Helper()
	in, err := h.Ingest()
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.WriteString(in, data); err != nil {
		h.t.Fatal(err)
	}
	digest := digestOf(data)
	err = h.Update(context.Background(), func(tx *layout.Tx) error {
		_, err := tx.Commit(in, digest)
		return err
	})
	if err := in.Close(); err != nil {
		h.t.Error(err)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return digest
}

func digestOf(data string) v1.Hash {
	sum := sha256.Sum256([]byte(data))
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}
