package compression_test

import (
	"bytes"
	"fmt"
	"io"
	"log"

	"github.com/ocicache/ocicache/compression"
)

func Example() {
	var blob bytes.Buffer
	zw, err := compression.NewWriter(&blob, compression.DefaultSettings())
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(zw, "what a layer's tar holds"); err != nil {
		log.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		log.Fatal(err)
	}

	zr, err := compression.NewReader(&blob)
	if err != nil {
		log.Fatal(err)
	}
	defer zr.Close()
	text, err := io.ReadAll(zr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", zr.Format(), text)
	// Output: gzip: what a layer's tar holds
}

func ExampleDetect() {
	fmt.Println(compression.Detect([]byte("\x1f\x8b\x08\x00")))
	fmt.Println(compression.Detect([]byte("\x28\xb5\x2f\xfd")))
	fmt.Println(compression.Detect([]byte("etc/")))
	// Output:
	// gzip
	// zstd
	// plain
}

func ExampleParseSettings() {
	s, err := compression.ParseSettings("gzip;level=6;block=1048576;by=pgzip")
	fmt.Println(s.Format, s.Level, s.BlockSize, err)

	_, err = compression.ParseSettings("gzip;level=6;block=1099511627776;by=pgzip")
	fmt.Println(err)
	// Output:
	// gzip 6 1048576 <nil>
	// compression: gzip: block size 1099511627776 is not within 65536 and 16777216
}

func ExampleCompressed() {
	const mediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	fmt.Println(compression.Uncompressed(mediaType))
	fmt.Println(compression.Compressed(mediaType, compression.Zstd))
	// Output:
	// application/vnd.docker.image.rootfs.diff.tar
	// application/vnd.docker.image.rootfs.diff.tar.zstd
}
