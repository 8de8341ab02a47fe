package compression_test

import (
	"testing"

	"github.com/ocicache/ocicache/compression"
)

const (
	ociTar          = "application/vnd.oci.image.layer.v1.tar"
	ociRestricted   = "application/vnd.oci.image.layer.nondistributable.v1.tar"
	dockerTar       = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeign   = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	ociGzip         = ociTar + "+gzip"
	ociZstd         = ociTar + "+zstd"
	ociRestrictedGz = ociRestricted + "+gzip"
	ociRestrictedZs = ociRestricted + "+zstd"
	dockerGzip      = dockerTar + ".gzip"
	dockerZstd      = dockerTar + ".zstd"
	dockerForeignGz = dockerForeign + ".gzip"
)

func TestMediaTypes(t *testing.T) {
	for _, test := range []struct {
		mediaType        string
		layer            bool
		plain, gzip, zst string
	}{
		{ociTar, true, ociTar, ociGzip, ociZstd},
		{ociGzip, true, ociTar, ociGzip, ociZstd},
		{ociZstd, true, ociTar, ociGzip, ociZstd},
		{ociRestricted, true, ociRestricted, ociRestrictedGz, ociRestrictedZs},
		{ociRestrictedGz, true, ociRestricted, ociRestrictedGz, ociRestrictedZs},
		{ociRestrictedZs, true, ociRestricted, ociRestrictedGz, ociRestrictedZs},
		{dockerTar, true, dockerTar, dockerGzip, dockerZstd},
		{dockerGzip, true, dockerTar, dockerGzip, dockerZstd},
		{dockerZstd, true, dockerTar, dockerGzip, dockerZstd},
		{dockerForeign, true, dockerForeign, dockerForeignGz, ociRestrictedZs},
		{dockerForeignGz, true, dockerForeign, dockerForeignGz, ociRestrictedZs},

		{"", false, ociTar, ociGzip, ociZstd},
		{"+gzip", false, ociTar, ociGzip, ociZstd},
		{"application/octet-stream", false, ociTar, ociGzip, ociZstd},
		{"application/vnd.oci.image.config.v1+json", false, ociTar, ociGzip, ociZstd},
		{ociGzip + "+encrypted", false, ociTar, ociGzip, ociZstd},
		{"Application/Vnd.Docker.Image.Rootfs.Diff.Tar.Gzip", false, ociTar, ociGzip, ociZstd},
		{"application/vnd.x.tar", false, "application/vnd.x.tar", "application/vnd.x.tar+gzip", "application/vnd.x.tar+zstd"},
		{"application/vnd.x.tar+gzip", false, "application/vnd.x.tar", "application/vnd.x.tar+gzip", "application/vnd.x.tar+zstd"},
		{"application/vnd.x.tar+zstd", false, "application/vnd.x.tar", "application/vnd.x.tar+gzip", "application/vnd.x.tar+zstd"},
		{"application/vnd.erofs+zstd", false, "application/vnd.erofs", "application/vnd.erofs+gzip", "application/vnd.erofs+zstd"},
	} {
		t.Run(test.mediaType, func(t *testing.T) {
			if got := compression.IsLayer(test.mediaType); got != test.layer {
				t.Errorf("IsLayer = %v, want %v", got, test.layer)
			}
			if got := compression.Uncompressed(test.mediaType); got != test.plain {
				t.Errorf("Uncompressed = %q, want %q", got, test.plain)
			}
			for f, want := range map[compression.Format]string{
				compression.Plain: test.plain,
				compression.Gzip:  test.gzip,
				compression.Zstd:  test.zst,
				"xz":              test.plain,
			} {
				if got := compression.Compressed(test.mediaType, f); got != want {
					t.Errorf("Compressed(…, %q) = %q, want %q", f, got, want)
				}
			}
		})
	}
}
