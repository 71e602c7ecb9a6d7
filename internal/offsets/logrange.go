package offsets

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// learnt is what a planner knows of the cluster's topics and logs. What failed
// is kept where it failed.
type learnt struct {
	topics map[string]kafka.Topic // the zero Topic: there is none
	failed map[string]error       // topics that could not be looked up
	sought map[string]int32       // how many partitions a topic was looked for with
	ranges map[kafka.TopicPartition]logRange
	times  map[moment]timed
}

// logRange is what a log holds.
type logRange struct {
	start, end int64
	err        error
}

// moment is a partition at a time, in ms since 1970.
type moment struct {
	kafka.TopicPartition
	ms int64
}

// timed is the first offset of a moment or later; -1: the log has none.
type timed struct {
	offset int64
	err    error
}

func newLearnt() learnt {
	return learnt{map[string]kafka.Topic{}, map[string]error{}, map[string]int32{}, map[kafka.TopicPartition]logRange{}, map[moment]timed{}}
}

// facts are what is known about the place of a want.
type facts struct {
	topic          kafka.Topic // the zero Topic: there is none
	start, end, at int64       // at: with AtTime; -1: no record is so late
	err            error       // why the rest is not known
}

// facts returns what was learnt for a want.
func (p *Planner) facts(w *Want) facts {
	p.mu.Lock()
	defer p.mu.Unlock()
	tp := kafka.TopicPartition{Topic: w.Topic, Partition: w.Partition}
	r, t := p.known.ranges[tp], p.known.times[moment{tp, w.Time}]
	return facts{p.known.topics[w.Topic], r.start, r.end, t.offset, cmp.Or(p.known.failed[w.Topic], r.err, t.err)}
}

// learn looks up the topics and log ranges of wants, as far as they are not
// known yet.
func (p *Planner) learn(ctx context.Context, wants [][]Want) error {
	counts := map[string]int32{}
	parts := map[kafka.TopicPartition]bool{}
	moments := map[moment]bool{}
	for i := range wants {
		for j := range wants[i] {
			w := &wants[i][j]
			if w.Unable != "" || !p.Topics.Match(w.Topic, w.Partition) {
				continue
			}
			tp := kafka.TopicPartition{Topic: w.Topic, Partition: w.Partition}
			counts[w.Topic] = max(counts[w.Topic], w.Partition+1)
			parts[tp] = true
			if w.At == AtTime {
				moments[moment{tp, w.Time}] = true
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.learnTopics(ctx, counts); err != nil {
		return err
	}
	there := func(tp kafka.TopicPartition) bool {
		return int(tp.Partition) < len(p.known.topics[tp.Topic].Partitions)
	}
	// Times come first: what they find is not beyond the ends.
	byTime := map[int64][]kafka.TopicPartition{}
	for m := range moments {
		if _, ok := p.known.times[m]; !ok && there(m.TopicPartition) {
			byTime[m.ms] = append(byTime[m.ms], m.TopicPartition)
		}
	}
	for ms, ask := range byTime {
		slices.SortFunc(ask, comparePartitions)
		failed := map[kafka.TopicPartition]error{}
		at, err := p.Cluster.OffsetsForTime(ctx, ask, ms)
		if err := failedPartitions(failed, err); err != nil {
			return err
		}
		for _, tp := range ask {
			p.known.times[moment{tp, ms}] = timed{at[tp].Offset, failed[tp]}
		}
	}
	var ask []kafka.TopicPartition
	for tp := range parts {
		if _, ok := p.known.ranges[tp]; !ok && there(tp) {
			ask = append(ask, tp)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	slices.SortFunc(ask, comparePartitions)
	failed := map[kafka.TopicPartition]error{}
	starts, err := p.Cluster.StartOffsets(ctx, ask)
	if err := failedPartitions(failed, err); err != nil {
		return err
	}
	ends, err := p.Cluster.EndOffsets(ctx, ask)
	if err := failedPartitions(failed, err); err != nil {
		return err
	}
	for _, tp := range ask {
		p.known.ranges[tp] = logRange{starts[tp].Offset, ends[tp].Offset, failed[tp]}
	}
	return nil
}

// learnTopics looks up topics by name that should have at least so many
// partitions, as far as they were not looked for yet.
func (p *Planner) learnTopics(ctx context.Context, counts map[string]int32) error {
	ask := map[string]int32{}
	for name, n := range counts {
		t, ok := p.known.topics[name]
		if !ok || int(n) > len(t.Partitions) && n > p.known.sought[name] {
			ask[name] = n
		}
	}
	if len(ask) == 0 {
		return nil
	}
	// The time for what is missing is that of the whole plan: one in which much is
	// missing does not take longer.
	if p.until.IsZero() {
		p.until = time.Now().Add(kafka.LookAgain)
	}
	found, err := p.Cluster.FindTopics(ctx, ask, p.until)
	var some *kafka.PartialError
	if err != nil && (!p.BestEffort || !errors.As(err, &some)) {
		return err
	}
	if some != nil {
		for _, e := range some.Failed {
			p.known.failed[e.Topic] = e
		}
	}
	for name, n := range ask {
		p.known.topics[name], p.known.sought[name] = found[name], n
	}
	return nil
}

func failedPartitions(failed map[kafka.TopicPartition]error, err error) error {
	var some *kafka.PartialError
	if err == nil || !errors.As(err, &some) {
		return err
	}
	for _, e := range some.Failed {
		failed[kafka.TopicPartition{Topic: e.Topic, Partition: e.Partition}] = e
	}
	return nil
}

func comparePartitions(a, b kafka.TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
