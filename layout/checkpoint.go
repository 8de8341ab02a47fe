package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Checkpoint is under way: the journal was set aside and its records are
// to be written into index.json.
type Checkpoint struct {
	// Folded names the last record that the index will hold. It stands in
	// the index, on its first line, and comes back through [Replica.Reset].
	Folded string
}

// Checkpoint writes index.json anew. The writers' lock is held only while
// the journal is set aside; then write is called, while others read and
// write on, with a replica that holds at least what was set aside.
// Checkpoints of several processes take turns. If nothing was journaled
// since the last one, write is not called. In the end it clears away what
// processes left that died.
func (l *Layout) Checkpoint(ctx context.Context, write func(Checkpoint, io.Writer) error) error {
	write = l.tellOthers(write)
	defer l.Sweep()
	return l.locked(ctx, l.checkpoint, checkpointing, func() error {
		// What a checkpoint that died had set aside goes first.
		if err := l.fold(write); err != nil {
			return err
		}
		if err := l.patiently(func() error { return l.setAside(ctx) }); err != nil {
			return err
		}
		return l.fold(write)
	})
}

// setAside gives the journal another name and starts a new one.
func (l *Layout) setAside(ctx context.Context) error {
	return l.exclusive(ctx, func() error {
		lg := &l.log
		lg.mu.Lock()
		defer lg.mu.Unlock()
		if err := l.catchUp(); err != nil {
			return err
		}
		l.sweepNew()
		there, err := l.exists(journalFile)
		if err != nil || !there || lg.journal == nil || lg.journal.number == 0 {
			return err
		}
		name, err := l.newJournal(lg.journal.generation) // first: the disk may be full
		if err != nil {
			return err
		}
		if err := l.root.rename(journalFile, oldJournal); err != nil {
			_ = l.root.remove(name)
			return err
		}
		return l.beginJournal(name)
	})
}

// fold writes an index that holds the journal that was set aside, and
// removes it.
func (l *Layout) fold(write func(Checkpoint, io.Writer) error) error {
	old, err := l.openJournal(oldJournal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if old != nil {
		defer old.Close()
		if err := old.readOn(discard{}); err != nil {
			return err
		}
		if err := l.writeIndex(folded{old.generation, old.number}, write); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	return l.root.remove(oldJournal)
}

type discard struct{}

func (discard) Reset([]byte) (string, error) { return "", nil }
func (discard) Apply([]byte)                 {}
func (discard) End(bool)                     {}

// writeIndex replaces index.json. If another tool replaced it, that is read
// first, so that nothing it added is lost.
func (l *Layout) writeIndex(mark folded, write func(Checkpoint, io.Writer) error) error {
	err := l.patiently(func() error {
		l.log.mu.Lock()
		defer l.log.mu.Unlock()
		if err := l.catchUp(); err != nil {
			return err
		}
		if l.fileID(ocispec.ImageIndexFile).same(l.log.loaded) {
			return nil
		}
		return l.reload()
	})
	if err != nil {
		return err
	}
	err = l.replaceFile(ocispec.ImageIndexFile, func(w io.Writer) error {
		return write(Checkpoint{Folded: mark.String()}, &limitedWriter{w, maxIndex})
	})
	if err != nil {
		return err
	}
	l.log.mu.Lock()
	l.log.loaded = l.fileID(ocispec.ImageIndexFile)
	l.log.seen = l.log.loaded
	l.log.mu.Unlock()
	return l.syncDirs(".")
}

// A limitedWriter takes no more than an index may have: what nobody could
// open is not written.
type limitedWriter struct {
	w io.Writer
	n int64 // bytes that it takes
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if l.n -= int64(len(p)); l.n < 0 {
		return 0, fmt.Errorf("%s: %w: the limit is %d bytes", ocispec.ImageIndexFile, ErrTooLarge, int64(maxIndex))
	}
	return l.w.Write(p)
}

// tellOthers makes write begin an index with addedTo if it takes the place of
// one of another tool. A checkpoint that writes twice says so twice.
func (l *Layout) tellOthers(write func(Checkpoint, io.Writer) error) func(Checkpoint, io.Writer) error {
	lead := ""
	return func(cp Checkpoint, w io.Writer) error {
		if l.indexHead() == nil {
			lead = addedTo
		}
		if _, err := io.WriteString(w, lead); err != nil {
			return err
		}
		return write(cp, w)
	}
}

// sweepNew removes what processes that died had written of an index or a
// journal. Both locks are held: nobody else is writing one.
func (l *Layout) sweepNew() {
	names, _ := l.root.list(stateDir, -1)
	for _, name := range names {
		if strings.HasPrefix(name, "new-") {
			_ = l.root.remove(stateDir + "/" + name)
		}
	}
}

// indexHolds reports whether index.json says, in the place where a
// checkpoint writes it, that it holds the journal of that generation, and
// nothing that another tool added.
func (l *Layout) indexHolds(generation string) bool {
	head := l.indexHead()
	return !bytes.HasPrefix(head, []byte(addedTo)) && bytes.Contains(head, []byte(`"`+generation+`:`))
}

// addedTo stands before an index that is written in the place of one of
// another tool: whoever did not see that one has to read this one.
const addedTo = "\n"

// indexHead returns how index.json begins: up to the end of the line that
// ends with the opening of the list of descriptors. It is nil if another tool
// wrote the file.
func (l *Layout) indexHead() []byte {
	f, err := openRegular(l.root, ocispec.ImageIndexFile, os.O_RDONLY)
	if err != nil {
		return nil
	}
	defer f.Close()
	head := make([]byte, 4096)
	n, _ := io.ReadFull(f, head)
	head = head[:n]
	end := bytes.Index(head, []byte("[\n"))
	if end < 0 || bytes.ContainsRune(bytes.TrimPrefix(head[:end], []byte(addedTo)), '\n') {
		return nil
	}
	return head[:end]
}
