package offsets

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// logRange is what a log holds.
type logRange struct {
	start, end int64
	err        error
}

// learn looks up the topics and log ranges of wants, as far as they are not
// known yet.
func (p *Planner) learn(ctx context.Context, wants [][]Want) error {
	names := map[string]bool{}
	parts := map[kafka.TopicPartition]bool{}
	for i := range wants {
		for j := range wants[i] {
			if w := &wants[i][j]; w.Unable == "" && p.Topics.Match(w.Topic, w.Partition) {
				names[w.Topic] = true
				parts[kafka.TopicPartition{Topic: w.Topic, Partition: w.Partition}] = true
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var unknown []string
	for n := range names {
		if _, ok := p.topics[n]; !ok {
			unknown = append(unknown, n)
		}
	}
	if err := p.learnTopics(ctx, unknown); err != nil {
		return err
	}
	var ask []kafka.TopicPartition
	for tp := range parts {
		if _, ok := p.ranges[tp]; !ok && int(tp.Partition) < len(p.topics[tp.Topic].Partitions) {
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
		p.ranges[tp] = logRange{starts[tp].Offset, ends[tp].Offset, failed[tp]}
	}
	return nil
}

func (p *Planner) learnTopics(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	found, err := p.Cluster.DescribeTopics(ctx, names)
	var some *kafka.PartialError
	if err != nil && (!p.BestEffort || !errors.As(err, &some)) {
		return err
	}
	if some != nil {
		for _, e := range some.Failed {
			p.failed[e.Topic] = e
		}
	}
	for _, n := range names {
		p.topics[n] = found[n]
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
