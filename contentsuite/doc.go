// Package contentsuite runs the test suite that containerd has for its
// content stores over the package layout: over its ingests, commits, blobs
// and journal. README.md says what each case shows.
//
// It is a module of its own, so that containerd does not become a dependency
// of the cache. It never uses more of layout than its exported names.
package contentsuite
