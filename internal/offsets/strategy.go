package offsets

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Strategy is an explicit way to say where groups go, as in
// kafka-consumer-groups. At most one field is set, but for Time, which Ago
// becomes (see [Strategy.From]).
type Strategy struct {
	Earliest bool   `json:"earliest,omitempty"`
	Latest   bool   `json:"latest,omitempty"`
	Offset   *int64 `json:"offset,omitempty"`
	Shift    *int64 `json:"shift,omitempty"`
	// Time is the first record with this timestamp or a later one, in ms since
	// 1970; the end where there is none.
	Time *int64 `json:"time,omitempty"`
	// Ago is how long before the plan is made Time is; not negative.
	Ago *time.Duration `json:"ago,omitempty"`
	// File are targets given one by one; Groups are those of its lines.
	File []FileTarget `json:"file,omitempty"`
}

// FileTarget is a line of a file for --from-file.
type FileTarget struct {
	Group     string `json:"group,omitempty"` // empty: all selected groups
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// Empty tells whether no strategy is asked for.
func (s *Strategy) Empty() bool {
	return s == nil || !s.Earliest && !s.Latest && s.Offset == nil && s.Shift == nil && s.Time == nil && s.Ago == nil && s.File == nil
}

// From is the strategy with what Ago means when it counts from now. A Time that
// is there already stays. s may be nil.
func (s *Strategy) From(now time.Time) *Strategy {
	if s == nil || s.Ago == nil || s.Time != nil {
		return s
	}
	fixed, at := *s, max(now.Add(-*s.Ago).UnixMilli(), 0) // brokers take negative ones for something else
	fixed.Time = &at
	return &fixed
}

func (s *Strategy) String() string {
	switch {
	case s.Earliest:
		return "--to-earliest"
	case s.Latest:
		return "--to-latest"
	case s.Offset != nil:
		return fmt.Sprintf("--to-offset %d", *s.Offset)
	case s.Shift != nil:
		return fmt.Sprintf("--shift-by %d", *s.Shift)
	case s.Ago != nil && s.Time != nil:
		return fmt.Sprintf("--by-duration %s (%s)", *s.Ago, render.Milli(*s.Time))
	case s.Ago != nil:
		return fmt.Sprintf("--by-duration %s", *s.Ago)
	case s.Time != nil:
		return "--to-datetime " + render.Milli(*s.Time)
	case s.File != nil:
		return "--from-file"
	}
	return ""
}

// ParseTime reads a time as kafka-consumer-groups does: 2024-12-01T10:00:00.000,
// in UTC unless a zone follows.
func ParseTime(text string) (int64, error) {
	for _, layout := range []string{"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999",
		"2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return max(t.UnixMilli(), 0), nil // brokers take negative ones for something else
		}
	}
	return 0, wrong("%q is not a time; write YYYY-MM-DDTHH:mm:ss.sss, in UTC unless a zone follows (2024-12-01T10:00:00.000+01:00)", text)
}

var isoDuration = regexp.MustCompile(`^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$`)

// ParseDuration reads a duration as kafka-consumer-groups does (ISO 8601:
// PnDTnHnMnS), or as Go does (36h, 90m).
func ParseDuration(text string) (time.Duration, error) {
	if m := isoDuration.FindStringSubmatch(text); m != nil && text != "P" && !strings.HasSuffix(text, "T") {
		var d time.Duration
		for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
			if m[i+1] == "" {
				continue
			}
			n, err := strconv.ParseInt(m[i+1], 10, 64)
			if err != nil || n > math.MaxInt64/int64(unit) {
				return 0, wrong("%q is too long a duration", text)
			}
			d += time.Duration(n) * unit
		}
		return d, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	return 0, wrong("%q is not a duration; write PnDTnHnMnS (P7D, PT1H30M) or 36h, 90m", text)
}

// ParseFile reads what kafka-consumer-groups writes with --export and takes
// with --from-file: lines of topic,partition,offset for one group, or of
// group,topic,partition,offset for several.
func ParseFile(r io.Reader) ([]FileTarget, error) {
	c := csv.NewReader(r)
	c.FieldsPerRecord, c.TrimLeadingSpace, c.Comment = -1, true, '#'
	targets := []FileTarget{}
	seen := map[FileTarget]bool{}
	for {
		fields, err := c.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, wrong("--from-file: %v", err)
		}
		line, _ := c.FieldPos(0)
		var t FileTarget
		switch len(fields) {
		case 3:
		case 4:
			t.Group, fields = fields[0], fields[1:]
		default:
			return nil, wrong("--from-file: line %d has %d fields; write topic,partition,offset or group,topic,partition,offset", line, len(fields))
		}
		partition, perr := strconv.ParseInt(strings.TrimSpace(fields[1]), 10, 32)
		offset, oerr := strconv.ParseInt(strings.TrimSpace(fields[2]), 10, 64)
		if perr != nil || oerr != nil || partition < 0 || offset < 0 {
			return nil, wrong("--from-file: line %d: partition %q and offset %q must be numbers from 0", line, fields[1], fields[2])
		}
		t.Topic, t.Partition, t.Offset = fields[0], int32(partition), offset
		place := FileTarget{Group: t.Group, Topic: t.Topic, Partition: t.Partition}
		if seen[place] {
			return nil, wrong("--from-file: line %d: %s partition %d is there twice", line, t.Topic, t.Partition)
		}
		seen[place] = true
		targets = append(targets, t)
	}
	if len(targets) == 0 {
		return nil, wrong("--from-file: there is no line in it")
	}
	return targets, nil
}

// Explicit is the source for a [Strategy]. The partitions of a group are those
// it has committed offsets for, on the cluster or in the capture, and all of
// the topics that are named.
type Explicit struct {
	Cluster  *kafka.Cluster
	Strategy Strategy
	// Capture may be nil.
	Capture *repository.GroupsCapture
	Topics  TopicFilter
}

// Describe implements Source.
func (s *Explicit) Describe() string { return s.Strategy.String() }

// Groups implements Source.
func (s *Explicit) Groups() ([]KnownGroup, bool) {
	known := capturedGroups(s.Capture)
	for _, t := range s.Strategy.File {
		if t.Group != "" {
			known = append(known, KnownGroup{Name: t.Group})
		}
	}
	return known, true
}

// Wants implements Source.
func (s *Explicit) Wants(ctx context.Context, groups []GroupNow) ([][]Want, error) {
	all := make([][]Want, len(groups))
	if s.Strategy.File != nil {
		lines := map[string][]Want{}
		for _, t := range s.Strategy.File {
			lines[t.Group] = append(lines[t.Group], Want{Topic: t.Topic, Partition: t.Partition, Offset: t.Offset, Epoch: -1})
		}
		for i := range groups {
			all[i] = append(slices.Clone(lines[""]), lines[groups[i].Name]...)
		}
		return all, nil
	}
	named, err := s.named(ctx)
	if err != nil {
		return nil, err
	}
	index := indexCapture(s.Capture)
	var asked []kafka.TopicPartition // for their offsets by time
	known := map[kafka.TopicPartition]bool{}
	for i := range groups {
		g := &groups[i]
		current := map[kafka.TopicPartition]int64{}
		parts := slices.Clone(named)
		for _, o := range g.Offsets {
			tp := kafka.TopicPartition{Topic: o.Topic, Partition: o.Partition}
			current[tp] = o.Offset
			parts = append(parts, tp)
		}
		if c := index[g.Name]; c != nil {
			for _, o := range c.Offsets {
				parts = append(parts, kafka.TopicPartition{Topic: o.Topic, Partition: o.Partition})
			}
		}
		slices.SortFunc(parts, comparePartitions)
		for _, tp := range slices.Compact(parts) {
			if !s.Topics.Match(tp.Topic, tp.Partition) {
				continue
			}
			w := Want{Topic: tp.Topic, Partition: tp.Partition, Epoch: -1}
			switch st := &s.Strategy; {
			case st.Earliest:
				w.At = AtEarliest
			case st.Latest:
				w.At = AtLatest
			case st.Offset != nil:
				w.Offset = *st.Offset
			case st.Shift != nil:
				at, ok := current[tp]
				if !ok {
					w.Unable = "there is no committed offset to shift"
				}
				w.Offset = add(at, *st.Shift)
			default:
				if !known[tp] {
					known[tp] = true
					asked = append(asked, tp)
				}
			}
			all[i] = append(all[i], w)
		}
	}
	if len(asked) == 0 {
		return all, nil
	}
	at, err := s.Cluster.OffsetsForTime(ctx, asked, *s.Strategy.Time)
	var some *kafka.PartialError
	if err != nil && !errors.As(err, &some) {
		return nil, err
	}
	for i := range all {
		for j := range all[i] {
			w := &all[i][j]
			o, ok := at[kafka.TopicPartition{Topic: w.Topic, Partition: w.Partition}]
			switch {
			case !ok: // the planner finds the same and says it
				w.At = AtLatest
			case o.Offset < 0:
				w.At = AtLatest
			default:
				w.Offset = o.Offset
			}
		}
	}
	return all, nil
}

// add adds without overflow.
func add(a, b int64) int64 {
	switch sum := a + b; {
	case b > 0 && sum < a:
		return math.MaxInt64
	case b < 0 && sum > a:
		return math.MinInt64
	default:
		return sum
	}
}

// named lists the partitions of the topics that the filter names.
func (s *Explicit) named(ctx context.Context) ([]kafka.TopicPartition, error) {
	patterns := s.Topics.named()
	if len(patterns) == 0 {
		return nil, nil
	}
	var names []string
	for _, p := range patterns {
		names = append(names, p.Topic)
	}
	slices.Sort(names)
	topics, err := s.Cluster.DescribeTopics(ctx, slices.Compact(names))
	if err != nil {
		return nil, err
	}
	var parts []kafka.TopicPartition
	for _, t := range topics {
		for _, p := range t.Partitions {
			if s.Topics.Match(t.Name, p.Partition) {
				parts = append(parts, kafka.TopicPartition{Topic: t.Name, Partition: p.Partition})
			}
		}
	}
	return parts, nil
}
