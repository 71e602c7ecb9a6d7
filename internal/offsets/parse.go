package offsets

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// timeLayouts are the times that ParseTime takes, each with a zone as one of
// zoneLayouts or without.
var (
	timeLayouts = []string{"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"}
	zoneLayouts = []string{"", "Z07:00", "Z0700", "Z07"}
)

// ParseTime reads a time as kafka-consumer-groups does, in ms since 1970:
// 2024-12-01T10:00:00.000, in UTC unless a zone follows (Z, +01, +0100,
// +01:00). Times before 1970 are refused: Kafka has no timestamps for them.
func ParseTime(text string) (int64, error) {
	for _, layout := range timeLayouts {
		for _, zone := range zoneLayouts {
			if t, err := time.Parse(layout+zone, text); err == nil {
				ms := t.UnixMilli()
				return ms, (&Strategy{Time: &ms}).check()
			}
		}
	}
	return 0, wrong("%q is not a time; write YYYY-MM-DDTHH:mm:ss.sss, in UTC unless a zone follows (2024-12-01T10:00:00.000+01:00)", text)
}

// isoDuration is what java.time.Duration.parse takes.
var isoDuration = regexp.MustCompile(`^(?i)([-+]?)P(?:([-+]?\d+)D)?(T(?:([-+]?\d+)H)?(?:([-+]?\d+)M)?(?:([-+]?\d+)(?:[.,](\d{0,9}))?S)?)?$`)

// ParseDuration reads a duration as kafka-consumer-groups does (ISO 8601 as
// Java's Duration has it: PnDTnHnMn.nS), or as Go does (36h, 90m). A negative
// one is refused.
func ParseDuration(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err == nil && d < 0 {
		err = wrong("%q is negative: it would lie in the future", text)
	}
	return d, err
}

func parseDuration(text string) (time.Duration, error) {
	m := isoDuration.FindStringSubmatch(text)
	if m == nil || m[2] == "" && m[3] == "" || len(m[3]) == 1 { // P, PT and P1DT end too soon
		if d, err := time.ParseDuration(text); err == nil {
			return d, nil
		}
		return 0, wrong("%q is not a duration; write PnDTnHnMnS (P7D, PT1H30M, PT0.5S) or 36h, 90m", text)
	}
	sum := int64(0)
	plus := func(number string, unit time.Duration) bool {
		n, err := strconv.ParseInt(number, 10, 64)
		if number == "" {
			return true
		}
		if err != nil || n > math.MaxInt64/int64(unit) || n < -math.MaxInt64/int64(unit) {
			return false
		}
		n *= int64(unit)
		before := sum
		sum = add(sum, n)
		return sum-before == n
	}
	fraction := ""
	if m[7] != "" {
		fraction = (m[7] + "00000000")[:9]
		if strings.HasPrefix(m[6], "-") {
			fraction = "-" + fraction
		}
	}
	if !plus(m[2], 24*time.Hour) || !plus(m[4], time.Hour) || !plus(m[5], time.Minute) || !plus(m[6], time.Second) || !plus(fraction, 1) {
		return 0, wrong("%q is too long a duration", text)
	}
	if m[1] == "-" {
		sum = -sum
	}
	return time.Duration(sum), nil
}

// ParseFile reads what kafka-consumer-groups writes with --export and takes
// with --from-file: lines of topic,partition,offset for one group, or of
// group,topic,partition,offset for several. name is the file's, for errors.
func ParseFile(name string, r io.Reader) ([]FileTarget, error) {
	in := bufio.NewReader(r)
	bom := []byte("\ufeff")
	if start, _ := in.Peek(len(bom)); bytes.Equal(start, bom) {
		_, _ = in.Discard(len(bom)) // it was peeked
	}
	c := csv.NewReader(in)
	c.FieldsPerRecord, c.TrimLeadingSpace, c.Comment = -1, true, '#'
	targets := []FileTarget{}
	type place struct {
		group, topic string
		partition    int32
	}
	lines := map[place]int{}   // by group; "": of lines that name none
	grouped := map[place]int{} // of any group that is named
	refuse := func(line int, format string, args ...any) ([]FileTarget, error) {
		return nil, wrong("--from-file: %s:%d: "+format, append([]any{name, line}, args...)...)
	}
	for {
		fields, err := c.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, wrong("--from-file: %s: %v", name, err)
		}
		line, _ := c.FieldPos(0)
		var t FileTarget
		switch len(fields) {
		case 3:
		case 4:
			if t.Group, fields = fields[0], fields[1:]; t.Group == "" {
				return refuse(line, "the group is empty")
			}
		default:
			return refuse(line, "it has %d fields; write topic,partition,offset or group,topic,partition,offset", len(fields))
		}
		partition, perr := strconv.ParseInt(strings.TrimSpace(fields[1]), 10, 32)
		offset, oerr := strconv.ParseInt(strings.TrimSpace(fields[2]), 10, 64)
		if perr != nil || oerr != nil || partition < 0 || offset < 0 {
			return refuse(line, "partition %q and offset %q must be numbers from 0", fields[1], fields[2])
		}
		t.Topic, t.Partition, t.Offset = strings.TrimSpace(fields[0]), int32(partition), offset
		if t.Topic == "" {
			return refuse(line, "the topic is empty")
		}
		at, any := place{t.Group, t.Topic, t.Partition}, place{"", t.Topic, t.Partition}
		if n := lines[at]; n > 0 {
			return refuse(line, "%s partition %d is in line %d already", t.Topic, t.Partition, n)
		}
		other := lines[any] // a line for all groups is one for this group too
		if t.Group == "" {
			other = grouped[any]
		}
		if other > 0 {
			return refuse(line, "%s partition %d is in line %d already, one of them with a group and one without: a group would have two targets", t.Topic, t.Partition, other)
		}
		lines[at] = line
		if t.Group != "" {
			grouped[any] = line
		}
		targets = append(targets, t)
	}
	if len(targets) == 0 {
		return nil, wrong("--from-file: there is no line in %s", name)
	}
	return targets, nil
}
