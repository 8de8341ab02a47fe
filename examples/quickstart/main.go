// Quickstart pulls a real image through the cache, cold and warm, and prints
// what that saved. The registry is in the process; nothing leaves the machine.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/examples/internal/demo"
)

func main() {
	reg := demo.Start()
	defer reg.Close()
	ref := must(name.ParseReference(reg.Host + "/demo/image"))
	fmt.Println("Making an image of Go's own files, and pushing it …")
	check(remote.Write(ref, must(demo.Image(180))))

	dir := filepath.Join(os.TempDir(), "ocicache-quickstart")
	check(os.RemoveAll(dir))
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	must(fmt.Fprintln(out, "\ttime\tread\tfrom the registry\tlayer GETs\t"))

	c := must(cache.Open(dir))
	pull := func(what string, form func(v1.Layer) (io.ReadCloser, error)) {
		img := must(remote.Image(ref))
		must(img.ConfigFile())
		gets, sent, start := reg.BlobGETs.Load(), reg.Bytes.Load(), time.Now()
		var read int64
		for _, l := range must(c.Image(img).Layers()) { // c.Image is all there is to add to a program
			rc := must(form(l))
			read += must(io.Copy(io.Discard, rc))
			check(rc.Close())
		}
		must(fmt.Fprintf(out, "%s\t%v\t%.1f MB\t%.1f MB\t%d\t\n", what, time.Since(start).Round(time.Millisecond),
			float64(read)/1e6, float64(reg.Bytes.Load()-sent)/1e6, reg.BlobGETs.Load()-gets))
	}
	pull("cold, compressed", v1.Layer.Compressed)
	pull("other form", v1.Layer.Uncompressed)
	pull("warm, compressed", v1.Layer.Compressed)
	pull("warm, uncompressed", v1.Layer.Uncompressed)
	check(c.Close())

	c = must(cache.Open(dir))
	pull("reopened, compressed", v1.Layer.Compressed)
	pull("reopened, uncompressed", v1.Layer.Uncompressed)
	check(c.Close())
	check(out.Flush())

	m := must(must(remote.Image(ref)).Manifest())
	fmt.Printf("\nThe cache is an OCI image layout: cat %[1]s/index.json, or\n"+
		"  oras blob fetch --oci-layout %[1]s@%[2]s --output - | tar tz | head\n"+
		"What crane, skopeo and regctl can do with it: docs/compatibility.md\n", dir, m.Layers[0].Digest)
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
