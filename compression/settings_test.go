package compression_test

import (
	"strings"
	"testing"

	"github.com/ocicache/ocicache/compression"
)

var badSettings = []compression.Settings{
	{},
	{Format: "xz"},
	{Format: compression.Plain, Level: 1},
	{Format: compression.Plain, BlockSize: 1 << 20},
	{Format: compression.Gzip, Level: -1},
	{Format: compression.Gzip, Level: 10},
	{Format: compression.Gzip, BlockSize: -1},
	{Format: compression.Gzip, BlockSize: 1<<16 - 1},
	{Format: compression.Gzip, BlockSize: 1<<24 + 1},
	{Format: compression.Zstd, Level: -1},
	{Format: compression.Zstd, Level: 23},
	{Format: compression.Zstd, BlockSize: 1 << 20},
}

func TestSettingsString(t *testing.T) {
	for _, test := range []struct {
		settings compression.Settings
		want     string
	}{
		{compression.DefaultSettings(), "gzip;level=1;block=1048576;by=pgzip"},
		{compression.Settings{Format: compression.Gzip}, "gzip;level=1;block=1048576;by=pgzip"},
		{compression.Settings{Format: compression.Gzip, Level: 9, BlockSize: 1 << 16}, "gzip;level=9;block=65536;by=pgzip"},
		{compression.Settings{Format: compression.Zstd}, "zstd;level=3;by=klauspost"},
		{compression.Settings{Format: compression.Zstd, Level: 22}, "zstd;level=22;by=klauspost"},
		{compression.Settings{Format: compression.Plain}, "plain"},
	} {
		t.Run(test.want, func(t *testing.T) {
			if got := test.settings.String(); got != test.want {
				t.Fatalf("%+v.String() = %q, want %q", test.settings, got, test.want)
			}
			got, err := compression.ParseSettings(test.want)
			if err != nil || got.String() != test.want {
				t.Errorf("ParseSettings = %+v, %v", got, err)
			}
		})
	}
}

func TestParseSettingsRefuses(t *testing.T) {
	for _, text := range []string{
		"",
		";",
		"gzip",
		"Gzip;level=1;block=1048576;by=pgzip",
		"gzip;level=1;block=1048576",
		"gzip;level=1;block=1048576;by=pgzip;",
		"gzip;level=1;block=1048576;by=pgzip ",
		"gzip;block=1048576;level=1;by=pgzip",
		"gzip;level=01;block=1048576;by=pgzip",
		"gzip;level=+1;block=1048576;by=pgzip",
		"gzip;level=0;block=1048576;by=pgzip",
		"gzip;level=10;block=1048576;by=pgzip",
		"gzip;level=1;level=1;block=1048576;by=pgzip",
		"gzip;level=1;block=0;by=pgzip",
		"gzip;level=1;block=1;by=pgzip",
		"gzip;level=1;block=1099511627776;by=pgzip",
		"gzip;level=1;block=99999999999999999999999999;by=pgzip",
		"gzip;level=1;block=-1048576;by=pgzip",
		"gzip;level=1;block=1048576;by=zlib",
		"gzip;level=1;block=1048576;by=pgzip;strategy=2",
		"zstd;level=3;block=1048576;by=klauspost",
		"zstd;level=23;by=klauspost",
		"plain;level=1",
		"xz;level=6;by=xz",
		"zstd;level=" + strings.Repeat("3", 1<<20),
	} {
		got, err := compression.ParseSettings(text)
		if err == nil || got != (compression.Settings{}) {
			t.Errorf("ParseSettings(%.60q) = %+v, %v; want an error", text, got, err)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("ParseSettings(%.60q): an error of %d bytes", text, len(err.Error()))
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	for _, s := range allSettings() {
		f.Add(s.String())
	}
	f.Add("gzip;level=1;block=1099511627776;by=pgzip")
	f.Add("gzip;level=;block=;by=")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := compression.ParseSettings(text)
		if err != nil {
			return
		}
		if s.String() != text {
			t.Errorf("ParseSettings(%q) = %+v, which is %q", text, s, s)
		}
		if _, err := compression.NewWriter(nil, s); err != nil {
			t.Errorf("NewWriter refuses %q: %v", text, err)
		}
	})
}
