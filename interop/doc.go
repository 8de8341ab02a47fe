// Package interop checks the cache directory, and the layers that the cache
// hands out, with tools that others wrote: go-containerregistry, oras-go,
// regclient and olareg as libraries in its tests; crane, oras, regctl and
// skopeo as programs in clients.sh, whose outcome is the matrix in
// docs/compatibility.md.
//
// It is a module of its own, so that none of these becomes a dependency of
// the cache. It never reads the directory with the cache's own packages.
package interop
