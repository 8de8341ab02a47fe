package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// manJSON is what man prints.
type manJSON struct {
	Written []string `json:"written"`
}

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write manual pages",
		Long: `Write a manual page for each command to DIR, which is made if there is none:
then man DIR/ocicache-pull.1 shows that of pull. The pages have no date unless
SOURCE_DATE_EPOCH is set, in seconds since 1970: the same version always writes
the same.`,
		Example: `  ocicache man man1`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			date, err := manDate(cmd)
			if err != nil {
				return err
			}
			written, err := writeMan(cmd.Root(), args[0], date)
			if err != nil {
				return fmt.Errorf("%s: name a directory that can be written", err.Error()) // for which there is other advice on the cache
			}
			return a.report(manJSON{written}, fmt.Sprintf("wrote %s to %s\n", count(int64(len(written)), "page"), printable(args[0])))
		},
	}
}

// manDate returns the date that the pages get: of the zero one, none.
func manDate(cmd *cobra.Command) (date time.Time, err error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return date, nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return date, usagef(cmd, "SOURCE_DATE_EPOCH is %q, want seconds since 1970, or nothing", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// writeMan writes the pages of a command, and of those below it, and returns
// their files.
func writeMan(of *cobra.Command, dir string, date time.Time) ([]string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	page, err := manPage(of, date)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, strings.ReplaceAll(of.CommandPath(), " ", "-")+".1")
	if err := os.WriteFile(path, page, 0o666); err != nil {
		return nil, err
	}
	written := []string{path}
	for _, cmd := range of.Commands() {
		if !cmd.IsAvailableCommand() {
			continue
		}
		more, err := writeMan(cmd, dir, date)
		if err != nil {
			return nil, err
		}
		written = append(written, more...)
	}
	return written, nil
}

// manPage returns a command's page, which says the same on all machines.
func manPage(cmd *cobra.Command, date time.Time) ([]byte, error) {
	var page bytes.Buffer
	cmd.DisableAutoGenTag = true // it holds a date
	cmd.Long = markdown(cmd.Long)
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.DefValue = strings.Replace(f.DefValue, runtime.GOARCH, "ARCH", 1) })
	err := doc.GenMan(cmd, &doc.GenManHeader{Section: "1", Source: "ocicache", Manual: "Ocicache Manual", Date: &date}, &page)
	if date.IsZero() { // which is no date to doc, but is printed
		return bytes.Replace(page.Bytes(), []byte(date.Format("Jan 2006")), nil, 1), err
	}
	return page.Bytes(), err
}

// markdown returns a help text as what doc takes it for: lists, which are
// indented, stay as they are.
func markdown(help string) string {
	var text strings.Builder
	for line := range strings.Lines(help) {
		if strings.HasPrefix(line, "  ") {
			line = "    " + line
		}
		text.WriteString(line)
	}
	return text.String()
}
