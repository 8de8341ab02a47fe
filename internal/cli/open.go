package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ocicache/ocicache/cache"
)

// userDir returns the directory of a user who named none.
func userDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "ocicache"), nil
}

// with opens the cache, which has to be there, and closes it after f. If it
// cannot be written, f gets it read-only.
func (a *app) with(f func(c *cache.Cache) error, opts ...cache.Option) error {
	dir, err := a.existing()
	if err != nil {
		return err
	}
	c, err := cache.Open(dir, opts...)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		c, err = cache.Open(dir, append(opts, cache.WithReadOnly())...)
	}
	if err != nil {
		return err
	}
	return finish(c, f)
}

// create is with, but makes a cache where there is none.
func (a *app) create(f func(c *cache.Cache) error, opts ...cache.Option) error {
	dir, err := a.cacheDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(dir)), 0o777); err != nil {
		return err
	}
	c, err := cache.Open(dir, opts...)
	if err != nil {
		return err
	}
	return finish(c, f)
}

// finish runs f, and closes the cache.
func finish(c *cache.Cache, f func(c *cache.Cache) error) error {
	err := f(c)
	return errors.Join(err, c.Close())
}

// closing runs f, and closes the cache when ctx ends before f does: that ends
// the checking of a blob.
func closing(ctx context.Context, c *cache.Cache, f func() error) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = c.Close() // f fails
	})
	err := f()
	if !stop() {
		<-closed
	}
	return err
}

// isEmpty reports whether dir is a directory that holds nothing.
func isEmpty(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return err == io.EOF
}

// isOwn reports whether a directory is the cache's.
func (a *app) isOwn(dir string) bool {
	own, err := a.cacheDir()
	if err != nil {
		return false
	}
	x, err := os.Stat(own)
	if err != nil {
		return false
	}
	y, err := os.Stat(dir)
	return err == nil && os.SameFile(x, y)
}

// existing returns the cache's directory if there is one.
func (a *app) existing() (string, error) {
	dir, err := a.cacheDir()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) || isEmpty(dir) { // of which Open would make one
		return "", fmt.Errorf("there is no cache at %s: name one with --dir, or make this one with %s", dir, a.command("pull IMAGE"))
	}
	return dir, nil
}
