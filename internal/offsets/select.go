package offsets

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// Selection says which groups are meant. The zero Selection means none.
type Selection struct {
	// Names are groups by their names.
	Names []string `json:"names,omitempty"`
	// Patterns select groups with the wildcards * and ?.
	Patterns []string `json:"patterns,omitempty"`
	// All selects every group.
	All bool `json:"all,omitempty"`
}

// Empty tells whether nothing is selected.
func (s Selection) Empty() bool { return len(s.Names)+len(s.Patterns) == 0 && !s.All }

// matches tells whether a group is selected otherwise than by its name.
func (s Selection) matches(name string) bool {
	return s.All || slices.ContainsFunc(s.Patterns, func(p string) bool { return config.MatchPattern(p, name) })
}

// pick returns the selected names, sorted, of those that there are, and the
// names that were asked for and are not among them.
func (s Selection) pick(there []string) (picked, absent []string) {
	has := make(map[string]bool, len(there))
	for _, n := range there {
		has[n] = true
		if s.matches(n) {
			picked = append(picked, n)
		}
	}
	for _, n := range s.Names {
		if has[n] {
			picked = append(picked, n)
		} else {
			absent = append(absent, n)
		}
	}
	slices.Sort(picked)
	slices.Sort(absent)
	return slices.Compact(picked), slices.Compact(absent)
}

// TopicFilter selects topics and partitions. The empty filter selects all.
type TopicFilter []TopicPattern

// TopicPattern selects a topic by its name, with the wildcards * and ?, and of
// it some partitions.
type TopicPattern struct {
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions,omitempty"` // none: all
}

var (
	topicPattern = regexp.MustCompile(`^[A-Za-z0-9._*?-]{1,249}$`)
	wholeNumber  = regexp.MustCompile(`^-?[0-9]+$`)
)

// ParseTopics reads topics as kafka-consumer-groups takes them: names with
// commas between them, each with a colon and partitions behind if only these
// are meant: orders,payments:0,1. A number after partitions is one more
// partition.
func ParseTopics(text string) (TopicFilter, error) {
	var f TopicFilter
	for _, item := range strings.Split(text, ",") {
		item = strings.TrimSpace(item)
		if len(f) > 0 && len(f[len(f)-1].Partitions) > 0 && wholeNumber.MatchString(item) {
			n, err := strconv.ParseInt(item, 10, 32)
			if err != nil || n < 0 {
				return nil, wrong("%q, after %q, is not a partition; it is a number from 0", item, f[len(f)-1].Topic)
			}
			f[len(f)-1].Partitions = append(f[len(f)-1].Partitions, int32(n))
			continue
		}
		topic, partition, some := strings.Cut(item, ":")
		if !topicPattern.MatchString(topic) {
			return nil, wrong("%q is not a topic; write names with commas, each with :PARTITION,PARTITION behind it if only these are meant", item)
		}
		p := TopicPattern{Topic: topic}
		if some {
			n, err := strconv.ParseInt(partition, 10, 32)
			if err != nil || n < 0 {
				return nil, wrong("%q in %q is not a partition; it is a number from 0", partition, item)
			}
			p.Partitions = []int32{int32(n)}
		}
		f = append(f, p)
	}
	return f, nil
}

// Match tells whether a partition is selected.
func (f TopicFilter) Match(topic string, partition int32) bool {
	for _, p := range f {
		if config.MatchPattern(p.Topic, topic) && (len(p.Partitions) == 0 || slices.Contains(p.Partitions, partition)) {
			return true
		}
	}
	return len(f) == 0
}

// counts are the topics that are named without wildcards, with how many
// partitions each must have for those that are named.
func (f TopicFilter) counts() map[string]int32 {
	counts := map[string]int32{}
	for _, p := range f {
		if !strings.ContainsAny(p.Topic, "*?") {
			counts[p.Topic] = max(counts[p.Topic], 1+slices.Max(append([]int32{0}, p.Partitions...)))
		}
	}
	return counts
}
