package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ocicache/ocicache/cache"
)

// errFound ends a verify that found problems.
var errFound = errors.New("problems were found")

// A usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

// usagef returns a usageError that names the command's help.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{fmt.Errorf("%w (see %s --help)", fmt.Errorf(format, args...), cmd.CommandPath())}
}

// flagError is the error of a flag, without Go's own words.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) || !errors.As(err, new(*strconv.NumError)) {
		return usagef(cmd, "%w", err)
	}
	want := "a whole number"
	if invalid.GetFlag().Value.Type() == "bool" {
		want = "true or false"
	}
	return usagef(cmd, "--%s is %q, want %s", invalid.GetFlag().Name, invalid.GetValue(), want)
}

// command returns a command line of ours for the same directory, to be named
// in advice.
func (a *app) command(line string) string {
	if a.dir == "" {
		return "ocicache " + line
	}
	return "ocicache " + line + " --dir " + quoted(a.dir)
}

var plainWord = regexp.MustCompile(`^[\w./:@%+,=-]+$`)

// quoted returns a word as a shell takes it.
func quoted(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// hint returns an error's text, and what to do about it where that is known.
func (a *app) hint(err error) string {
	text := plain(err)
	for _, advise := range []func(error) string{adviseRegistry, adviseExport, a.adviseCache, a.adviseFile, adviseSystem} {
		if advice := advise(err); advice != "" {
			return text + ": " + advice
		}
	}
	return text
}

// plain returns an error's text without what is Go's own, or said twice.
func plain(err error) string {
	text := err.Error()
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) {
		text = strings.ReplaceAll(text, mistyped.Error(), "there is JSON of another kind, "+mistyped.Value+", than belongs there")
	}
	var mismatch *cache.DigestMismatchError
	if errors.As(err, &mismatch) {
		if before, _, ok := strings.Cut(text, mismatch.Error()); ok { // what comes behind it has the digests again
			text = before + mismatch.Error()
		}
	}
	return text
}

// adviseExport is for the directory that an image is written to.
func adviseExport(err error) string {
	switch {
	case !errors.As(err, new(*exportError)):
		return ""
	case errors.Is(err, syscall.ENOSPC):
		return "make room on that disk, or name another directory for the image"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "name a directory for the image that can be written"
	}
	return ""
}

// adviseCache is for what package cache says.
func (a *app) adviseCache(err error) string {
	switch {
	case errors.Is(err, cache.ErrNotLayout):
		return "name a cache directory, or one that does not exist yet, with --dir"
	case errors.Is(err, cache.ErrVersion) && strings.Contains(err.Error(), `says ""`): // package layout has no error of its own for this
		return "the file is empty: remove it"
	case errors.Is(err, cache.ErrVersion):
		return "a newer ocicache wrote it; use that one, or another directory with --dir"
	case errors.Is(err, cache.ErrMalformed):
		return "run " + a.command("verify --rebuild") + " to set it aside and list anew what is there"
	case errors.Is(err, cache.ErrNotKept):
		return "look for room on the disk, or run " + a.command("prune --max-bytes 10GB")
	case errors.Is(err, cache.ErrLocked):
		return "another process is busy or stopped; end it, or try again"
	}
	return ""
}

// adviseFile is for what is in the place of a file of the cache, or of a
// directory.
func (a *app) adviseFile(err error) string {
	var at *fs.PathError
	if !errors.As(err, &at) || errors.As(err, new(*exportError)) {
		return ""
	}
	dir, _ := a.cacheDir() // there was one
	path := filepath.FromSlash(at.Path)
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	blobs := filepath.Join(dir, "blobs")
	switch {
	case (errors.Is(err, fs.ErrInvalid) || errors.Is(err, syscall.EISDIR)) && is(path, func(m fs.FileMode) bool { return !m.IsRegular() }):
		advice := path + " is no file: remove it"
		if filepath.Base(path) == "index.json" {
			advice += ", and run " + a.command("verify --rebuild")
		}
		return advice
	case errors.Is(err, syscall.ENOTDIR) && is(blobs, fs.FileMode.IsRegular):
		return blobs + " is no directory: remove it"
	case errors.Is(err, fs.ErrExist) && isDangling(path):
		return "it is a link to what is not there: remove it, or name another directory with --dir"
	}
	return ""
}

// is reports whether there is something whose mode is so.
func is(path string, so func(fs.FileMode) bool) bool {
	fi, err := os.Lstat(path)
	return err == nil && so(fi.Mode())
}

func isDangling(path string) bool {
	_, lerr := os.Lstat(path)
	_, err := os.Stat(path)
	return lerr == nil && errors.Is(err, fs.ErrNotExist)
}

// adviseSystem is for what the system says of the cache's directory.
func adviseSystem(err error) string {
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return "a part of this path is a file; name another one"
	case errors.Is(err, syscall.ENOSPC):
		return "make room on the disk, or name another directory with --dir"
	case errors.Is(err, syscall.EROFS):
		return "the file system cannot be written; name another directory with --dir"
	case errors.Is(err, cache.ErrReadOnly), errors.Is(err, fs.ErrPermission):
		return "run as the user who owns the directory, or name another one with --dir"
	}
	return ""
}
