package clitest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const dockerHub = "index.docker.io"

// The examples of all commands work as they are printed. The registry that
// debian:12 is in is behind a proxy, as it may be in a company: the proxy
// answers for it, with a certificate of its own. (Where roots come from a file
// that a variable names, which is on Linux.)
func TestExamples(t *testing.T) {
	images := newRegistry()
	pushDebian(t, serve(t, images)+"/library/debian:12")
	proxy, roots := hub(t, images)
	env := append(os.Environ(), "HTTPS_PROXY="+proxy, "NO_PROXY=", "no_proxy=", "SSL_CERT_FILE="+roots, "DOCKER_CONFIG=/none")
	cache := filepath.Join(t.TempDir(), "cache")
	shell(t, "", append(env, "OCICACHE_DIR="+cache), "ocicache pull --quiet --both debian:12")
	shell(t, "", append(env, "OCICACHE_DIR="+cache), "ocicache pin release $(ocicache ls -q present)")
	build(t, cache, "go-build-linux")

	examples := 0
	for _, command := range append(commands(t, "ocicache"), "ocicache") {
		work := t.TempDir() // one line's layout is another one's argument
		if err := os.WriteFile(filepath.Join(work, "policies.json"), []byte(`[{"all": true, "max-bytes": "10GB"}]`), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, line := range section(t, command, "Examples:") {
			dir := filepath.Join(t.TempDir(), "cache")
			if err := os.CopyFS(dir, os.DirFS(cache)); err != nil {
				t.Fatal(err)
			}
			shell(t, work, append(env, "OCICACHE_DIR="+dir), line)
			examples++
		}
	}
	if examples < 30 {
		t.Errorf("got %d examples, want those of all commands", examples)
	}
}

// shell runs a line in a directory, which has to end well and to say nothing on standard error.
func shell(t *testing.T, dir string, env []string, line string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	var stderr bytes.Buffer
	cmd.Env, cmd.Dir, cmd.Stderr = env, dir, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Errorf("%s: %v: %s", line, err, &stderr)
	}
}

// commands returns the commands that the help of one lists, and theirs.
func commands(t *testing.T, of string) (all []string) {
	t.Helper()
	for _, line := range section(t, of, "Available Commands:") {
		name, _, _ := strings.Cut(line, " ")
		command := of + " " + name
		all = append(append(all, command), commands(t, command)...)
	}
	return all
}

// section returns the lines below a heading of a command's help.
func section(t *testing.T, command, heading string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", command+" --help").Output()
	if err != nil {
		t.Fatalf("%s --help: %v", command, err)
	}
	lines := strings.Split(string(out), "\n")
	begin := slices.Index(lines, heading) + 1
	if begin == 0 {
		return nil
	}
	lines = lines[begin:]
	lines = lines[:slices.Index(lines, "")]
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

// hub starts a proxy that answers for Docker Hub, and returns its address and
// the file of the roots that its certificate is checked with.
func hub(t *testing.T, h http.Handler) (proxy, roots string) {
	t.Helper()
	cert := certificate(t, dockerHub)
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	roots = filepath.Join(t.TempDir(), "roots.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	if err := os.WriteFile(roots, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return "http://" + serve(t, tunnel(t, s.Listener.Addr().String())), roots
}

// tunnel is a proxy to one address, whatever it is asked for.
func tunnel(t *testing.T, to string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != dockerHub+":443" {
			t.Errorf("asked for %s %s, want only %s", r.Method, r.Host, dockerHub)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		server, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer server.Close()
		client, sent, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n") // only now, or what the client sends next may be lost
		go func() { _, _ = io.Copy(server, sent) }()
		_, _ = io.Copy(client, server)
	})
}

// certificate returns a certificate for a host, which it signs itself.
func certificate(t *testing.T, host string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
