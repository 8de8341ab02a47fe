package cli

import (
	"errors"
	"fmt"
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

// existing returns the cache's directory if there is one.
func (a *app) existing() (string, error) {
	dir, err := a.cacheDir()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no cache at %s: name one with --dir, or make this one with ocicache pull", dir)
	}
	return dir, nil
}
