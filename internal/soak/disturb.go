package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocicache/ocicache/internal/soak/layers"
)

// A corruption is a byte that was changed in a blob on disk.
type corruption struct {
	layer    layers.Layer
	hex      string // of the blob
	from, to time.Time
}

// corrupt changes a byte of a blob, in place, as a failing disk or a careless
// program does.
func (p *parent) corrupt() {
	at := p.rnd.IntN(len(p.set))
	for i := range p.set {
		l := p.set[(at+i)%len(p.set)]
		if isKept(l) {
			continue
		}
		hex := l.Digest.Hex
		if p.rnd.IntN(2) == 0 {
			hex = l.DiffID.Hex
		}
		began := time.Now()
		if p.flip(filepath.Join(p.cfg.cacheDir(), "blobs", "sha256", hex)) {
			p.corrupted = append(p.corrupted, corruption{l, hex, began, time.Now()})
			return
		}
	}
}

func (p *parent) flip(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false // it is not there
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return false
	}
	b, at := make([]byte, 1), p.rnd.Int64N(fi.Size())
	if _, err = f.ReadAt(b, at); err == nil {
		b[0] ^= 1 << p.rnd.IntN(8)
		_, err = f.WriteAt(b, at)
	}
	if err != nil {
		p.problem("corrupt: %v", err)
	}
	return err == nil
}

// excuses reports whether a corruption is why something was wrong. Bytes that
// were changed while they were read are nobody's fault, and no sooner and no
// later. An error may come later: of what was made of these bytes meanwhile.
func (p *parent) excuses(f fault) bool {
	from := f.From
	switch f.What {
	case badError:
		from = from.Add(-10 * time.Second)
	case wrongBytes:
	default:
		return false
	}
	for _, c := range p.corrupted {
		if c.layer.N == f.Layer && c.to.After(from) && c.from.Before(f.To) {
			return true
		}
	}
	return false
}

// edit changes index.json as another tool does: in place, an image more or
// only in other formatting. It holds the lock of checkpoints meanwhile, which
// other tools do not: whoever reads the index, and writes it after a
// checkpoint did, takes out of it what that had folded in, and what the soak
// is to find could not be told from that.
func (p *parent) edit() {
	lock := flock.New(filepath.Join(p.cfg.cacheDir(), ".ocicache", "checkpoint.lock"))
	if err := lock.Lock(); err != nil {
		p.problem("edit: %v", err)
		return
	}
	defer lock.Close()
	edit := p.reformat
	if p.edits%2 == 0 {
		edit = p.appendImage
	}
	if err := edit(); err != nil {
		p.problem("edit: %v", err)
	}
	p.edits++
}

func (p *parent) appendImage() error {
	path, err := ggcrlayout.FromPath(p.cfg.cacheDir())
	if err != nil {
		return err
	}
	img, err := random.Image(1024, 2)
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	p.foreign = append(p.foreign, digest.String())
	return path.AppendImage(img, ggcrlayout.WithAnnotations(map[string]string{"org.example.soak": string(types.OCIManifestSchema1)}))
}

func (p *parent) reformat() error {
	name := filepath.Join(p.cfg.cacheDir(), "index.json")
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var to bytes.Buffer
	if err := json.Indent(&to, b, "", "\t"); err != nil {
		return err
	}
	return os.WriteFile(name, to.Bytes(), 0o644)
}
