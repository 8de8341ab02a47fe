package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/spf13/cobra"

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

// hint returns an error's text, and what to do about it where that is known.
func hint(err error) string {
	if advice := advise(err); advice != "" {
		return err.Error() + ": " + advice
	}
	return err.Error()
}

func advise(err error) string {
	var refused *transport.Error
	var network *url.Error
	switch {
	case errors.As(err, &refused):
		return adviseRegistry(refused.StatusCode)
	case errors.As(err, &network):
		return "check the image's name, the network and HTTPS_PROXY"
	case errors.Is(err, cache.ErrNotLayout):
		return "name a cache directory, or one that does not exist yet, with --dir"
	case errors.Is(err, syscall.ENOTDIR):
		return "a part of this path is a file; name another one"
	case errors.Is(err, cache.ErrVersion):
		return "a newer ocicache wrote it; use that one, or another directory with --dir"
	case errors.Is(err, cache.ErrMalformed):
		return "run ocicache verify --rebuild to set it aside and list anew what is there"
	case errors.Is(err, cache.ErrNotKept):
		return "look for room on the disk, or run ocicache prune --max-bytes"
	case errors.Is(err, cache.ErrLocked):
		return "another process is busy or stopped; end it, or try again"
	case errors.Is(err, cache.ErrReadOnly), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "run as the user who owns the directory, or name another one with --dir"
	case strings.Contains(err.Error(), "no child with platform"): // ggcr has no error of its own for this
		return "the image is for other platforms: name one with --platform"
	}
	return ""
}

func adviseRegistry(status int) string {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "check the image's name, and log in with docker login or crane auth login"
	case http.StatusNotFound:
		return "check the image's name and tag"
	case http.StatusTooManyRequests:
		return "wait, or log in for a higher limit"
	}
	return ""
}
