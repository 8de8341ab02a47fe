package cache_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const diskVar = "OCICACHE_TEST_DISK"

// Disks that are really full: of bytes, and of inodes. They are mounted in a
// process and a mount namespace of their own, and go with these. Where the
// system allows no mount, TestFullDisk is all there is.
func TestFullDiskMounted(t *testing.T) {
	if options := os.Getenv(diskVar); options != "" {
		testMounted(t, options)
		return
	}
	asRoot := &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	for _, options := range []string{"size=3m", "size=16m,nr_inodes=64"} {
		mounted := false
		for _, attr := range []*syscall.SysProcAttr{{Cloneflags: unix.CLONE_NEWNS}, asRoot} {
			cmd := exec.Command(os.Args[0], "-test.run=^TestFullDiskMounted$", "-test.v")
			cmd.Env = append(os.Environ(), diskVar+"="+options)
			cmd.SysProcAttr = attr
			out, err := cmd.CombinedOutput()
			if len(out) == 0 || strings.Contains(string(out), noMount) { // it did not even start, or
				t.Logf("%s: no disk of our own: %v\n%s", options, err, out)
				continue
			}
			if err != nil || !strings.Contains(string(out), "--- PASS: TestFullDiskMounted") {
				t.Errorf("%s: %v\n%s", options, err, out)
			}
			mounted = true
			break
		}
		t.Logf("%s: mounted: %v", options, mounted)
	}
}

const noMount = "cannot mount"

func testMounted(t *testing.T, options string) {
	dir := t.TempDir()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Logf("%s: %v", noMount, err)
		return
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Logf("%s: %v", noMount, err)
		return
	}
	t.Cleanup(func() { // so that the directory can be removed
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	d := &fullDisk{dir: dir, layers: 12, size: 300_000}
	if options != "size=3m" {
		d.layers, d.size = 60, 1000
	}
	testFullDisk(t, d)
}
