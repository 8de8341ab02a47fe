package cache_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/ocicache/ocicache/cache"
)

// failing fails an operation on names with a prefix.
func failing(op, prefix string) func(op, name string) bool {
	return func(o, name string) bool { return o == op && strings.HasPrefix(name, prefix) }
}

// A pin that could not be written took the earlier ones of its process with
// it: other processes saw an empty lease.
func TestFaultPinLosesEarlier(t *testing.T) {
	disk, one, two := &brokenDisk{}, small(1), small(2)
	c := open(t, cache.WithHook(disk.hook))
	other := openDir(t, dirOf(c))
	for _, l := range []content{one, two} {
		readAll(t, c.Layer(fake(l)).Compressed)
	}
	release, err := c.Pin(one.digest())
	if err != nil {
		t.Fatal(err)
	}
	disk.set(failing("write", ".ocicache/"))
	if _, err := c.Pin(two.digest()); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, want the error of the disk", err)
	}
	disk.set(nil)
	prune(t, other, cache.PrunePolicy{All: true})
	wantListed(t, other, one.digest())
	release()
}

// A key's lock file that could not be looked at was waited for, for ever.
func TestFaultBuildLockUnreadable(t *testing.T) {
	disk := &brokenDisk{fails: failing("stat", ".ocicache/keys/")}
	c := open(t, cache.WithHook(disk.hook))
	checkForms(t, mustBuild(t, c, "key", builderOf(small(1))), small(1))
	if got := c.Stats().WriteFaults; got == 0 {
		t.Error("nobody was told")
	}
	disk.set(nil)
	must(c.Flush()) // sweeps
}

// A blob that could not be looked at was taken for one that is not there:
// told as remembered, left out of what a prune keeps, and not pinned, or its
// compressed form in its place.
func TestFaultBlobNotLookedAt(t *testing.T) {
	disk, want := &brokenDisk{}, small(1)
	c := open(t, cache.WithHook(disk.hook))
	checkForms(t, c.Layer(fake(want)), want)
	disk.set(failing("stat", "blobs/sha256/"+want.diffID().Hex))
	_, usageErr := c.DiskUsage(t.Context())
	_, pruneErr := c.Prune(t.Context(), cache.PrunePolicy{MaxBytes: 1 << 40})
	_, pinErr := c.Pin(want.diffID())
	for what, err := range map[string]error{
		"DiskUsage": usageErr, "Prune": pruneErr, "Pin": pinErr, "PinAs": c.PinAs("x", want.diffID()),
	} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: got %v, want the error of the disk", what, err)
		}
	}
}
