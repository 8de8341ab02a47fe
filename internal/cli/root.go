package cli

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// An app is one run of the command line.
type app struct {
	stdout, stderr io.Writer
	now            func() time.Time

	dir    string // "" for the default one
	output string // outputText or outputJSON
	quiet  bool
}

const rootLong = `Ocicache keeps the layers of container images in a directory, an OCI image
layout: each is fetched once, and found by its digest or its diffID.

The directory is that of --dir, else of $OCICACHE_DIR, else "ocicache" in the
user's cache directory. Several processes may use it at once.

Hashes may be given in full (sha256:…), or as a prefix of at least 6 hex digits
that only one hash has. With -o json, each command prints one JSON document. Its
field names stay as they are; those of ls and inspect are what filters go by.
Sizes in it are in bytes, times in RFC 3339.

Exit codes:
  0    done
  1    failed; a line on standard error says why, and what to do
  2    wrong usage: no such command or flag, or an argument that makes no sense
  3    verify found problems, whether it repaired them or not
  130  interrupted (Ctrl-C or SIGTERM)`

// root returns the whole tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ocicache",
		Short: "A content cache for container image layers",
		Long:  rootLong,
		Example: `  ocicache pull debian:12
  ocicache ls
  ocicache prune --max-bytes 10GB`,
		Args:                       noSubcommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Version:                    version().Version,
		PersistentPreRunE:          a.check,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
	}
	root.Flags().Bool("version", false, "print the version") // else cobra adds another one
	flags := root.PersistentFlags()
	flags.StringVar(&a.dir, "dir", "", "the cache's directory")
	flags.StringVarP(&a.output, "output", "o", outputText, "how to print results: text or json")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print only results that were asked for, and errors")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		a.pullCommand(), a.adoptCommand(), a.lsCommand(), a.duCommand(), a.statsCommand(),
		a.inspectCommand(), a.catCommand(),
		a.rmCommand(), a.pruneCommand(), a.verifyCommand(),
		a.pinCommand(), a.unpinCommand(), a.pinsCommand(), a.keysCommand(), a.manCommand(), a.versionCommand(),
	)
	root.SetOut(a.stdout) // before the completion command takes it over
	root.SetErr(a.stderr)
	wrapFlags(root)
	root.SetHelpCommand(helpCommand())
	root.InitDefaultCompletionCmd()
	amendCompletion(root)
	a.complete(root)
	return root
}

// helpCommand is cobra's, but that it fails if there is no such command.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "help [COMMAND...]",
		Short:             "Show the help of a command",
		Example:           `  ocicache help prune`,
		ValidArgsFunction: completeCommands,
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = noSubcommand(of, rest)
			}
			if err != nil {
				return err
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// amendCompletion makes cobra's commands fail as ours do.
func amendCompletion(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		cmd.Example = `  ocicache completion bash --help`
		cmd.Args, cmd.SuggestionsMinimumDistance = noSubcommand, 2
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		for _, shell := range cmd.Commands() {
			shell.Args, shell.Example = exactly(0), "  "+shell.CommandPath()
			shell.Long = strings.ReplaceAll(shell.Long, "it is not installed already", "it is not installed") // to fit 80 columns
		}
	}
}

// check looks at the flags that all commands have.
func (a *app) check(cmd *cobra.Command, _ []string) error {
	if a.output != outputText && a.output != outputJSON {
		return usagef(cmd, "--output is %q, want text or json", a.output)
	}
	return nil
}

// noSubcommand is for the arguments of a command that only has others.
func noSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef(cmd, "no such command: %q; is it %s?", args[0], strings.Join(near, " or "))
	}
	return usagef(cmd, "no such command: %q", args[0])
}

// between is for a command that takes so many arguments.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef(cmd, "too few arguments: want %s", form(cmd))
		case len(args) > most:
			return usagef(cmd, "too many arguments: want %s", form(cmd))
		}
		return nil
	}
}

func exactly(n int) cobra.PositionalArgs { return between(n, n) }

func atLeast(n int) cobra.PositionalArgs { return between(n, math.MaxInt) }

// form returns how a command is called.
func form(cmd *cobra.Command) string { return strings.TrimSuffix(cmd.UseLine(), " [flags]") }

// cacheDir returns the cache's directory.
func (a *app) cacheDir() (string, error) {
	if a.dir != "" {
		return a.dir, nil
	}
	if dir := os.Getenv("OCICACHE_DIR"); dir != "" {
		return dir, nil
	}
	dir, err := userDir()
	if err != nil {
		return "", fmt.Errorf("there is no default directory: %w: name one with --dir", err)
	}
	return dir, nil
}
