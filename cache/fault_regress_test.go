package cache_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/stream"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/layout"
)

// A blob whose first bytes could not be read was taken for a tar: its
// compressed bytes were served as one for ever after.
func TestFaultDetectReadError(t *testing.T) {
	want := makeLayer(1, 10_000)
	disk := &brokenDisk{fails: func(op, name string) bool { return op == "read" && strings.HasPrefix(name, ".ocicache/ingest/") }}
	c := open(t, cache.WithHook(disk.hook))
	if got := readAll(t, c.Layer(fake(want)).Compressed); !bytes.Equal(got, want.blob) { // past the cache
		t.Fatalf("%d bytes", len(got))
	}
	if err := c.Close(); err != nil { // waits for the commit
		t.Fatal(err)
	}
	again := openDir(t, dirOf(c))
	checkForms(t, again.Layer(fake(want)), want)
}

// A file that could not be looked at was taken for one that is not there, and
// an empty index.json written over it.
func TestFaultEmptyIndex(t *testing.T) {
	want := makeLayer(1, 10_000)
	c := open(t)
	checkForms(t, c.Layer(fake(want)), want)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	dir := dirOf(c)
	for _, name := range []string{"index.json", "oci-layout"} { // the second is harmless, and here for the mend
		disk := &brokenDisk{fails: func(op, n string) bool {
			return op == "stat" && (n == ".ocicache/version" || n == name)
		}}
		// check() reads the version first, and its stat must work.
		first := true
		inner := disk.fails
		disk.fails = func(op, n string) bool {
			if first && op == "stat" && n == ".ocicache/version" {
				first = false
				return false
			}
			return inner(op, n)
		}
		if c, err := cache.Open(dir, cache.WithHook(disk.hook)); err == nil {
			c.Close()
		}
	}
	again := openDir(t, dir)
	checkForms(t, mustGet(t, again, want.digest()), want)
}

// A journal that could not be looked at was taken for none, and a new one
// renamed over it: the records since the checkpoint were lost.
func TestFaultJournalReplaced(t *testing.T) {
	kept, next := makeLayer(1, 10_000), makeLayer(2, 10_000)
	disk := &brokenDisk{}
	c := open(t, cache.WithHook(disk.hook))
	readAll(t, c.Layer(fake(kept)).Compressed) // in the journal
	// The commit looks at the journal twice: to catch up, and in
	// ensureJournal. The second look fails.
	stats := 0
	disk.set(func(op, name string) bool {
		if op == "rename" && strings.HasPrefix(name, ".ocicache/ingest/") {
			stats = 1 // from here on, it is Append's
		}
		return stats > 0 && op == "stat" && name == ".ocicache/journal"
	})
	readAll(t, c.Layer(fake(next)).Compressed)
	disk.set(nil)
	other := openDir(t, dirOf(c)) // another process
	mustGet(t, other, kept.digest())
}

// A manifest that could not be read was taken for one that reaches nothing:
// Delete took the layer of another tool's image away.
func TestFaultForeignManifestUnreadable(t *testing.T) {
	want := makeLayer(1, 10_000)
	for _, op := range []string{"open", "stat", "read"} {
		disk := &brokenDisk{}
		c := open(t, cache.WithHook(disk.hook))
		checkForms(t, c.Layer(fake(want)), want)
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		h := addForeign(t, dirOf(c), knownOf(want))
		disk.set(func(o, name string) bool { return o == op && strings.HasSuffix(name, h.Hex) })
		err := c.Delete(want.digest())
		disk.set(nil)
		if _, serr := os.Stat(blobPath(dirOf(c), want.digest())); serr != nil {
			t.Errorf("%s fails: Delete: %v; the image's layer: %v", op, err, serr)
		}
	}
}

// An error of closing the cached blob failed the read that decompresses it:
// it was taken for the origin's.
func TestFaultCloseError(t *testing.T) {
	want := makeLayer(1, 10_000)
	disk := &brokenDisk{}
	c := open(t, cache.WithHook(disk.hook))
	l := fake(want)
	readAll(t, c.Layer(l).Compressed)
	disk.set(func(op, name string) bool { return op == "close" && strings.HasSuffix(name, want.digest().Hex) })
	checkForms(t, c.Layer(l), want)
	disk.set(nil)
}

// The background's sync of a blob fails while the checkpoint's sync of it
// succeeds: the failure was noted too late, and the blob marked synced.
func TestFaultSyncRace(t *testing.T) {
	want := makeLayer(1, 10_000)
	first, second := make(chan struct{}), make(chan struct{})
	flushed := make(chan error, 1)
	n := 0
	c := open(t, cache.WithHook(onSync(want, func() error {
		n++ // the calls come one after the other, by the channels
		switch n {
		case 1:
			close(first)
			select {
			case <-second: // the checkpoint syncs beside the background
				flushed <- <-flushed
			case <-time.After(200 * time.Millisecond): // mended: it waits for us
			}
			return errEIO
		case 2:
			close(second)
		}
		return nil
	})))
	readAll(t, c.Layer(fake(want)).Compressed)
	<-first
	flushed <- c.Flush()
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	if got := unsynced(t, dirOf(c), want.digest()); got != "failed:"+layout.Boot() {
		t.Errorf("unsynced is %q", got)
	}
}

var errEIO = errors.New("input/output error")

func onSync(c content, f func() error) layout.Hook {
	name := "blobs/sha256/" + c.digest().Hex
	return func(op, n string) error {
		if op == "sync" && n == name {
			return f()
		}
		return nil
	}
}

// The sync in the background failed in one process, which told nobody. Another
// process's checkpoint then synced the blob, without an error since the system
// tells of one once, and marked it synced.
func TestFaultSyncFailureIsPrivate(t *testing.T) {
	want, last := makeLayer(1, 10_000), makeLayer(2, 1000)
	disk := &brokenDisk{}
	synced := make(chan struct{})
	bothFail(disk, synced, want)
	c := open(t, cache.WithHook(disk.hook))
	readAll(t, c.Layer(fake(want)).Compressed)
	readAll(t, c.Layer(fake(last)).Compressed)
	<-synced
	if c.Stats().WriteFaults == 0 {
		t.Error("WriteFaults: got 0")
	}
	other := openDir(t, dirOf(c))
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := unsynced(t, dirOf(c), want.digest()); got == "" {
		t.Error("marked as synced")
	}
}

// The failure of a sync is not forgotten when the same blob is committed
// again, unless that put another file in the place of the one there.
func TestFaultSyncFailureForgotten(t *testing.T) {
	disk := &brokenDisk{}
	tar := makeTar(1, 10_000)
	again := func() *stream.Layer { return stream.NewLayer(io.NopCloser(bytes.NewReader(tar))) }
	blob := readAll(t, open(t).Layer(again()).Compressed)
	last := makeLayer(2, 1000)
	synced := make(chan struct{})
	bothFail(disk, synced, content{blob: blob})
	c := open(t, cache.WithHook(disk.hook))
	readAll(t, c.Layer(again()).Compressed)
	readAll(t, c.Layer(fake(last)).Compressed)
	<-synced
	before := stat(t, blobPath(dirOf(c), digestOf(blob)))
	readAll(t, c.Layer(again()).Compressed) // the same bytes
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	after := stat(t, blobPath(dirOf(c), digestOf(blob)))
	if got := unsynced(t, dirOf(c), digestOf(blob)); os.SameFile(before, after) && got != "failed:"+layout.Boot() {
		t.Errorf("the file is the same, and unsynced is %q", got)
	}
}

// os.File.WriteTo gives an error of sendfile as one of "read", also if it is
// the connection's: it was taken for the disk's, and the layer downloaded for
// nobody.
func TestFaultBrokenConnection(t *testing.T) {
	want := makeLayer(1, 32_000_000)
	c := open(t)
	checkForms(t, c.Layer(fake(want)), want)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return
		}
		_, _ = io.ReadFull(conn, make([]byte, 1000))
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := fake(want)
	rc, err := c.Layer(l).Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.Copy(conn, rc); err == nil {
		t.Error("no error")
	}
	if n := c.Stats().Fallbacks; n != 0 {
		t.Errorf("Fallbacks: %d; the disk is sound", n)
	}
}

// A journal that could not be looked at was taken for none: Flush returned no
// error, and wrote nothing.
func TestFaultFlushDoesNothing(t *testing.T) {
	want := makeLayer(1, 10_000)
	disk := &brokenDisk{}
	c := open(t, cache.WithHook(disk.hook))
	readAll(t, c.Layer(fake(want)).Compressed)
	for first := range 6 { // which look it is, is not this test's business
		looks := 0
		disk.set(func(op, name string) bool {
			if op == "stat" && name == ".ocicache/journal" {
				looks++
				return looks == first+1
			}
			return false
		})
		err := c.Flush()
		disk.set(nil)
		b, rerr := os.ReadFile(dirOf(c) + "/index.json")
		if err == nil && (rerr != nil || !bytes.Contains(b, []byte(want.digest().String()))) {
			t.Errorf("look %d fails: Flush returned no error, and the index does not list the blob", first)
		}
	}
}

// A checkpoint renamed the journal before there was another. If that could not
// be made, since the disk was full, nothing could be recorded from then on, and
// so nothing deleted to make room.
func TestFaultDeleteAfterFailedCheckpoint(t *testing.T) {
	want := makeLayer(1, 10_000)
	disk := &brokenDisk{}
	c := open(t, cache.WithHook(disk.hook))
	checkForms(t, c.Layer(fake(want)), want)
	full := func(op, name string) bool { // new files find no room, the journal's last block has some
		return op == "create" || op == "write" && name != ".ocicache/journal"
	}
	disk.set(full)
	if err := c.Flush(); err == nil {
		t.Error("Flush worked on a full disk")
	}
	if err := c.Delete(want.digest()); err != nil {
		t.Errorf("Delete: %v", err)
	}
	disk.set(nil)
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi
}
