package cli_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/cli"
)

func TestReadable(t *testing.T) {
	now := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct{ got, want string }{
		{cli.Size(0), "0 B"},
		{cli.Size(999), "999 B"},
		{cli.Size(1000), "1.0 kB"},
		{cli.Size(28_565_893), "28.6 MB"},
		{cli.Size(999_999), "1.0 MB"},
		{cli.Size(1 << 62), "4.6 EB"},
		{cli.Age(now, time.Time{}), "never"},
		{cli.Age(now, now.Add(time.Hour)), "just now"},
		{cli.Age(now, now.Add(-time.Minute)), "1 minute ago"},
		{cli.Age(now, now.Add(-49*time.Hour)), "2 days ago"},
		{cli.Age(now, now.AddDate(-3, 0, 0)), "3 years ago"},
		{cli.Bar(0, 0, 4), "░░░░   0%"},
		{cli.Bar(1, 2, 4), "██░░  50%"},
		{cli.Bar(9, 2, 4), "████ 100%"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestFlagValues(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "10MB": 10e6, "1.5GiB": 3 << 29, "2ki": 2048, "7b": 7,
		"": -1, "1.5": -1, "10G": -1, "-1": -1, "1e3": -1, "MB": -1, "9223372036854775807": -1, "1.2.3MB": -1,
	} {
		if n, err := cli.ParseSize(text); n != max(want, 0) || (err == nil) != (want >= 0) {
			t.Errorf("%q: got %d, %v, want %d", text, n, err, want)
		}
	}
	for text, want := range map[string]time.Duration{
		"36h": 36 * time.Hour, "7d": 168 * time.Hour, "1w2d12h": 228 * time.Hour, "0": 0,
		"": -1, "7": -1, "d": -1, "-7d": -1, "99999w": -1, "2d1w": -1,
	} {
		if d, err := cli.ParseDuration(text); d != max(want, 0) || (err == nil) != (want >= 0) {
			t.Errorf("%q: got %v, %v, want %v", text, d, err, want)
		}
	}
}

func TestProgress(t *testing.T) {
	now := cache.Progress{Layers: 1, LayersTotal: 2, Bytes: 50, BytesTotal: 100}
	const line = "pulled 1 of 2 layers, 50 B of 100 B"
	var plain, terminal bytes.Buffer
	cli.ShowProgress(&plain, false, now)
	if got, want := plain.String(), line+"\n"; got != want {
		t.Errorf("plain: got %q, want %q", got, want)
	}
	cli.ShowProgress(&terminal, true, now)
	if got := terminal.String(); strings.Count(got, line) != 2 || !strings.HasSuffix(got, "\r\x1b[K") || strings.Contains(got, "\n") {
		t.Errorf("terminal: got %q", got)
	}
}

// A bar leaves room for ^C, however much there is to say.
func TestProgressWidth(t *testing.T) {
	for _, now := range []cache.Progress{
		{},
		{Layers: 99_999, LayersTotal: 99_999, Bytes: 888.8e9, BytesTotal: 888.8e9},
		{Layers: 1e18, LayersTotal: 1e18, Bytes: 888.8e9, BytesTotal: 888.8e9},
	} {
		var b bytes.Buffer
		cli.ShowProgress(&b, true, now)
		for line := range strings.SplitSeq(b.String(), "\r\x1b[K") {
			if n := utf8.RuneCountInString(line); n > 77 {
				t.Errorf("%d columns: %q", n, line)
			}
		}
	}
}

// A line that is too wide is cut, and keeps its colours.
func TestFit(t *testing.T) {
	const red = "\x1b[31m12345\x1b[0m"
	for _, tt := range []struct {
		text  string
		width int
		want  string
	}{
		{"12345\n123456\n", 5, "12345\n1234…\n"},
		{"12345", 0, "12345"},
		{"ééééé", 4, "ééé…"},
		{red, 5, red},
		{red, 3, "\x1b[31m12…\x1b[0m"},
		{"12345", 1, "…"},
	} {
		if got := cli.Fit(tt.text, tt.width); got != tt.want {
			t.Errorf("%q in %d columns: got %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
}

// Warnings stand on lines of their own, each once.
func TestProgressLog(t *testing.T) {
	hash := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	rotten := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("d", 64)}
	for _, tt := range []struct {
		log  func(l *slog.Logger)
		want []string
	}{
		{func(l *slog.Logger) {
			for _, c := range "abc" {
				l.Warn("cache fault", "dir", "/x", "err", fmt.Errorf("fill %s: no room: %d of 134217728 bytes", hash(string(c)), 1000*c))
			}
		}, []string{"fill " + hash("a") + ": no room: 97.0 kB of 134.2 MB"}},
		{func(l *slog.Logger) {
			l.Warn("blob does not have its digest", "digest", rotten, "file", "/x")
			l.Warn("cannot read a blob", "digest", rotten, "err", fmt.Errorf("x: %w", &cache.DigestMismatchError{Want: rotten}))
		}, []string{"the blob " + rotten.String() + " does not have its digest"}},
		{func(l *slog.Logger) {
			l.With("dir", "/x").Warn("the file system may be one of the network", "type", "nfs\x1b")
			l.Info("pruned")
		}, []string{"the file system may be one of the network: nfs\ufffd"}},
	} {
		var b bytes.Buffer
		cli.LogProgress(&b, cache.Progress{}, tt.log)
		want := "\r\x1b[Kocicache: warning: " + strings.Join(tt.want, "\nocicache: warning: ") + "\n"
		if got := b.String(); !strings.HasSuffix(got, want) || strings.Count(got, "warning") != len(tt.want) {
			t.Errorf("got %q, want %q at its end", got, want)
		}
	}
}
