package cli

import (
	"strconv"

	"github.com/kafka-backup/kafka-backup/internal/render"
)

// known is a number that there is, for JSON: nil where it is negative, which
// stands for none.
func known[N int32 | int64](n N) *N {
	if n < 0 {
		return nil
	}
	return &n
}

// optional writes a number that may be missing.
func optional[N int32 | int64](n *N, missing string) string {
	if n == nil {
		return missing
	}
	return strconv.FormatInt(int64(*n), 10)
}

// dash writes a number for people, and - where there is none.
func dash[N int32 | int64](n N) string { return optional(known(n), "-") }

// blank writes a number for CSV, and nothing where there is none.
func blank[N int32 | int64](n N) string { return optional(known(n), "") }

// nonzero writes a count for people, and nothing where it is 0.
func nonzero(n int64) string {
	if n == 0 {
		return ""
	}
	return render.Count(n)
}
