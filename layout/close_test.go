package layout_test

import (
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/ocicache/ocicache/layout"
)

// Close waits for an update under way: closed in the middle of one, it would
// begin a new journal in the place of the one that all others append to.
func TestCloseWaitsForUpdate(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	h.add("first")
	l, err := layout.Open(dir, layout.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{}
	if err := l.Load(r); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	err = l.Update(t.Context(), func(tx *layout.Tx) error {
		go func() { closed <- l.Close() }()
		select {
		case err := <-closed:
			t.Errorf("Close did not wait: %v", err)
		case <-time.After(50 * time.Millisecond): // long enough to do the harm, if it does not wait
		}
		return tx.Append(records("second")...)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := l.Update(t.Context(), func(*layout.Tx) error { return nil }); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Update after Close: got %v, want fs.ErrClosed", err)
	}
	h.catchUp()
	h.want("first", "second")
	open(t, dir).want("first", "second")
}
