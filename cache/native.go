package cache

import (
	"errors"
	"io"
	"reflect"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/stream"
)

// ggcr's partial package makes a v1.Layer of something that has only the
// compressed form, or only the uncompressed one, and derives the rest. What
// is derived reads all of the layer. To never do that unasked, the cache must
// know which it is; partial does not tell, and hides what else the layer can
// do. Its exported embedded fields do tell.

// native returns what a layer of ggcr's partial package was made of, a
// partial.CompressedLayer or a partial.UncompressedLayer, and whether it is
// one; else the layer itself. Of a *remote.MountableLayer, and of a layer
// of ours, it is of what they hold.
func native(l v1.Layer) (core any, extended bool) {
	if ml, ok := l.(*remote.MountableLayer); ok {
		return native(ml.Layer)
	}
	if own, ok := l.(*layer); ok && own.inner != nil {
		return native(own.inner)
	}
	v := reflect.Indirect(reflect.ValueOf(l))
	if v.Kind() != reflect.Struct || v.Type().PkgPath() != reflect.TypeFor[partial.CompressedLayer]().PkgPath() {
		return l, false
	}
	for _, name := range []string{"CompressedLayer", "UncompressedLayer"} {
		if f := v.FieldByName(name); f.IsValid() && f.CanInterface() && !f.IsNil() {
			return f.Interface(), true
		}
	}
	return l, false
}

// isUncompressed reports whether a layer has only the uncompressed form: its
// digest is known only after compressing it all.
func isUncompressed(l v1.Layer) bool {
	core, _ := native(l)
	_, compressed := core.(interface {
		Compressed() (io.ReadCloser, error)
	})
	return !compressed
}

// knowsDiffID reports whether a layer can give its diffID without reading
// all of itself.
func knowsDiffID(l v1.Layer) bool {
	core, _ := native(l)
	if b, ok := core.(*builtLayer); ok {
		return b.e.DiffID != v1.Hash{}
	}
	_, ok := core.(partial.WithDiffID)
	return ok
}

// descriptor returns what a manifest says of a layer, nil if it stands in
// none.
func descriptor(l v1.Layer) *v1.Descriptor {
	switch l := l.(type) {
	case *remote.MountableLayer:
		return descriptor(l.Layer)
	case *layer:
		if l.from.desc != nil {
			return l.from.desc
		}
	}
	core, _ := native(l)
	if d, ok := core.(interface {
		Descriptor() (*v1.Descriptor, error)
	}); ok {
		if desc, err := d.Descriptor(); err == nil {
			return desc
		}
	}
	return nil
}

// isStreaming reports whether err says that a value is known only after the
// layer was read.
func isStreaming(err error) bool { return errors.Is(err, stream.ErrNotComputed) }
