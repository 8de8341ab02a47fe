package compression

import (
	"fmt"
	"strconv"
	"strings"
)

// Settings are what decides the bytes a Writer makes: the same tar and the same
// Settings give the same bytes, with the same version of this module's
// dependencies, on any number of processors.
//
// A field that is zero, Format aside, means its default. Settings are
// comparable; two that differ only in that a default is spelled out write the
// same bytes and have the same String.
type Settings struct {
	Format Format

	// Level is how much work goes into compressing. Gzip: 1 to 9, 1 by
	// default. Zstd: 1 to 22, 3 by default, of which the encoder tells four
	// apart (1–2, 3–5, 6–9, 10–22). Plain has none.
	Level int

	// BlockSize is how many bytes of input are compressed at a time, and in
	// parallel with others: 64 KiB to 16 MiB, 1 MiB by default. Gzip only.
	BlockSize int
}

const (
	defaultBlockSize = 1 << 20
	minBlockSize     = 64 << 10
	maxBlockSize     = 16 << 20
)

// Which encoder wrote the bytes. Another encoder, or one whose bytes have
// changed, gets another name.
const (
	byPgzip = "pgzip"
	byZstd  = "klauspost"
)

// DefaultSettings are gzip at level 1, as go-containerregistry compresses the
// layers it makes.
func DefaultSettings() Settings {
	return Settings{Format: Gzip, Level: 1, BlockSize: defaultBlockSize}
}

// String is the form that is recorded, and that [ParseSettings] reads:
//
//	gzip;level=1;block=1048576;by=pgzip
//	zstd;level=3;by=klauspost
//	plain
//
// Defaults are spelled out.
func (s Settings) String() string {
	s = s.withDefaults()
	switch s.Format {
	case Gzip:
		return fmt.Sprintf("%s;level=%d;block=%d;by=%s", s.Format, s.Level, s.BlockSize, byPgzip)
	case Zstd:
		return fmt.Sprintf("%s;level=%d;by=%s", s.Format, s.Level, byZstd)
	}
	return string(s.Format)
}

// ParseSettings is the inverse of [Settings.String], and takes nothing else: no
// other order, spelling or encoder, and no value that [NewWriter] would refuse.
// So it is safe to use on what came from elsewhere.
func ParseSettings(text string) (Settings, error) {
	format, rest, _ := strings.Cut(text, ";")
	s := Settings{Format: Format(format)}
	for field := range strings.SplitSeq(rest, ";") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "level":
			s.Level, _ = strconv.Atoi(value) // the comparison below finds errors
		case "block":
			s.BlockSize, _ = strconv.Atoi(value)
		}
	}
	if err := s.check(); err != nil {
		return Settings{}, err
	}
	if s.String() != text {
		return Settings{}, fmt.Errorf("compression: unknown settings %.100q", text)
	}
	return s, nil
}

func (s Settings) withDefaults() Settings {
	switch s.Format {
	case Gzip:
		if s.Level == 0 {
			s.Level = 1
		}
		if s.BlockSize == 0 {
			s.BlockSize = defaultBlockSize
		}
	case Zstd:
		if s.Level == 0 {
			s.Level = 3
		}
	}
	return s
}

// check refuses what no Writer is made for.
func (s Settings) check() error {
	s = s.withDefaults()
	var minLevel, maxLevel, minBlock, maxBlock int
	switch s.Format {
	case Plain:
	case Gzip:
		minLevel, maxLevel, minBlock, maxBlock = 1, 9, minBlockSize, maxBlockSize
	case Zstd:
		minLevel, maxLevel = 1, 22
	default:
		return fmt.Errorf("compression: unknown format %.100q", string(s.Format))
	}
	if s.Level < minLevel || s.Level > maxLevel {
		return fmt.Errorf("compression: %s: level %d is not within %d and %d", s.Format, s.Level, minLevel, maxLevel)
	}
	if s.BlockSize < minBlock || s.BlockSize > maxBlock {
		return fmt.Errorf("compression: %s: block size %d is not within %d and %d", s.Format, s.BlockSize, minBlock, maxBlock)
	}
	return nil
}
