package clitest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ocicache/ocicache/cache"
)

// TestScripts runs testdata. Its scripts have a cache directory that is not
// there yet, a registry with the images of fillRegistry, and one that wants a
// login, for which there is a Docker configuration in $WORK/login.
func TestScripts(t *testing.T) {
	images := newRegistry()
	host := serve(t, images)
	private := serve(t, locked(images))
	vars := append(fillRegistry(t, host), "REGISTRY="+host, "PRIVATE="+private, "DOCKER_CONFIG=/none")
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, vars...)
			e.Setenv("OCICACHE_DIR", filepath.Join(e.WorkDir, "cache"))
			return login(filepath.Join(e.WorkDir, "login"), private)
		},
		Condition: func(cond string) (bool, error) {
			if cond == "superuser" { // who may write everywhere, as everybody on Windows
				return os.Geteuid() <= 0, nil
			}
			return false, fmt.Errorf("no such condition: %s", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails": fails, "json": jsonNames, "image": image,
			"build": func(ts *testscript.TestScript, _ bool, keys []string) {
				build(t, ts.Getenv("OCICACHE_DIR"), keys...)
			},
		},
	})
}

const user, password = "me", "secret"

// locked asks for a login first.
func locked(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// login writes what docker login does.
func login(dir, host string) error {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, auth), 0o600)
}

// fails runs a command that has to end with an exit code, and with one line
// on standard error; or with none if verify found problems, which it prints.
func fails(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("got %v, want exit code %s", err, args[0])
	}
	stderr := ts.ReadFile("stderr")
	oneLine := strings.HasPrefix(stderr, "ocicache: ") && strings.Index(stderr, "\n") == len(stderr)-1
	if args[0] != "3" && !oneLine || args[0] == "3" && stderr != "" {
		ts.Fatalf("exit code %s with %q", args[0], stderr)
	}
}

// jsonNames compares the names in the JSON document that was printed with those
// in a file: they are promised to stay.
func jsonNames(ts *testscript.TestScript, _ bool, args []string) {
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	var v any
	ts.Check(d.Decode(&v))
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		ts.Fatalf("more than one document: %v", err)
	}
	names := map[string]bool{}
	collect(names, "", v)
	got := slices.Sorted(maps.Keys(names))
	if want := strings.Fields(ts.ReadFile(args[0])); !slices.Equal(got, want) {
		ts.Fatalf("got the names\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// build has keys stand for layers of their own.
func build(t *testing.T, dir string, keys ...string) {
	t.Helper()
	c, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		l := gzipped(t, "built", len(key))
		if _, err := c.Build(t.Context(), key, func(context.Context) (v1.Layer, error) { return l, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// collect adds the names in a JSON value, with where they are.
func collect(names map[string]bool, at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, v := range v {
			names[at+name] = true
			collect(names, at+name+".", v)
		}
	case []any:
		for _, v := range v {
			collect(names, at+"[].", v)
		}
	}
}

// image checks that a layout holds one whole image, with so many layers.
func image(ts *testscript.TestScript, _ bool, args []string) {
	idx, err := layout.ImageIndexFromPath(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(validate.Index(idx))
	m, err := idx.IndexManifest()
	ts.Check(err)
	if len(m.Manifests) != 1 {
		ts.Fatalf("got %d images, want one", len(m.Manifests))
	}
	img, err := idx.Image(m.Manifests[0].Digest)
	ts.Check(err)
	layers, err := img.Layers()
	ts.Check(err)
	if strconv.Itoa(len(layers)) != args[1] {
		ts.Fatalf("got %d layers, want %s", len(layers), args[1])
	}
}
