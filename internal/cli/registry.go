package cli

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/ocicache/ocicache/cache"
)

// A pullError is of what a registry gave for an image, or for its layers.
type pullError struct {
	err    error
	layers bool // the manifest was there
}

func (e *pullError) Error() string { return e.err.Error() }

func (e *pullError) Unwrap() error { return e.err }

// adviseRegistry is for what registries say, and what they do not.
func adviseRegistry(err error) string {
	var pull *pullError
	var refused *transport.Error
	var network *url.Error
	switch {
	case !errors.As(err, &pull):
		return ""
	case errors.As(err, &refused):
		return adviseStatus(refused.StatusCode, pull.layers)
	case errors.As(err, &network):
		return "check the image's name, the network and HTTPS_PROXY"
	case pull.layers:
		return adviseLayer(err)
	}
	return adviseManifest(err)
}

func adviseStatus(status int, layers bool) string {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "check the image's name, and log in with docker login or crane auth login"
	case status == http.StatusNotFound && layers:
		return "the registry has the image and not this layer: push the image again"
	case status == http.StatusNotFound:
		return "check the image's name and tag"
	case status == http.StatusTooManyRequests:
		return "wait, or log in for a higher limit"
	case status >= http.StatusInternalServerError:
		return "the registry failed: try again later"
	}
	return ""
}

// adviseLayer is for the bytes of layers.
func adviseLayer(err error) string {
	switch {
	case errors.As(err, new(*cache.DigestMismatchError)), errors.As(err, new(*cache.SizeMismatchError)),
		errors.Is(err, cache.ErrCorrupt), errors.Is(err, io.ErrUnexpectedEOF),
		strings.Contains(err.Error(), "does not match expected size"): // as package remote has it
		return "the registry sent something else than the image names: try again, or push the image again"
	}
	return ""
}

// adviseManifest is for what should be an image's manifest. Package remote has
// errors of its own for hardly any of it.
func adviseManifest(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "no child with platform"):
		return "the image is for other platforms: name one with --platform"
	case strings.Contains(text, "parsing config file"): // of logins
		return "mend that file, or name another one's directory with DOCKER_CONFIG"
	case errors.Is(err, remote.ErrSchema1):
		return "the image is in Docker's first format: push it again with a newer tool"
	case strings.Contains(text, "invalid character '<'"):
		return "what answered is no registry: check the image's name and HTTPS_PROXY"
	case errors.As(err, new(*json.SyntaxError)), errors.As(err, new(*json.UnmarshalTypeError)), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF),
		strings.Contains(text, "hex digits"), strings.Contains(text, "hash"), strings.Contains(text, "digest"):
		return "the registry sent something else than an image's manifest: try again, or push the image again"
	}
	return ""
}
