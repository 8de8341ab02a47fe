package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocicache/ocicache/layout"
)

const imageSize = 512 << 20

// A disk is a file system in an image file.
type disk struct{ image, point string }

func newDisk(kind, path string) (*disk, error) {
	d := &disk{image: path + ".img", point: path}
	if err := os.Mkdir(d.point, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(imageSize), f.Close()); err != nil {
		return nil, err
	}
	return d, command("mkfs."+kind, d.image)
}

func (d *disk) cacheDir() string { return filepath.Join(d.point, "cache") }

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}

func (d *disk) mount(opts string) error {
	return command("mount", "-o", "loop,"+opts, d.image, d.point)
}

// unmount also detaches the loop device. A process that was killed may take a
// moment to let go.
func (d *disk) unmount() (err error) {
	for range 100 {
		if err = command("umount", d.point); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// These stand in the kernel's fs/ext4/ext4.h and fs/xfs/libxfs/xfs_fs.h.
const (
	fsShutdown = 0x8004587d // _IOR('X', 125, __u32)
	noLogFlush = 2
)

// cut cuts the power: what the file system has not written yet, it will not
// write.
func (d *disk) cut() error {
	f, err := os.Open(d.point)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), fsShutdown, noLogFlush); err != nil {
		return fmt.Errorf("shut down %s: %w", d.point, err)
	}
	return nil
}

// reboot makes a cache that was written under this boot one of another.
func reboot(dir string) error {
	now := []byte(layout.Boot())
	then := bytes.Map(func(r rune) rune {
		if r == '0' {
			return 'f'
		}
		return '0'
	}, now)
	for _, name := range []string{"index.json", ".ocicache/journal", ".ocicache/journal.old"} {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && bytes.Contains(b, now) {
			err = os.WriteFile(path, bytes.ReplaceAll(b, now, then), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
