package compression

import (
	"errors"
	"io"
	"runtime"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

var errWriterClosed = errors.New("compression: writer is closed")

// NewWriter returns a writer that compresses to w as s says. What it makes
// depends on the bytes written and on s alone: not on how the writes are cut,
// on the number of processors, or on the time. It refuses settings that
// [ParseSettings] would refuse. Plain copies.
//
// Close writes what is left and does not close w; it may be called again and
// returns the same. It must be called, also after an error of w: it ends the
// goroutines that gzip is compressed in. (Those of a writer that was dropped
// end some time after the garbage collector has found it.) When Close is called
// before all was written, w gets a shorter stream that looks complete.
//
// An error of w is returned unchanged, by the Write at hand or, since gzip is
// written behind, by a later one or Close, and by every call from then on; w
// gets no more calls after Close has returned. w is used by one goroutine at a
// time, not always the caller's. One goroutine at a time may use the writer.
func NewWriter(w io.Writer, s Settings) (io.WriteCloser, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	s = s.withDefaults()
	out := sink{w}
	switch s.Format {
	case Gzip:
		return newGzipWriter(out, s)
	case Zstd:
		return newZstdWriter(out, s)
	}
	return &writer{enc: nopCloser{out}, release: func() {}}, nil
}

func newGzipWriter(out sink, s Settings) (*writer, error) {
	z, err := pgzip.NewWriterLevel(out, s.Level)
	if err != nil {
		return nil, err
	}
	// Every block ends at a multiple of BlockSize and is compressed with the
	// same 16 KiB before it as its dictionary, so that how many are under way
	// at once decides nothing but the speed.
	if err := z.SetConcurrency(s.BlockSize, runtime.GOMAXPROCS(0)); err != nil {
		return nil, err
	}
	// The zero time.Time would be recorded, cut to 32 bits. This is RFC 1952's
	// "no time stamp is available".
	z.ModTime = time.Unix(0, 0)

	// Once w has failed, pgzip's Close returns at once and leaves the goroutine
	// waiting that writes to w. Reset ends it, and waits for that.
	wr := &writer{enc: z, release: func() { z.Reset(io.Discard) }}
	dropped := runtime.AddCleanup(wr, func(z *pgzip.Writer) { go z.Reset(io.Discard) }, z)
	wr.kept = dropped.Stop
	return wr, nil
}

func newZstdWriter(out sink, s Settings) (*writer, error) {
	z, err := zstd.NewWriter(out,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(s.Level)),
		// The library does not promise the same bytes for all concurrencies,
		// and with one it starts no goroutines.
		zstd.WithEncoderConcurrency(1),
	)
	if err != nil {
		return nil, err
	}
	// The encoder's ReadFrom, which io.Copy would find, cuts blocks where the
	// reads end. As a writer it is hidden.
	return &writer{enc: z, release: func() {}}, nil
}

// writer is what all encoders need around them: errors that stay, and a Close
// that releases everything once.
type writer struct {
	enc     io.WriteCloser
	release func() // ends what enc runs, after enc.Close has failed
	kept    func() // calls off the cleanup for dropped writers, if there is one
	closed  bool
	err     error
}

func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.closed {
		return 0, errWriterClosed
	}
	n, err := w.enc.Write(p)
	w.err = err
	runtime.KeepAlive(w) // no cleanup under a write
	return n, err
}

func (w *writer) Close() error {
	if w.closed {
		return w.err
	}
	w.closed = true
	if w.kept != nil {
		w.kept()
	}
	err := w.enc.Close()
	if w.err == nil {
		w.err = err
	}
	if w.err != nil {
		w.release()
	}
	return w.err
}

// sink keeps io.Writer's contract where w does not.
type sink struct{ w io.Writer }

func (s sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
