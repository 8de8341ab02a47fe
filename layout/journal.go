package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// A journal is one generation of the journal file, open to be read on. Its
// first line is a header, each further line a record, numbered from 1:
//
//	{"version":1,"generation":"…","previous":"…","boot":"…"}
//	{"n":1,"put":{…}}
//
// What stands between the last line end and the end of the file was torn by
// a crash, or is being written.
type journal struct {
	file       File
	generation string // random
	previous   string // the generation it took over from, or ""
	offset     int64  // up to here it was read: the start of a line
	number     uint64 // of the last record read
	skipTo     uint64 // records up to this number are in the index
	inLine     bool   // offset is in the middle of an overlong line
}

type journalHeader struct {
	Version    int    `json:"version"`
	Generation string `json:"generation"`
	Previous   string `json:"previous,omitempty"`
	Boot       string `json:"boot"`
}

// maxRecord bounds a line of the journal, in bytes. Longer ones are none of
// ours and are passed over. recordOverhead is room for a record's number.
const (
	maxRecord      = 1 << 20
	recordOverhead = 32
)

// openJournal opens a journal and reads its header. A file without a whole
// header was cut short as it was made, and is as good as none: then it
// returns nil.
func (l *Layout) openJournal(name string) (*journal, error) {
	f, err := l.openJournalFile(name)
	if err != nil {
		return nil, err
	}
	line := make([]byte, 4096)
	n, err := f.ReadAt(line, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		_ = f.Close()
		return nil, err
	}
	end := bytes.IndexByte(line[:n], '\n')
	var h journalHeader
	if end < 0 || json.Unmarshal(line[:end], &h) != nil || h.Generation == "" {
		_ = f.Close()
		return nil, nil
	}
	if h.Version != 1 {
		_ = f.Close()
		return nil, fmt.Errorf("%w: %s is of version %d", ErrVersion, l.path(name), h.Version)
	}
	return &journal{file: f, generation: h.Generation, previous: h.Previous, offset: int64(end) + 1}, nil
}

// openJournalFile opens a journal, if need be to append to it.
func (l *Layout) openJournalFile(name string) (File, error) {
	if l.readOnly {
		return openRegular(l.root, name, os.O_RDONLY)
	}
	return openRegular(l.root, name, os.O_RDWR)
}

// newJournal writes an empty journal, which beginJournal gives its name. The
// writers' lock is held for both.
func (l *Layout) newJournal(previous string) (name string, err error) {
	h, err := json.Marshal(journalHeader{Version: 1, Generation: random(), Previous: previous, Boot: Boot()})
	if err != nil {
		return "", err
	}
	return l.writeTemp(journalFile, func(w io.Writer) error {
		_, err := w.Write(append(h, '\n'))
		return err
	})
}

// beginJournal makes a new journal the one that is appended to. log.mu is held.
func (l *Layout) beginJournal(name string) error {
	if err := l.root.rename(name, journalFile); err != nil {
		_ = l.root.remove(name)
		return err
	}
	if err := l.syncDirs(stateDir); err != nil { // from here on, a sync of the file is one of its records
		return err
	}
	j, err := l.openJournal(journalFile)
	if err != nil {
		return err
	}
	if j == nil {
		return fmt.Errorf("%s vanished as it was made", l.path(journalFile))
	}
	l.log.journal.Close()
	l.log.journal = j
	return nil
}

// Close closes the file. A nil journal is closed already.
func (j *journal) Close() {
	if j != nil {
		_ = j.file.Close()
	}
}

// is reports whether the journal is the file that info is of.
func (j *journal) is(info os.FileInfo) (bool, error) {
	own, err := j.file.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(own, info), nil
}

// skip makes readOn leave out what the index holds already. Numbers go on
// after that, also if the system went down and the journal lost its end.
func (j *journal) skip(f folded) {
	if f.generation == j.generation {
		j.skipTo, j.number = f.number, f.number
	}
}

// readOn applies the records after the last one read. It stops before a line
// without an end.
func (j *journal) readOn(r Replica) error {
	fi, err := j.file.Stat()
	if err != nil {
		return err
	}
	if fi.Size() <= j.offset {
		return nil
	}
	buf := make([]byte, min(fi.Size()-j.offset, 2*maxRecord))
	for {
		n, err := j.file.ReadAt(buf, j.offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		used := j.applyLines(buf[:n], r)
		if used == 0 && (j.inLine || n > maxRecord) {
			used, j.inLine = int64(n), true
		}
		if used == 0 {
			return nil
		}
		j.offset += used
	}
}

// applyLines applies the whole lines in b and returns their length in bytes.
func (j *journal) applyLines(b []byte, r Replica) (used int64) {
	for {
		end := bytes.IndexByte(b[used:], '\n')
		if end < 0 {
			return used
		}
		line, rest := b[used:used+int64(end)], j.inLine
		used += int64(end) + 1
		j.inLine = false
		n, ok := recordNumber(line)
		if !ok || rest || len(line) > maxRecord {
			continue
		}
		j.number = max(j.number, n)
		if n > j.skipTo {
			r.Apply(line)
		}
	}
}

const numberPrefix = `{"n":`

// maxNumber is a number that no journal comes near to. What is larger is none
// of ours.
const maxNumber = 1 << 62

// recordNumber returns the number that a record begins with.
func recordNumber(line []byte) (uint64, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(numberPrefix))
	if !ok {
		return 0, false
	}
	digits, _, ok := bytes.Cut(rest, []byte{','})
	if !ok || len(digits) > 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	return n, err == nil && n <= maxNumber
}

// numbered returns a record, a JSON object, with its number put first.
func numbered(n uint64, record []byte) []byte {
	b := append(make([]byte, 0, len(record)+24), numberPrefix...)
	b = strconv.AppendUint(b, n, 10)
	b = append(b, ',')
	b = append(b, record[1:]...)
	return append(b, '\n')
}

// folded is the last record that an index holds: of which generation, and
// its number.
type folded struct {
	generation string
	number     uint64
}

func (f folded) String() string { return f.generation + ":" + strconv.FormatUint(f.number, 10) }

// parseFolded reads what String made; what it cannot read folds nothing.
func parseFolded(s string) folded {
	generation, number, ok := strings.Cut(s, ":")
	n, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || n > maxNumber/2 { // no journal comes near to that
		return folded{}
	}
	return folded{generation: generation, number: n}
}
