package cli

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ocicache/ocicache/cache"
)

// verifyJSON is what verify prints.
type verifyJSON struct {
	Blobs    int           `json:"blobs"`
	Bytes    int64         `json:"bytes"`
	Pairs    int           `json:"pairs"`
	Findings []findingJSON `json:"findings"`
}

type findingJSON struct {
	Problem cache.Problem `json:"problem"`
	Path    string        `json:"path"`
	Digest  string        `json:"digest,omitempty"`
	Error   string        `json:"error,omitempty"`
	Repair  cache.Repair  `json:"repair,omitempty"`
}

func (a *app) verifyCommand() *cobra.Command {
	var repair, rebuild bool
	var limit sizeValue
	var o cache.VerifyOptions
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read every blob, and check it",
		Long: `Read every blob, and check that its bytes have its digest, that pairs decompress
to their diffID, and that what is listed is there and what is there is listed.
Without --repair or --rebuild, nothing is changed.

The exit code is 3 if problems were found, whether they were repaired or not.`,
		Example: `  ocicache verify
  ocicache verify --repair --bytes-per-second 100MB
  ocicache verify --rebuild`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Workers < 0 {
				return usagef(cmd, "--workers is %d, want 0 or more", o.Workers)
			}
			o.ReportOnly, o.Rebuild, o.BytesPerSecond = !repair && !rebuild, rebuild, int(min(int64(limit), math.MaxInt))
			return a.verify(cmd, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&repair, "repair", false, "put aside what is bad, and correct what is recorded")
	f.BoolVar(&rebuild, "rebuild", false, "repair, and list what nothing lists, as after index.json was lost")
	f.IntVar(&o.Workers, "workers", 0, "how many blobs are read at a time (0: one for each CPU)")
	f.Var(&limit, "bytes-per-second", "read no faster than this (0: as fast as can be)")
	return cmd
}

func (a *app) verify(cmd *cobra.Command, o cache.VerifyOptions) error {
	var opts []cache.Option
	if o.Rebuild {
		opts = append(opts, cache.WithRecovery())
	}
	return a.with(func(c *cache.Cache) error {
		p := a.progress("verified", "blob")
		o.Progress = p.show
		r, err := c.Verify(cmd.Context(), o)
		p.end()
		if err != nil {
			return errors.Join(err, a.partial(verifyOf(r), r.Blobs > 0 || len(r.Findings) > 0))
		}
		err = a.report(verifyOf(r), a.verifyText(r))
		if len(r.Findings) > 0 {
			err = errors.Join(err, a.next(r, o), errFound)
		}
		return err
	}, opts...)
}

func verifyOf(r cache.VerifyReport) verifyJSON {
	v := verifyJSON{Blobs: r.Blobs, Bytes: r.Bytes, Pairs: r.Pairs, Findings: []findingJSON{}}
	for _, f := range r.Findings {
		x := findingJSON{Problem: f.Problem, Path: f.Path, Digest: full(f.Digest), Repair: f.Repair}
		if f.Err != nil {
			x.Error = oneLine(f.Err.Error())
		}
		v.Findings = append(v.Findings, x)
	}
	return v
}

func (a *app) verifyText(r cache.VerifyReport) string {
	text, left := "", 0
	for _, f := range r.Findings {
		text += a.paint(red, oneLine(f.String())) + "\n"
		if f.Repair == cache.NoRepair {
			left++
		}
	}
	text += fmt.Sprintf("checked %s (%s) and %s: ", count(int64(r.Blobs), "blob"), size(r.Bytes), count(int64(r.Pairs), "pair"))
	if len(r.Findings) == 0 {
		return text + "all is well\n"
	}
	text += count(int64(len(r.Findings)), "problem")
	if left > 0 {
		text += fmt.Sprintf(", %d not repaired", left)
	}
	return text + "\n"
}

// next names the command that puts right what is left, if there is one. It is
// to be copied, and is not cut to fit a terminal.
func (a *app) next(r cache.VerifyReport, o cache.VerifyOptions) (err error) {
	flag := nextFlag(r, o)
	if flag != "" && !a.quiet && a.output == outputText {
		_, err = fmt.Fprintf(a.stdout, "to put it right, run %s\n", a.command("verify "+flag))
	}
	return err
}

func nextFlag(r cache.VerifyReport, o cache.VerifyOptions) string {
	left := func(of ...cache.Problem) bool {
		return slices.ContainsFunc(r.Findings, func(f cache.Finding) bool {
			return f.Repair == cache.NoRepair && slices.Contains(of, f.Problem)
		})
	}
	switch {
	case !o.Rebuild && left(cache.Unlisted):
		return "--rebuild"
	case o.ReportOnly && left(cache.Corrupt, cache.Missing, cache.WrongPair, cache.WrongSize, cache.Stray):
		return "--repair"
	}
	return ""
}
