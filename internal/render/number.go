package render

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Count writes a number with commas: 1,234,567.
func Count(n int64) string { return humanize.Comma(n) }

// Bytes writes a number of bytes with a binary unit: 1.2 GiB.
func Bytes(n int64) string {
	if n < 0 {
		return "-" + humanize.IBytes(uint64(-n))
	}
	return humanize.IBytes(uint64(n))
}

// Rate writes bytes per second: 102 MiB/s.
func Rate(bytesPerSecond float64) string { return Bytes(int64(bytesPerSecond)) + "/s" }

// Duration writes a duration to the second, and one under a second to the
// millisecond: 1h2m3s, 350ms.
func Duration(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// Time writes RFC 3339 in UTC to the second, and nothing for the zero time.
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Milli writes milliseconds since 1970 as RFC 3339 in UTC with milliseconds.
// Times that RFC 3339 cannot express are written as the number.
func Milli(ms int64) string {
	t := time.UnixMilli(ms).UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return strconv.FormatInt(ms, 10)
	}
	return t.Format("2006-01-02T15:04:05.000Z07:00")
}

// Number writes a number and what it counts: 1 topic, 2 topics.
func Number[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Count(int64(n)) + " " + noun + "s"
}

// List writes the first names of a list, and how many more there are.
func List(names []string, most int) string {
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %s more", strings.Join(names[:most], ", "), Count(int64(more)))
	}
	return strings.Join(names, ", ")
}
