package compression

import "strings"

// family holds one kind of layer's media types: for each format, the type of a
// layer that is compressed so.
type family map[Format]string

// ociLayer's types, and ociNondistributable's, are image-spec's (layer.md).
//
// dockerLayer's first two are the "Image Manifest V 2, Schema 2" specification's.
// Its third is registered nowhere: it is what containerd (core/images,
// MediaTypeDockerSchema2LayerZstd) and BuildKit write and read.
//
// dockerForeign has none for zstd, there or anywhere. The OCI type of the same
// meaning is the only one that other tools know.
var (
	ociLayer = family{
		Plain: "application/vnd.oci.image.layer.v1.tar",
		Gzip:  "application/vnd.oci.image.layer.v1.tar+gzip",
		Zstd:  "application/vnd.oci.image.layer.v1.tar+zstd",
	}
	ociNondistributable = family{
		Plain: "application/vnd.oci.image.layer.nondistributable.v1.tar",
		Gzip:  "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		Zstd:  "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
	}
	dockerLayer = family{
		Plain: "application/vnd.docker.image.rootfs.diff.tar",
		Gzip:  "application/vnd.docker.image.rootfs.diff.tar.gzip",
		Zstd:  "application/vnd.docker.image.rootfs.diff.tar.zstd",
	}
	dockerForeign = family{
		Plain: "application/vnd.docker.image.rootfs.foreign.diff.tar",
		Gzip:  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		Zstd:  ociNondistributable[Zstd],
	}
)

// IsLayer reports whether mediaType is one of the Docker and OCI layer types:
// tar, gzip or zstd, foreign (nondistributable) or not. Media types are compared
// as they are, without parameters or a change of case.
func IsLayer(mediaType string) bool {
	_, ok := familyOf(mediaType)
	return ok
}

// Uncompressed is the media type of a layer of type mediaType once it has been
// decompressed: the same family's tar type.
//
// Of a type in no known family, a structured suffix "+gzip" or "+zstd" is
// dropped, and a type that ends in ".tar" stays as it is. Nothing can be told
// about any other, and a layer holds a tar by default, so the answer is the OCI
// tar type.
func Uncompressed(mediaType string) string {
	return Compressed(mediaType, Plain)
}

// Compressed is the media type of a layer of type mediaType once it has been
// compressed as f, whatever it was compressed as before: the same family's type.
// There is no Docker type for a foreign layer in zstd; that becomes the OCI
// nondistributable one. Plain, and a format that is none of this package's,
// give [Uncompressed].
//
// Of a type in no known family, it is Uncompressed with the structured suffix
// for f.
func Compressed(mediaType string, f Format) string {
	fam, ok := familyOf(mediaType)
	if !ok {
		fam = unknownFamily(mediaType)
	}
	if t, ok := fam[f]; ok {
		return t
	}
	return fam[Plain]
}

// familyOf finds the family that mediaType belongs to.
func familyOf(mediaType string) (family, bool) {
	// The OCI ones come first, to own the type that dockerForeign borrows.
	for _, fam := range []family{ociLayer, ociNondistributable, dockerLayer, dockerForeign} {
		for _, t := range fam {
			if t == mediaType {
				return fam, true
			}
		}
	}
	return nil, false
}

// unknownFamily makes up the family of a type that is in none.
func unknownFamily(mediaType string) family {
	base, ok := strings.CutSuffix(mediaType, "+gzip")
	if !ok {
		base, ok = strings.CutSuffix(mediaType, "+zstd")
	}
	if base == "" || !ok && !strings.HasSuffix(mediaType, ".tar") {
		return ociLayer
	}
	return family{Plain: base, Gzip: base + "+gzip", Zstd: base + "+zstd"}
}
