package cli_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/internal/cli"
)

// inner is a command in an example whose output is arguments of another.
var inner = regexp.MustCompile(`\$\(([^)]*)\)`)

// commandsOf returns the ocicache commands of an example's line.
func commandsOf(line string) [][]string {
	var commands [][]string
	for _, m := range inner.FindAllStringSubmatch(line, -1) {
		commands = append(commands, commandsOf(m[1])...)
	}
	line, _, _ = strings.Cut(inner.ReplaceAllString(line, strings.Repeat("0", 64)), "|")
	line, _, _ = strings.Cut(line, " > ")
	words := strings.Fields(strings.ReplaceAll(line, "'", ""))
	if len(words) > 0 && words[0] == "ocicache" {
		commands = append(commands, words[1:])
	}
	return commands
}

func everyCommand(root *cobra.Command, f func(cmd *cobra.Command)) {
	f(root)
	for _, cmd := range root.Commands() {
		everyCommand(cmd, f)
	}
}

// Every command's help has an example, whose flags and arguments are right and
// which is of that command.
func TestExamples(t *testing.T) {
	everyCommand(cli.Root(), func(of *cobra.Command) {
		own := false
		for line := range strings.Lines(of.Example) {
			commands := commandsOf(strings.TrimSpace(line))
			if len(commands) == 0 {
				t.Errorf("%s: no command in %q", of.CommandPath(), line)
			}
			for _, words := range commands {
				cmd, args, err := cli.Root().Find(words)
				if err == nil {
					cmd.InitDefaultHelpFlag()
					err = cmd.ParseFlags(args)
				}
				if err == nil {
					err = cmd.ValidateArgs(cmd.Flags().Args())
				}
				if err != nil {
					t.Errorf("%s: %q: %v", of.CommandPath(), line, err)
				}
				own = own || strings.HasPrefix(cmd.CommandPath(), of.CommandPath())
			}
		}
		if !own && of.Name() != "help" {
			t.Errorf("%s has no example of its own", of.CommandPath())
		}
	})
}

// The examples that need no network and no particular names are run.
func TestExamplesRun(t *testing.T) {
	f := newFixture(t)
	t.Setenv("OCICACHE_DIR", f.dir)
	t.Chdir(t.TempDir())
	first := strings.Fields(ok(t, "ls", "-q", "present"))[0]
	everyCommand(cli.Root(), func(of *cobra.Command) {
		switch of.CommandPath() {
		case "ocicache", "ocicache pull", "ocicache adopt", "ocicache rm", "ocicache prune", "ocicache unpin", "ocicache verify":
			return
		}
		for line := range strings.Lines(of.Example) {
			for _, words := range commandsOf(strings.TrimSpace(line)) {
				for i := range words {
					words[i] = strings.ReplaceAll(words[i], strings.Repeat("0", 64), first)
					words[i] = strings.ReplaceAll(words[i], "go-build-linux", "the-key")
				}
				ok(t, words...)
			}
		}
	})
}

// The policies in the help of prune are right, and its examples run.
func TestPruneExamples(t *testing.T) {
	f := newFixture(t)
	t.Setenv("OCICACHE_DIR", f.dir)
	t.Chdir(t.TempDir())
	of, _, err := cli.Root().Find([]string{"prune"})
	if err != nil {
		t.Fatal(err)
	}
	policies := regexp.MustCompile(`(?s)\n  (\[\{.*\}\])\n`).FindStringSubmatch(of.Long)
	if policies == nil {
		t.Fatalf("no policies in\n%s", of.Long)
	}
	if err := os.WriteFile("policies.json", []byte(policies[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(of.Example) {
		for _, words := range commandsOf(strings.TrimSpace(line)) {
			ok(t, words...)
		}
	}
	if got := ok(t, "ls", "-q"); got != "" {
		t.Errorf("--all left %q", got)
	}
}

// Help is on standard output, fits a terminal, and names the exit codes.
func TestHelp(t *testing.T) {
	everyCommand(cli.Root(), func(of *cobra.Command) {
		args := strings.Fields(of.CommandPath())[1:]
		text := ok(t, append(args, "--help")...)
		if got := ok(t, append([]string{"help"}, args...)...); got != text {
			t.Errorf("help %v: got %q, want %q", args, got, text)
		}
		for line := range strings.Lines(text) {
			if n := len([]rune(line)) - 1; n > 80 {
				t.Errorf("%s: %d characters: %s", of.CommandPath(), n, line)
			}
		}
	})
	if text := ok(t); !strings.Contains(text, "Exit codes:") || !strings.Contains(text, "OCICACHE_DIR") {
		t.Errorf("got\n%s", text)
	}
}
