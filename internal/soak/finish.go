package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ocicache/ocicache/cache"
	"github.com/ocicache/ocicache/internal/soak/layers"
)

// finish looks what the children found, and what they left.
func (p *parent) finish() {
	for _, f := range p.faults {
		if p.excuses(f) {
			p.excused++
		} else {
			p.problem("layer %d: %s: %s (%s to %s)", f.Layer, f.What, f.Text, f.From.Format("15:04:05.000"), f.To.Format("15:04:05.000"))
		}
	}
	p.checkHeap()
	c, err := cache.Open(p.cfg.cacheDir())
	if err != nil {
		p.problem("open: %v", err)
		return
	}
	p.checkKept(c)
	p.verify(c)
	p.readAll(c)
	if err := errors.Join(c.Flush(), c.Close()); err != nil {
		p.problem("close: %v", err)
	}
	p.left = c.Stats()
	if c, err = cache.Open(p.cfg.cacheDir()); err != nil {
		p.problem("open again: %v", err)
		return
	}
	if err := c.Close(); err != nil {
		p.problem("close again: %v", err)
	}
	p.checkDir()
	p.checkImages()
	if text := leaks(p.cfg.cacheDir()); text != "" {
		p.problem("left after closing: %s", text)
	}
}

// checkHeap compares what the spared child had in use early and late.
func (p *parent) checkHeap() {
	n := len(p.heaps) / 3
	if n == 0 {
		return
	}
	early, late := slices.Max(p.heaps[:n]), slices.Max(p.heaps[len(p.heaps)-n:])
	if late > 2*early+32<<20 {
		p.problem("memory grows: from %d to %d bytes", early, late)
	}
}

func (p *parent) checkKept(c *cache.Cache) {
	for n := range p.kept {
		l := p.set[n]
		got, err := c.Get(l.Digest)
		if err == nil {
			err = hasDigest(got.Compressed, l.Digest)
		}
		if err != nil {
			p.problem("layer %d was filled and never deleted: %v", n, err)
		}
	}
}

// verify looks for what is wrong in the directory, repairs it, and looks that
// nothing is left. These alone are legitimate:
//
//   - Corrupt, of a blob that the parent corrupted and nobody has read since.
//   - Unlisted, one at most for each child that was killed: a commit renames
//     the blob and then records it, and a removal records first and then
//     renames, so who dies in between leaves a blob that nothing lists. It
//     dies holding the writers' lock, so there is but one.
func (p *parent) verify(c *cache.Cache) {
	for _, again := range []bool{false, true} {
		report, err := c.Verify(context.Background(), cache.VerifyOptions{Rebuild: !again})
		if err != nil {
			p.problem("verify: %v", err)
		}
		for _, f := range report.Findings {
			p.findings[f.Problem]++
			legitimate := f.Problem == cache.Corrupt && p.wasCorrupted(f.Digest.Hex) && f.Repair == cache.Quarantined ||
				f.Problem == cache.Unlisted && p.findings[cache.Unlisted] <= p.kills && f.Repair == cache.Listed
			if again || !legitimate {
				p.problem("verify: %s", f)
			}
		}
	}
}

func (p *parent) wasCorrupted(hex string) bool {
	return slices.ContainsFunc(p.corrupted, func(c corruption) bool { return c.hex == hex })
}

// readAll reads all layers in both forms.
func (p *parent) readAll(c *cache.Cache) {
	for _, l := range p.set {
		w := c.Layer(l.Origin(layers.Sound))
		err := hasDigest(w.Uncompressed, l.DiffID)
		if l.Kind != layers.TarOnly {
			err = errors.Join(err, hasDigest(w.Compressed, l.Digest))
		}
		if err != nil {
			p.problem("layer %d: %v", l.N, err)
		}
	}
	if s := c.Stats(); s.WriteFaults > 0 || s.Fallbacks > 0 {
		p.problem("something failed as all was read: %+v", s)
	}
}

func hasDigest(open func() (io.ReadCloser, error), want v1.Hash) error {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	got, n, err := v1.SHA256(rc)
	if err == nil && got != want {
		err = fmt.Errorf("%s: want %s, got %d bytes %s", wrongBytes, want, n, got)
	}
	return err
}

// checkDir looks that nothing is left half done, and that nothing was put
// aside that was good.
func (p *parent) checkDir() {
	state := filepath.Join(p.cfg.cacheDir(), ".ocicache")
	for _, pattern := range []string{"ingest/*", "trash/*", "new-*", "journal.old"} {
		if left, _ := filepath.Glob(filepath.Join(state, pattern)); len(left) > 0 {
			p.problem("left in the directory: %v", left)
		}
	}
	aside, _ := filepath.Glob(filepath.Join(state, "quarantine", "*"))
	for _, name := range aside {
		if !p.wasCorrupted(strings.TrimPrefix(filepath.Base(name), "sha256-")) {
			p.problem("put aside, and the parent did not corrupt it: %s", name)
		}
	}
}

// checkImages looks that what the other tool added is there, and whole.
func (p *parent) checkImages() {
	idx, err := ggcrlayout.ImageIndexFromPath(p.cfg.cacheDir())
	if err != nil {
		p.problem("index.json: %v", err)
		return
	}
	for _, digest := range p.foreign {
		h, err := v1.NewHash(digest)
		if err == nil {
			var img v1.Image
			if img, err = idx.Image(h); err == nil {
				err = validate.Image(img)
			}
		}
		if err != nil {
			p.problem("another tool's image %s: %v", digest, err)
		}
	}
}

// table prints the figures, and what was wrong.
func (p *parent) table(out io.Writer) error {
	s := p.sums()
	wrong, bad := 0, 0
	for _, f := range p.faults {
		switch {
		case p.excuses(f):
		case f.What == wrongBytes:
			wrong++
		default:
			bad++
		}
	}
	var text strings.Builder
	row := func(name string, value any) { fmt.Fprintf(&text, "%s\t%v\t\n", name, value) }
	row("seconds", int(p.ended.Sub(p.began).Seconds()))
	for _, op := range operations {
		row("operations: "+op.name, s.Ops[op.name])
	}
	row("MB read and compared", s.Bytes>>20)
	row("hits", s.Stats.Hits)
	row("misses", s.Stats.Misses)
	row("fills", s.Stats.Fills)
	row("decompressions", s.Stats.Decompressions)
	row("compressions", s.Stats.Compressions)
	row("fallbacks", s.Stats.Fallbacks)
	row("write faults", s.Stats.WriteFaults)
	row("processes killed", p.kills)
	row("edits of index.json", p.edits)
	row("blobs corrupted", len(p.corrupted))
	row("repairs while running", s.Stats.Repairs)
	row("repairs in the end", p.left.Repairs)
	row("findings: corrupt", p.findings[cache.Corrupt])
	row("findings: unlisted", p.findings[cache.Unlisted])
	row("layers that had to be kept", len(p.kept))
	if n := len(p.heaps); n > 0 {
		row("heap, KB: first, most, last", fmt.Sprint(p.heaps[0]>>10, " ", slices.Max(p.heaps)>>10, " ", p.heaps[n-1]>>10))
	}
	row("changed while being read", p.excused)
	row("wrong bytes", wrong)
	row("unexpected errors", bad)
	row("other problems", max(len(p.problems)-wrong-bad, 0))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, err := io.WriteString(w, text.String())
	err = errors.Join(err, w.Flush())
	_, perr := io.WriteString(out, strings.Join(append(p.problems, ""), "\n"))
	return errors.Join(err, perr)
}
