package offsets

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
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

// check refuses a time that Kafka has no timestamps for: in ListOffsets negative
// ones mean something else (-1 the end, -2 the start).
func (s *Strategy) check() error {
	if s != nil && s.Time != nil && *s.Time < 0 {
		return wrong("%s is before 1970, where Kafka's timestamps begin; use --to-earliest", time.UnixMilli(*s.Time).UTC().Format(time.RFC3339))
	}
	return nil
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

// Explicit is the source for a [Strategy]. The partitions of a group are those
// it has committed offsets for, on the cluster or in the capture, and all of
// the topics that are named.
type Explicit struct {
	Cluster  *kafka.Cluster
	Strategy Strategy
	// Capture may be nil.
	Capture *repository.GroupsCapture
	Topics  TopicFilter
	// Named are groups by their names. Lines of a file that name no group are
	// targets of theirs, whether they exist or not.
	Named []string

	index captureIndex
	mu    sync.Mutex
	named []kafka.TopicPartition // of the topics that are named; nil: not looked up yet
}

// Describe implements Source.
func (s *Explicit) Describe() string { return s.Strategy.String() }

// Groups implements Source.
func (s *Explicit) Groups() ([]KnownGroup, bool) {
	known := capturedGroups(s.Capture)
	add := func(name string) { known = append(known, KnownGroup{Name: name, New: true}) }
	one := false
	for _, t := range s.Strategy.File {
		if t.Group != "" {
			add(t.Group)
		}
		one = one || t.Group == ""
	}
	if one {
		for _, name := range s.Named {
			add(name)
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
	named, err := s.partitions(ctx)
	if err != nil {
		return nil, err
	}
	for i := range groups {
		g := &groups[i]
		current := map[kafka.TopicPartition]int64{}
		parts := slices.Clone(named)
		for _, o := range g.Offsets {
			tp := kafka.TopicPartition{Topic: o.Topic, Partition: o.Partition}
			current[tp] = o.Offset
			parts = append(parts, tp)
		}
		if c := s.index.find(s.Capture, g.Name); c != nil {
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
					w.Unable = "there is no committed offset to shift; say where to with --to-earliest, --to-latest, --to-offset"
				}
				w.Offset = add(at, *st.Shift)
			default:
				w.At, w.Time = AtTime, *st.Time
			}
			all[i] = append(all[i], w)
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

// partitions lists the partitions of the topics that the filter names. Of one
// that cannot be looked up they are those that are named, or else the first: the
// planner makes FAILED rows of them, or refuses the plan.
func (s *Explicit) partitions(ctx context.Context) ([]kafka.TopicPartition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.named != nil {
		return s.named, nil
	}
	counts := s.Topics.counts()
	topics, err := s.Cluster.FindTopics(ctx, counts, time.Now().Add(kafka.LookAgain))
	var some *kafka.PartialError
	if err != nil && !errors.As(err, &some) {
		return nil, err
	}
	parts := []kafka.TopicPartition{}
	if some != nil {
		for _, e := range some.Failed {
			for n := range counts[e.Topic] {
				if s.Topics.Match(e.Topic, n) {
					parts = append(parts, kafka.TopicPartition{Topic: e.Topic, Partition: n})
				}
			}
			delete(counts, e.Topic)
		}
	}
	for name, count := range counts {
		if err := missingTopic(ctx, s.Cluster, name, count, topics[name]); err != nil {
			return nil, err
		}
		for _, p := range topics[name].Partitions {
			if s.Topics.Match(name, p.Partition) {
				parts = append(parts, kafka.TopicPartition{Topic: name, Partition: p.Partition})
			}
		}
	}
	s.named = parts
	return parts, nil
}
