package config

import "strings"

// Match reports whether a topic is selected. It knows nothing of internal topics; see [TopicFilter.Names].
func (f TopicFilter) Match(topic string) bool { return selected(f.Include, f.Exclude, topic) }

// Names reports whether Include holds the topic's very name, without a wildcard.
// Only so is an internal topic selected.
func (f TopicFilter) Names(topic string) bool { return contains(f.Include, topic) }

// Match reports whether a consumer group is selected.
func (f GroupFilter) Match(group string) bool { return selected(f.Include, f.Exclude, group) }

func selected(include, exclude []string, name string) bool {
	for _, p := range exclude {
		if MatchPattern(p, name) {
			return false
		}
	}
	for _, p := range include {
		if MatchPattern(p, name) {
			return true
		}
	}
	return len(include) == 0
}

// MatchPattern reports whether name matches pattern: * stands for any text, the empty one
// too, ? for exactly one byte, everything else for itself. It takes time len(pattern)*len(name) at most.
func MatchPattern(pattern, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// MapTopic returns the target topic of a topic of the backup.
func (s Restore) MapTopic(topic string) string {
	if to, ok := s.TopicMapping[topic]; ok {
		return to
	}
	return topic
}

// TopicConfigFor returns what topic_config says for a target topic: all patterns that match,
// the more special ones (exact name, then longer pattern) winning. A nil value means: leave
// the entry to the cluster's default. Nil when nothing is said.
func (s Restore) TopicConfigFor(topic string) map[string]*string {
	var all map[string]*string
	for _, p := range bySpeciality(s.TopicConfig, topic) {
		for k, v := range s.TopicConfig[p] {
			if all == nil {
				all = map[string]*string{}
			}
			all[k] = v
		}
	}
	return all
}

// PartitionCountFor returns the partition count that partition_count gives for a target
// topic, by the most special pattern that matches; 0 when it says nothing.
func (s Restore) PartitionCountFor(topic string) int32 {
	ps := bySpeciality(s.PartitionCount, topic)
	if len(ps) == 0 {
		return 0
	}
	return s.PartitionCount[ps[len(ps)-1]]
}

// Selects reports whether a partition of a topic of the backup is restored: topics,
// partitions and exclude_partitions together.
func (s Restore) Selects(topic string, partition int32) bool {
	if !s.Topics.Match(topic) {
		return false
	}
	for _, p := range s.ExcludePartitions[topic] {
		if p == partition {
			return false
		}
	}
	only, limited := s.Partitions[topic]
	for _, p := range only {
		if p == partition {
			return true
		}
	}
	return !limited
}

// bySpeciality lists the patterns that match name, the most special last: the exact name
// after every pattern, longer patterns after shorter ones, equally long ones by the alphabet.
func bySpeciality[V any](m map[string]V, name string) []string {
	var ps []string
	for _, p := range sorted(m) {
		if MatchPattern(p, name) {
			ps = append(ps, p)
		}
	}
	rank := func(p string) int {
		if p == name {
			return 1 << 20
		}
		return len(p)
	}
	for i := 1; i < len(ps); i++ { // stable insertion: few patterns
		for j := i; j > 0 && rank(ps[j]) < rank(ps[j-1]); j-- {
			ps[j], ps[j-1] = ps[j-1], ps[j]
		}
	}
	return ps
}
