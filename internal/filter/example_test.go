package filter_test

import (
	"fmt"
	"time"

	"github.com/ocicache/ocicache/internal/filter"
)

func Example() {
	schema := filter.Schema{
		"from":     filter.KindString,
		"size":     filter.KindInt,
		"lastused": filter.KindTime,
		"pinned":   filter.KindBool,
	}
	today := time.Date(2024, 3, 15, 0, 0, 0, 0, time.UTC)

	f, err := schema.Parse(today, "size>10MB,lastused<7d,pinned!=true", "from~=^ghcr.io/")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, layer := range []struct {
		from string
		size int64
		used time.Time
	}{
		{"docker.io/library/golang", 67 << 20, today.AddDate(0, 0, -30)},
		{"docker.io/library/alpine", 3 << 20, today.AddDate(0, 0, -30)},
		{"docker.io/library/debian", 48 << 20, today.AddDate(0, 0, -1)},
		{"ghcr.io/homebrew/core/jq", 1 << 20, today.AddDate(0, 0, -1)},
	} {
		if f.Match(func(name string) filter.Value {
			switch name {
			case "from":
				return filter.StringValue(layer.from)
			case "size":
				return filter.IntValue(layer.size)
			case "lastused":
				return filter.TimeValue(layer.used)
			}
			return filter.BoolValue(false)
		}) {
			fmt.Println(layer.from)
		}
	}

	_, err = schema.Parse(today, "size>>3")
	fmt.Println(err)
	// Output:
	// docker.io/library/golang
	// ghcr.io/homebrew/core/jq
	// filter "size>>3": column 6: a value was expected
}
