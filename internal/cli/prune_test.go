package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/cli"
)

// policyFile writes a file of policies.
func policyFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policies.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPolicy(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		text string
		want []string
	}{
		{`[{}]`, nil},
		{`[{"all": true, "keep-duration": "1d"}, {"all": true, "max-bytes": 1000000}, {"all": true, "reserved-bytes": "1MB"}]`, nil},
		{`[{"filter": "form==uncompressed"}]`, f.diffIDs[:1]},
		{`[{"filter": ["size<0", "form==uncompressed"]}]`, f.diffIDs[:1]},
		{`[{"filter": "form==uncompressed"}, {"filter": "digest==` + f.digests[1] + `"}]`, []string{f.diffIDs[0], f.digests[1]}},
		{`[{"all": true, "max-bytes": "1MB", "min-free-bytes": "1B"}, {"all": true}]`, []string{f.diffIDs[0], f.digests[0], f.digests[1]}},
	} {
		got := decoded[struct {
			DryRun   bool
			Removals []struct{ Digest string }
		}](t, "prune", "--dir", f.dir, "--dry-run", "--policy", policyFile(t, tt.text))
		var digests []string
		for _, r := range got.Removals {
			digests = append(digests, r.Digest)
		}
		slices.Sort(digests)
		slices.Sort(tt.want)
		if !got.DryRun || !slices.Equal(digests, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.text, digests, tt.want)
		}
	}
	if n := strings.Count(ok(t, "ls", "-q", "--dir", f.dir), "\n"); n != 3 {
		t.Errorf("--dry-run left %d blobs, want 3", n)
	}
	ok(t, "prune", "--dir", f.dir, "--policy", policyFile(t, `[{"filter": "form==uncompressed"}, {"max-bytes": "1B"}]`))
	if got := ok(t, "ls", "-q", "--dir", f.dir, "present"); got != "" {
		t.Errorf("left %q", got)
	}
}

func TestPolicyErrors(t *testing.T) {
	f := newFixture(t)
	for text, want := range map[string]string{
		``:                       "want a JSON list of objects",
		`{}`:                     "want a JSON list of objects",
		`[{}] x`:                 "want a JSON list of objects",
		`[]`:                     "has no policies",
		`[{}, {"maxbytes": 1}]`:  `policy 2: no such field: "maxbytes": want all, filter, keep-duration, max-bytes`,
		`[{"dry-run": true}]`:    "no such field",
		`[{"all": "maybe"}]`:     `policy 1: "all" is "maybe", want true or false`,
		`[1]`:                    "want a JSON list of objects (",
		`[{"max-bytes": 0}]`:     "policy 1: max-bytes says nothing",
		`[{"reserved-bytes":1}]`: "policy 1: reserved-bytes says only what stays: want all",
		`[{"all": null}]`:        "policy 1: ",
		`[{"max-bytes": "10G"}]`: "as in 10MB",
		`[{"max-bytes": 1.5}]`:   "as in 10MB",
		`[{"max-bytes": null}]`:  "as in 10MB",
		`[{"max-bytes": [1]}]`:   "as in 10MB",
		`[{"keep-duration": 7}]`: "as in 36h",
		`[{"filter": "sise>1"}]`: "column 1",
		`[{"filter": "present"}, {"filter": "sise>1"}]`: "column 1", // and nothing is removed
		`[{"filter": null}]`:                            "column 1",
		`[{"filter": [["form==x", "size"]]}]`:           "column 1",
	} {
		checkError(t, []string{"prune", "--dir", f.dir, "--policy", policyFile(t, text)}, 2, want)
	}
	checkError(t, []string{"prune", "--dir", f.dir, "--policy", filepath.Join(f.dir, "none")}, 2, "none")
	checkError(t, []string{"prune", "--dir", f.dir, "--policy", ""}, 2, "--policy")
	for _, flag := range []string{"--all", "--max-bytes=1", "--filter=present", "--keep-duration=0"} {
		checkError(t, []string{"prune", "--dir", f.dir, flag, "--policy", policyFile(t, `[{"all": true}]`)}, 2, "put "+strings.Trim(strings.SplitN(flag, "=", 2)[0], "-")+" into the file")
	}
	if n := strings.Count(ok(t, "ls", "-q", "--dir", f.dir, "present"), "\n"); n != 3 {
		t.Errorf("left %d blobs, want 3", n)
	}
}

func TestRemovals(t *testing.T) {
	removal := cache.Removal{Bytes: 50}
	const line = "removed 1 blob, 50 B"
	var plain, terminal bytes.Buffer
	cli.ShowRemovals(&plain, false, removal, removal)
	if got, want := plain.String(), line+"\n"; got != want {
		t.Errorf("plain: got %q, want %q", got, want)
	}
	cli.ShowRemovals(&terminal, true, removal, removal)
	if got, want := terminal.String(), strings.Repeat("\r\x1b[K"+line, 2)+"\r\x1b[K"; got != want {
		t.Errorf("terminal: got %q, want %q", got, want)
	}
}
