package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/oci"

	"github.com/ocicache/ocicache/cache"
)

// processes is several processes that put into one directory at a time. What
// counts is how much is there in the end.
func processes(e *env) *group {
	name := fmt.Sprintf("%d procs × %d puts", e.procs, e.each)
	all := e.procs * e.each
	g := &group{rows: []row{
		{name: name + " kept (layout; oras)", ours: "ours", ggcr: "layout", bare: "oras",
			aim: aim{fmt.Sprintf("all, %d", all), func(ours, _, _ float64) bool { return ours == float64(all) }}},
		{name: name + " failed", ours: "ours failed", ggcr: "layout failed", bare: "oras failed", aim: atMost("0", 0)},
	}}
	for _, kind := range []string{"ours", "layout", "oras"} {
		g.trials = append(g.trials, func(s *samples) error {
			return e.inTemp(func(dir string) error { return e.race(s, kind, dir) })
		})
	}
	return g
}

// race starts the processes, lets them go, and counts.
func (e *env) race(s *samples, kind, dir string) error {
	if err := makeEmpty(kind, dir); err != nil {
		return err
	}
	first := e.layers + 1
	e.layers += e.procs * e.each
	children := make([]*child, e.procs)
	for i := range children {
		var err error
		if children[i], err = startChild(kind, dir, first+i*e.each, e.each); err != nil {
			return err
		}
	}
	for _, c := range children {
		if err := c.ready(); err != nil {
			return err
		}
	}
	failed := 0
	for _, c := range children {
		c.stdin.Close() // go
	}
	for _, c := range children {
		n, err := c.wait()
		if err != nil {
			return err
		}
		failed += n
	}
	kept, err := countKept(kind, dir, first, e.procs*e.each)
	s.add(kind, float64(kept))
	s.add(kind+" failed", float64(failed))
	return err
}

// makeEmpty makes what the processes open.
func makeEmpty(kind, dir string) error {
	switch kind {
	case "ours":
		c, err := cache.Open(dir)
		if err != nil {
			return err
		}
		return c.Close()
	case "layout":
		_, err := layout.Write(dir, empty.Index)
		return err
	}
	_, err := oci.New(dir)
	return err
}

// countKept counts which of n layers are listed, and have their bytes.
func countKept(kind, dir string, first, n int) (kept int, err error) {
	var has func(v1.Layer) error
	if kind == "ours" {
		c, err := cache.Open(dir)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		has = func(l v1.Layer) error { return isKept(c, l) }
	} else if has, err = listed(dir); err != nil {
		return 0, err
	}
	for i := range n {
		l, err := smallLayer(first + i)
		if err != nil {
			return 0, err
		}
		if has(l) == nil {
			kept++
		}
	}
	return kept, nil
}

// listed returns what looks for a layer in an index.json, and for its blob.
// An index that is broken lists nothing.
func listed(dir string) (func(v1.Layer) error, error) {
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, err
	}
	var idx v1.IndexManifest
	_ = json.Unmarshal(b, &idx)
	digests := map[v1.Hash]bool{}
	for _, d := range idx.Manifests {
		digests[d.Digest] = true
	}
	return func(l v1.Layer) error {
		h, err := l.Digest()
		if err != nil {
			return err
		}
		if !digests[h] {
			return errors.New("not listed")
		}
		return verify(func() (io.ReadCloser, error) {
			return os.Open(filepath.Join(dir, "blobs", h.Algorithm, h.Hex))
		}, h)
	}, nil
}

// A child is this program, started again to put some layers.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

const childVar = "OCICACHE_BENCH_CHILD"

func startChild(kind, dir string, first, n int) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childVar+"="+fmt.Sprintf("%s,%d,%d,%s", kind, first, n, dir))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &child{cmd, stdin, bufio.NewReader(stdout)}, cmd.Start()
}

// ready waits until the child is about to put.
func (c *child) ready() error {
	_, err := c.stdout.ReadString('\n')
	return err
}

// wait returns how many puts failed.
func (c *child) wait() (failed int, err error) {
	line, err := c.stdout.ReadString('\n')
	if err := errors.Join(err, c.cmd.Wait()); err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(line))
}

func isChild() bool { return os.Getenv(childVar) != "" }

// runChild says that it is ready, waits for the end of its input, puts, and
// says how many puts failed.
func runChild() error {
	fields := strings.SplitN(os.Getenv(childVar), ",", 4)
	if len(fields) != 4 {
		return fmt.Errorf("%s is for internal use", childVar)
	}
	first, ferr := strconv.Atoi(fields[1])
	n, nerr := strconv.Atoi(fields[2])
	if err := errors.Join(ferr, nerr); err != nil {
		return err
	}
	put, closeIt, err := childPutter(fields[0], fields[3])
	if err != nil { // it read what another process was writing, say: every put fails
		put, closeIt = func(v1.Layer) error { return err }, func() error { return nil }
	}
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	failed := 0
	for i := range n {
		l, err := smallLayer(first + i)
		if err != nil {
			return err
		}
		if put(l) != nil {
			failed++
		}
	}
	fmt.Println(failed)
	return closeIt()
}

func childPutter(kind, dir string) (put putter, closeIt func() error, err error) {
	nothing := func() error { return nil }
	switch kind {
	case "ours":
		c, err := cache.Open(dir)
		if err != nil {
			return nil, nil, err
		}
		return through(c), c.Close, nil
	case "layout":
		return inLayout(layout.Path(dir)), nothing, nil
	}
	s, err := oci.New(dir)
	return inORAS(s), nothing, err
}

// inORAS keeps a layer in an OCI image layout as oras does: what is tagged is
// listed.
func inORAS(s *oci.Store) putter {
	return func(l v1.Layer) error {
		h, err := l.Digest()
		if err != nil {
			return err
		}
		rc, err := l.Compressed()
		if err != nil {
			return err
		}
		defer rc.Close()
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest(h.String()), Size: 1024}
		if err := s.Push(context.Background(), d, rc); err != nil {
			return err
		}
		return s.Tag(context.Background(), d, h.Hex)
	}
}
