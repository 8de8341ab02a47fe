package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/soak/layers"
)

// A row is what came of the cuts under some options.
type row struct {
	kind, opts string
	mode       mode

	cuts, promised, survived, gone, repairs int
	findings                                map[cache.Problem]int
	lost, wrong                             int
}

func (t *tester) row(kind string, m mode, opts string) *row {
	for _, r := range t.rows {
		if r.kind == kind && r.mode == m && r.opts == opts {
			return r
		}
	}
	r := &row{kind: kind, opts: opts, mode: m, findings: map[cache.Problem]int{}}
	t.rows = append(t.rows, r)
	return r
}

// check opens the cache that a cut left, and looks what is in it. Some of it
// is deleted then, so that there is something to fill, and the rest flushed:
// it must survive the next cut.
func (t *tester) check(dir string, l *ledger) (err error) {
	c, err := cache.Open(dir, cache.WithSync(l.mode.level), cache.WithMinFree(0))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	r := l.row
	if r == nil {
		return nil // nothing has happened yet
	}
	found := map[int]forms{}
	for _, layer := range t.set {
		if found[layer.N], err = look(c, layer); err != nil {
			r.wrong++
			t.problem(r, "layer %d: %v", layer.N, err)
		}
	}
	t.compare(r, l, found)
	if err := t.verify(c, r); err != nil {
		return err
	}
	r.repairs += int(c.Stats().Repairs)
	if err := t.thin(c, found); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	l.start(found)
	if s := c.Stats(); s.WriteFaults > 0 {
		t.problem(r, "something could not be written: %+v", s)
	}
	return nil
}

// look reads what the cache alone has of a layer.
func look(c *cache.Cache, l layers.Layer) (forms, error) {
	made := c.Stats().Decompressions
	tar, err := read(c, l.DiffID, v1.Layer.Uncompressed)
	tar = tar && c.Stats().Decompressions == made
	if l.Kind == layers.TarOnly && tar {
		return whole, err
	}
	has, berr := read(c, l.Digest, v1.Layer.Compressed)
	switch err = errors.Join(err, berr); {
	case has && tar:
		return whole, err
	case has:
		return blob, err
	}
	return none, err
}

// read reports whether a hash is served. If it is, the bytes must be right.
func read(c *cache.Cache, want v1.Hash, form func(v1.Layer) (io.ReadCloser, error)) (bool, error) {
	l, err := c.Get(want)
	if errors.Is(err, cache.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	rc, err := form(l)
	if err != nil {
		return false, err
	}
	defer rc.Close()
	got, n, err := v1.SHA256(rc)
	if err == nil && got != want {
		err = fmt.Errorf("wrong bytes: want %s, got %d bytes %s", want, n, got)
	}
	return err == nil, err
}

// compare compares what was found with what was filled and promised.
func (t *tester) compare(r *row, l *ledger, found map[int]forms) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, f := range l.filled {
		switch promised := l.promised[n]; {
		case found[n] < promised:
			r.lost++
			t.problem(r, "layer %d (%s) should be there: found %d, promised %d", n, t.set[n].Kind, found[n], promised)
		case promised > none:
			r.promised++
		case found[n] >= f:
			r.survived++
		default:
			r.gone++
		}
	}
}

// verify looks for what is wrong in the directory. What was not synced may be
// missing, damaged, or no longer listed. Nothing of it stays but what is not
// listed, which is repaired only on demand.
func (t *tester) verify(c *cache.Cache, r *row) error {
	for _, again := range []bool{false, true} {
		report, err := c.Verify(context.Background(), cache.VerifyOptions{})
		if err != nil {
			return err
		}
		for _, f := range report.Findings {
			switch {
			case !again:
				r.findings[f.Problem]++
			case f.Problem != cache.Unlisted:
				t.problem(r, "verify, the second time: %s", f)
			}
		}
	}
	return nil
}

// thin deletes about half of the layers.
func (t *tester) thin(c *cache.Cache, found map[int]forms) error {
	for _, l := range t.set {
		if found[l.N] == none || t.rnd.IntN(2) == 0 {
			continue
		}
		for _, err := range []error{c.Delete(l.Digest), c.Delete(l.DiffID)} {
			if err != nil && !errors.Is(err, cache.ErrNotFound) {
				return err
			}
		}
		delete(found, l.N)
	}
	return nil
}

func (t *tester) problem(r *row, format string, args ...any) {
	text := fmt.Sprintf("%s, %s, %s, cut %d: ", r.kind, r.mode.name, r.opts, r.cuts) + fmt.Sprintf(format, args...)
	fmt.Fprintln(os.Stderr, "powerloss:", text)
	t.problems = append(t.problems, text)
}

// table prints the figures, and what was wrong.
func (t *tester) table(out io.Writer) error {
	var text strings.Builder
	text.WriteString("mode\tmounted\tcuts\tpromised, there\tothers, there\tothers, lost\tdamaged, dropped\tcorrupt\tmissing\tunlisted\tother findings\tLOST\tWRONG\t\n")
	for _, r := range t.rows {
		other := 0
		for problem, n := range r.findings {
			if !slices.Contains([]cache.Problem{cache.Corrupt, cache.Missing, cache.Unlisted}, problem) {
				other += n
			}
		}
		fmt.Fprintf(&text, "%s\t%s %s", r.mode.name, r.kind, r.opts)
		for _, n := range []int{
			r.cuts, r.promised, r.survived, r.gone, r.repairs,
			r.findings[cache.Corrupt], r.findings[cache.Missing], r.findings[cache.Unlisted], other, r.lost, r.wrong,
		} {
			fmt.Fprintf(&text, "\t%d", n)
		}
		text.WriteString("\t\n")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, err := io.WriteString(w, text.String())
	err = errors.Join(err, w.Flush())
	_, perr := io.WriteString(out, strings.Join(append(t.problems, ""), "\n"))
	return errors.Join(err, perr)
}
