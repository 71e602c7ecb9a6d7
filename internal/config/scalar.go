package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// scalar is a type of ours that is written as one YAML scalar.
type scalar interface {
	setText(string) error // the error says what would be right
	kind() string         // for the reference: what is to be written
}

// Bytes is a number of bytes. Written as a number or with a unit: 64MiB, 1GB, 512k.
// kB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB powers of 1024.
type Bytes int64

var byteUnits = []struct {
	suffix string
	factor float64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"b", 1},
}

func (b *Bytes) setText(text string) error {
	wrong := errors.New("write a number of bytes, as in 1048576, 64MiB or 1.5GB")
	lower := strings.ToLower(strings.TrimSpace(text))
	factor := 1.0
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(lower, u.suffix); ok {
			lower, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	if n, err := strconv.ParseInt(lower, 10, 64); err == nil && factor == 1 {
		*b = Bytes(n)
		return nil
	}
	f, err := strconv.ParseFloat(lower, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f*factor) >= math.MaxInt64 || f*factor != math.Trunc(f*factor) {
		return wrong
	}
	*b = Bytes(f * factor)
	return nil
}

func (*Bytes) kind() string { return "bytes (64MiB, 1GB)" }

// String writes the number with the largest binary unit that divides it.
func (b Bytes) String() string {
	for i := 3; i >= 0; i-- {
		if u := Bytes(byteUnits[i].factor); b >= u && b%u == 0 {
			return fmt.Sprintf("%d%s", b/u, []string{"KiB", "MiB", "GiB", "TiB"}[i])
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Duration is a time.Duration, written as 500ms, 30s, 5m, 1h30m or 30d, also in JSON.
type Duration time.Duration

var errDuration = errors.New("write a duration with its unit, as in 500ms, 30s, 5m or 30d")

func (d *Duration) setText(text string) error {
	var whole time.Duration
	rest := text
	if days, after, found := strings.Cut(text, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return errDuration
		}
		whole, rest = time.Duration(n)*24*time.Hour, after
	}
	if rest != "" {
		v, err := time.ParseDuration(rest)
		if err != nil {
			return errDuration
		}
		whole += v
	}
	if text == "" {
		return errDuration
	}
	*d = Duration(whole)
	return nil
}

func (*Duration) kind() string { return "duration (500ms, 30s, 5m, 30d)" }

// Std returns the time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes the duration as time.Duration does, without zero parts at its end.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error { return d.setText(string(b)) }

// Timestamp is a point in time in milliseconds since 1970-01-01 UTC, as Kafka's record
// timestamps are. Written as that number or as RFC 3339 (2024-12-01T10:00:00Z). A number in JSON.
type Timestamp int64

func (t *Timestamp) setText(text string) error {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		*t = Timestamp(ms)
		return nil
	}
	v, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return errors.New("write milliseconds since 1970 (1733047200000) or RFC 3339 with a zone (2024-12-01T10:00:00Z)")
	}
	*t = Timestamp(v.UnixMilli())
	return nil
}

func (*Timestamp) kind() string { return "time (epoch ms or RFC 3339)" }

// Time returns the time in UTC.
func (t Timestamp) Time() time.Time { return time.UnixMilli(int64(t)).UTC() }

// String writes RFC 3339 in UTC with milliseconds.
func (t Timestamp) String() string { return t.Time().Format("2006-01-02T15:04:05.000Z07:00") }

func (s *Secret) setText(text string) error { s.text = text; return nil }

func (*Secret) kind() string { return "secret (${NAME} or file:/path)" }
