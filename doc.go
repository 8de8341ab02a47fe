// Package ocicache names the annotations of a content cache for container
// image layers that is kept as an OCI image layout. It does no I/O.
//
// The cache itself is in [github.com/ocicache/ocicache/cache]: wrap a
// [v1.Layer], [v1.Image] or [v1.ImageIndex] of go-containerregistry with it,
// and each layer is fetched once, whichever form is asked for first. It is
// found by its digest or by its diffID.
//
// [v1.Layer]: https://pkg.go.dev/github.com/google/go-containerregistry/pkg/v1#Layer
// [v1.Image]: https://pkg.go.dev/github.com/google/go-containerregistry/pkg/v1#Image
// [v1.ImageIndex]: https://pkg.go.dev/github.com/google/go-containerregistry/pkg/v1#ImageIndex
package ocicache
