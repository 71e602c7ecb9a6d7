package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Plan says what a restore was asked to bring over. The zero value is
// everything, under the same names.
type Plan struct {
	// Mapping gives the target names of source topics that change theirs.
	Mapping map[string]string
	// Keep tells which source records are restored: topic and partition filters,
	// time windows. timestamp is in milliseconds since 1970. nil keeps all.
	Keep func(topic string, partition int32, timestamp int64) bool
	// BrokerTime names target topics that set timestamps themselves
	// (LogAppendTime), where timestamps are not compared.
	BrokerTime map[string]bool
	// TargetFrom gives, by target topic and partition, the offset from which on
	// the target holds restored records, where it held others before.
	TargetFrom map[string]map[int32]int64
}

func (p Plan) target(topic string) string {
	if name, ok := p.Mapping[topic]; ok {
		return name
	}
	return topic
}

// kept gives the entries of a source partition that the plan restores. It is the
// partition's own slice where nothing is left out.
func (p Plan) kept(topic string, partition int, from []Entry) []Entry {
	if p.Keep == nil {
		return from
	}
	var kept []Entry
	for _, e := range from {
		if p.Keep(topic, int32(partition), e.Timestamp) {
			kept = append(kept, e)
		}
	}
	return kept
}

// restored gives the entries of a target partition that a restore wrote, with
// what their headers said.
func (p Plan) restored(target string, partition int, of Partition) ([]Entry, []origin) {
	from := p.TargetFrom[target][int32(partition)]
	skip, _ := slices.BinarySearchFunc(of.Entries, from, func(e Entry, offset int64) int { return compareOffset(e, offset) })
	if of.origins == nil {
		return of.Entries[skip:], nil
	}
	return of.Entries[skip:], of.origins[skip:]
}

func compareOffset(e Entry, offset int64) int {
	switch {
	case e.Offset < offset:
		return -1
	case e.Offset > offset:
		return 1
	}
	return 0
}

// Report is the outcome of a comparison, in records.
type Report struct {
	Expected int64 // to be found on the target
	Found    int64 // on the target
	// Lost are expected and not there; Repeated are there more often than
	// expected; Reordered are there out of order (the fewest that would have to
	// move); Altered are there with another key, value, header or timestamp, or
	// with false original-offset headers; Foreign are there and come from nowhere;
	// Misplaced are in another partition than their key's, where the number of
	// partitions changed.
	Lost, Repeated, Reordered, Altered, Foreign, Misplaced int64
	// Examples are some of the differences, for people.
	Examples []string
}

// Clean tells whether target and source agree.
func (r *Report) Clean() bool {
	return r.Lost == 0 && r.Repeated == 0 && r.Reordered == 0 && r.Altered == 0 && r.Foreign == 0 && r.Misplaced == 0
}

// Err is nil when target and source agree, and else says how they differ.
func (r *Report) Err() error {
	if r.Clean() {
		return nil
	}
	return fmt.Errorf("oracle: %s", r)
}

// String gives the counts and the examples.
func (r *Report) String() string {
	text := fmt.Sprintf("%d records expected, %d found: %d lost, %d repeated, %d reordered, %d altered",
		r.Expected, r.Found, r.Lost, r.Repeated, r.Reordered, r.Altered)
	if r.Foreign > 0 {
		text += fmt.Sprintf(", %d foreign", r.Foreign)
	}
	if r.Misplaced > 0 {
		text += fmt.Sprintf(", %d in the wrong partition", r.Misplaced)
	}
	return strings.Join(append([]string{text}, r.Examples...), "\n  ")
}

func (r *Report) example(format string, args ...any) {
	if len(r.Examples) < 20 {
		r.Examples = append(r.Examples, fmt.Sprintf(format, args...))
	}
}

// Compare finds every difference between what the plan takes from source and
// what target holds. A partition number stays what it is, unless the target
// topic has another number of partitions: then a record with a key belongs to the
// partition that Kafka's default partitioner chooses, where the order of each
// key in each source partition must have been kept, and one without a key may be
// anywhere.
func Compare(source, target Content, plan Plan) *Report {
	r := &Report{}
	for _, name := range slices.Sorted(maps.Keys(source)) {
		from, to := source[name], target[plan.target(name)]
		want := make([][]Entry, len(from.Partitions))
		for p := range want {
			want[p] = plan.kept(name, p, from.Partitions[p].Entries)
			r.Expected += int64(len(want[p]))
		}
		c := &comparison{report: r, plan: plan, source: name, target: plan.target(name), anyTime: plan.BrokerTime[plan.target(name)]}
		switch {
		case to == nil:
			c.absent(want)
		case len(to.Partitions) != len(want):
			c.spread(want, to)
		default:
			for p := range want {
				got, origins := plan.restored(c.target, p, to.Partitions[p])
				r.Found += int64(len(got))
				c.inPlace(p, want[p], got, origins)
			}
		}
	}
	return r
}

// comparison is of one topic.
type comparison struct {
	report         *Report
	plan           Plan
	source, target string
	anyTime        bool
}

// identity is what makes two records the same.
type identity struct {
	sum       [16]byte
	timestamp int64
}

func (c *comparison) identity(e Entry) identity {
	if c.anyTime {
		e.Timestamp = 0
	}
	return identity{e.Sum, e.Timestamp}
}

func (c *comparison) absent(want [][]Entry) {
	for p, list := range want {
		c.report.Lost += int64(len(list))
		if len(list) > 0 {
			c.report.example("%s-%d: topic %s is not on the target", c.source, p, c.target)
		}
	}
}

// inPlace compares a partition with its copy.
func (c *comparison) inPlace(p int, want, got []Entry, origins []origin) {
	same := len(want) == len(got)
	for i := 0; same && i < len(want); i++ {
		same = c.identity(want[i]) == c.identity(got[i])
	}
	if same {
		for i := range want {
			c.checkOrigin(origins, i, p, want[i])
		}
		return
	}
	waiting := map[identity][]int{}
	for i, e := range want {
		waiting[c.identity(e)] = append(waiting[c.identity(e)], i)
	}
	var order []int
	var unknown []Entry
	for i, e := range got {
		queue, known := waiting[c.identity(e)]
		switch {
		case !known:
			unknown = append(unknown, e)
		case len(queue) == 0:
			c.report.Repeated++
			c.report.example("%s-%d: offset %d repeats an earlier record", c.target, p, e.Offset)
		default:
			waiting[c.identity(e)] = queue[1:]
			order = append(order, queue[0])
			c.checkOrigin(origins, i, p, want[queue[0]])
		}
	}
	missing := int64(len(want) - len(order))
	c.missing(p, missing, unknown, func() string {
		for i, e := range want {
			if slices.Contains(waiting[c.identity(e)], i) {
				return fmt.Sprintf("%s-%d: source offset %d is not on the target", c.source, p, e.Offset)
			}
		}
		return ""
	})
	if moved := int64(len(order) - increasing(order)); moved > 0 {
		c.report.Reordered += moved
		c.report.example("%s-%d: %d records are out of order", c.target, p, moved)
	}
}

// missing takes one expected and one unknown record for one that was altered,
// as far as they go.
func (c *comparison) missing(p int, missing int64, unknown []Entry, first func() string) {
	altered := min(missing, int64(len(unknown)))
	c.report.Altered += altered
	c.report.Lost += missing - altered
	c.report.Foreign += int64(len(unknown)) - altered
	if missing > 0 {
		c.report.example("%s", first())
	}
	if len(unknown) > 0 {
		c.report.example("%s-%d: offset %d holds a record that the source does not have", c.target, p, unknown[0].Offset)
	}
}

func (c *comparison) checkOrigin(origins []origin, i, p int, want Entry) {
	if origins == nil {
		return
	}
	if is, should := origins[i], (origin{want.Offset, want.Timestamp, int32(p), true}); is != should {
		c.report.Altered++
		c.report.example("%s-%d: original-offset headers are %+v, the record was at %+v", c.target, p, is, should)
	}
}

// spread compares a topic with a copy that has another number of partitions.
func (c *comparison) spread(want [][]Entry, to *Topic) {
	type spot struct{ partition, index int }
	waiting := map[identity][]spot{}
	expected := 0
	for p, list := range want {
		for i, e := range list {
			waiting[c.identity(e)] = append(waiting[c.identity(e)], spot{p, i})
		}
		expected += len(list)
	}
	type lane struct {
		partition int
		key       uint64
	}
	matched := 0
	var unknown []Entry
	for q := range to.Partitions {
		got, origins := c.plan.restored(c.target, q, to.Partitions[q])
		c.report.Found += int64(len(got))
		orders := map[lane][]int{}
		for i, e := range got {
			queue, known := waiting[c.identity(e)]
			switch {
			case !known:
				unknown = append(unknown, e)
				continue
			case len(queue) == 0:
				c.report.Repeated++
				c.report.example("%s-%d: offset %d repeats another record", c.target, q, e.Offset)
				continue
			}
			at := queue[0]
			if origins != nil {
				// Of several equal records, the headers tell which one this is.
				if k := slices.IndexFunc(queue, func(s spot) bool {
					return int32(s.partition) == origins[i].partition && want[s.partition][s.index].Offset == origins[i].offset
				}); k > 0 {
					queue[0], queue[k] = queue[k], queue[0]
					at = queue[0]
				}
			}
			waiting[c.identity(e)] = queue[1:]
			matched++
			c.checkOrigin(origins, i, at.partition, want[at.partition][at.index])
			if e.murmur < 0 {
				continue
			}
			if home := int(e.murmur) % len(to.Partitions); home != q {
				c.report.Misplaced++
				c.report.example("%s-%d: offset %d has a key of partition %d", c.target, q, e.Offset, home)
			}
			l := lane{at.partition, e.key}
			orders[l] = append(orders[l], at.index)
		}
		for l, order := range orders {
			if moved := int64(len(order) - increasing(order)); moved > 0 {
				c.report.Reordered += moved
				c.report.example("%s-%d: %d records of one key of %s-%d are out of order", c.target, q, moved, c.source, l.partition)
			}
		}
	}
	c.missing(-1, int64(expected-matched), unknown, func() string {
		return fmt.Sprintf("%s: %d records are not on the target as they were", c.source, expected-matched)
	})
}

// increasing is the length of the longest increasing subsequence of different
// numbers: all but that many would have to move to be in order.
func increasing(list []int) int {
	var tails []int
	for _, n := range list {
		i, _ := slices.BinarySearch(tails, n)
		if i == len(tails) {
			tails = append(tails, n)
		} else {
			tails[i] = n
		}
	}
	return len(tails)
}
