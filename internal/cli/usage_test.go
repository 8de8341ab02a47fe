package cli_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkError runs what has to fail, with a line that says why.
func checkError(t *testing.T, args []string, code int, want string) {
	t.Helper()
	stdout, stderr, got := run(t, args...)
	if got != code || stdout != "" || !strings.Contains(stderr, want) {
		t.Errorf("ocicache %s: got %d, %q, %q, want %d and %q", strings.Join(args, " "), got, stdout, stderr, code, want)
	}
	if !strings.HasPrefix(stderr, "ocicache: ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("ocicache %s: got %q, want one line", strings.Join(args, " "), stderr)
	}
}

func TestBadInput(t *testing.T) {
	f := newFixture(t)
	none := strings.Repeat("0", 64)
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"lss", 2, `no such command: "lss"; is it ls?`},
		{"frobnicate", 2, `no such command: "frobnicate" (see ocicache --help)`},
		{"keys lss", 2, "is it ls?"},
		{"ls --frob", 2, "unknown flag: --frob (see ocicache ls --help)"},
		{"ls -o yaml", 2, "want text or json"},
		{"ls sise>1", 2, "column 1"},
		{"du size>>1", 2, "column 6"},
		{"help lss", 2, "is it ls?"},
		{"completion fisch", 2, "is it fish?"},
		{"completion bash now", 2, "too many arguments"},
		{"version now", 2, "too many arguments: want ocicache version"},
		{"inspect", 2, "want ocicache inspect HASH"},
		{"inspect xyz", 2, "is no hash"},
		{"inspect sha256:abc", 2, "at least 6 hex digits"},
		{"inspect " + none, 1, " shows what there is"},
		{"cat sha256:" + none, 1, "no such hash"},
		{"cat ../../etc/passwd", 2, "is no hash"},
		{"cat -o json " + none, 2, "no JSON"},
		{"rm", 2, "want ocicache rm HASH..."},
		{"rm " + none, 1, "no such hash"},
		{"prune --max-bytes 10G", 2, "as in 10MB"},
		{"prune --max-bytes -1", 2, "as in 10MB"},
		{"prune --max-bytes 9999999TB", 2, "as in 10MB"},
		{"prune --keep-duration week", 2, "as in 36h"},
		{"prune --keep-duration -7h", 2, "as in 36h"},
		{"prune --filter x", 2, "column 1"},
		{"prune --max-bytes 0", 2, "--max-bytes says nothing: to remove all that nothing protects, use --all (see"},
		{"prune --max-bytes 0.1B", 2, "--max-bytes says nothing"},
		{"prune --all --min-free-bytes 0", 2, "--min-free-bytes says nothing"},
		{"prune --all --keep-duration 0", 2, "--keep-duration says nothing"},
		{"prune --all --reserved-bytes 0", 2, "--reserved-bytes says nothing"},
		{"prune --reserved-bytes 1GB", 2, "want --all, --filter"},
		{"prune --filter=", 2, "--filter says nothing"},
		{"prune --all=perhaps", 2, "--all is \"perhaps\", want true or false (see"},
		{"verify --workers many", 2, "--workers is \"many\", want a whole number (see"},
		{"prune now", 2, "too many arguments"},
		{"verify --workers -1", 2, "want 0 or more"},
		{"verify --bytes-per-second x", 2, "as in 10MB"},
		{"pin release", 2, "want ocicache pin NAME HASH..."},
		{"pin release " + none, 1, "no such hash"},
		{"unpin release", 1, " lists them"},
		{"pins all", 2, "too many arguments"},
		{"keys ls all", 2, "too many arguments"},
		{"keys rm", 2, "want ocicache keys rm KEY..."},
		{"keys rm", 2, "or --older-than DURATION"},
		{"keys rm --older-than week", 2, "as in 36h"},
		{"keys rm --older-than 1d none", 1, " lists them"},
		{"stats now", 2, "too many arguments"},
		{"du --graph size>>1", 2, "column 6"},
		{"man", 2, "want ocicache man DIR"},
		{"man a b", 2, "too many arguments: want ocicache man DIR"},
		{"keys rm none", 1, " lists them"},
	} {
		checkError(t, append(strings.Fields(tt.args), "--dir", f.dir), tt.code, tt.want)
	}
}

// What a registry says cannot write more than a line, or move the cursor.
func TestHostileError(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"a\u001b[2Jb\nocicache: c"}]}`)
	}))
	defer s.Close()
	args := []string{"pull", "--dir", filepath.Join(t.TempDir(), "x"), strings.TrimPrefix(s.URL, "http://") + "/x"}
	checkError(t, args, 1, "DENIED")
	if _, stderr, _ := run(t, args...); strings.Contains(stderr, "\x1b") {
		t.Errorf("got %q", stderr)
	}
}

// Every command says what is wrong with its directory, and makes none.
func TestBadDir(t *testing.T) {
	tmp := t.TempDir()
	file, other, old := filepath.Join(tmp, "file"), filepath.Join(tmp, "other"), filepath.Join(tmp, "version")
	for path, text := range map[string]string{
		file: "x", filepath.Join(other, "x"): "x", filepath.Join(old, "oci-layout"): `{"imageLayoutVersion":"9.0.0"}`,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{
		"ls", "du", "inspect abcdef", "cat abcdef", "rm abcdef", "prune", "verify", "verify --repair",
		"pin x abcdef", "unpin x", "pins", "keys ls", "keys rm x", "keys rm --older-than 1d", "stats", "du --graph",
	} {
		args := strings.Fields(args)
		checkError(t, append(args, "--dir", filepath.Join(tmp, "none")), 1, "make this one with ocicache pull")
		checkError(t, append(args, "--dir", file), 1, "with --dir")
		checkError(t, append(args, "--dir", other), 1, "with --dir")
		checkError(t, append(args, "--dir", old), 1, "a newer ocicache")
	}
}

// What cannot be written can be looked at.
func TestReadOnlyDir(t *testing.T) {
	anywhere := os.Geteuid() <= 0 // the superuser, and Windows, may write everywhere
	f := newFixture(t)
	for _, mode := range []os.FileMode{0o500, 0o700} {
		err := filepath.WalkDir(f.dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return os.Chmod(path, mode)
			}
			if err == nil {
				return os.Chmod(path, mode&0o600)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if mode == 0o500 {
			ok(t, "ls", "--dir", f.dir)
			ok(t, "du", "--dir", f.dir)
			ok(t, "stats", "--dir", f.dir)
			ok(t, "cat", "--dir", f.dir, f.digests[0])
			ok(t, "verify", "--dir", f.dir)
			if anywhere {
				ok(t, "pin", "--dir", f.dir, "y", f.digests[0])
				ok(t, "unpin", "--dir", f.dir, "y")
				continue
			}
			host := startRegistry(t)
			push(t, host+"/demo", imageOf(t, f.layers...))
			for _, dir := range []string{f.dir, filepath.Join(f.dir, "new", "cache")} {
				checkError(t, []string{"pull", "--dir", dir, host + "/demo"}, 1, "run as the user who owns the directory")
			}
			for _, args := range []string{"prune --all", "verify --repair", "unpin x", "keys rm the-key", "keys rm --older-than 0", "rm " + f.digests[0], "pin x " + f.digests[0]} {
				checkError(t, append(strings.Fields(args), "--dir", f.dir), 1, "run as the user who owns the directory")
			}
		}
	}
}
