package restore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// Kept is a topic that the restore created and that is not deleted.
type Kept struct {
	Topic string
	Why   string
}

func (k Kept) String() string {
	return fmt.Sprintf("topic %s, which this restore had created, is kept: %s", k.Topic, k.Why)
}

// Created lists the topics that this restore created and that are there still:
// not one that somebody else created since under the same name.
func Created(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan) ([]string, error) {
	targets, err := readTargets(ctx, repo, plan)
	if errors.Is(err, repository.ErrNotFound) {
		return createdOnly(ctx, cluster, repo, plan)
	}
	if err != nil {
		return nil, err
	}
	ids := map[string]string{} // by name
	for i := range targets.Topics {
		if t := &targets.Topics[i]; t.Created {
			ids[t.Name] = t.ID
		}
	}
	there, err := cluster.DescribeTopics(ctx, slices.Sorted(maps.Keys(ids)))
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(there, func(name string, t kafka.Topic) bool { return t.ID.String() != ids[name] })
	return slices.Sorted(maps.Keys(there)), nil
}

// createdOnly is Created of a restore that got no further than creating topics:
// their ids are not recorded. Those that were not there before and that nobody
// has written to are its own.
func createdOnly(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan) ([]string, error) {
	var holds Holds
	if _, err := repo.ReadDocument(ctx, plan.object(holdsName), &holds); errors.Is(err, repository.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var names []string
	for i := range holds.Topics {
		if h := &holds.Topics[i]; !h.Existed {
			names = append(names, h.Name)
		}
	}
	there, err := cluster.DescribeTopics(ctx, names)
	if err != nil {
		return nil, err
	}
	var all []kafka.TopicPartition
	for name, t := range there {
		for n := range t.Partitions {
			all = append(all, kafka.TopicPartition{Topic: name, Partition: int32(n)})
		}
	}
	ends, err := cluster.EndOffsets(ctx, all)
	if err != nil {
		return nil, err
	}
	for tp, end := range ends {
		if end.Offset > 0 {
			delete(there, tp.Topic)
		}
	}
	return slices.Sorted(maps.Keys(there)), nil
}

// DeleteCreated deletes the topics that this restore created, and no others.
// One that somebody else created since under the same name stays, and so does
// one that holds, in any partition, records that are not this restore's.
func DeleteCreated(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan) (deleted int, kept []Kept, err error) {
	targets, err := readTargets(ctx, repo, plan)
	if errors.Is(err, repository.ErrNotFound) {
		names, err := createdOnly(ctx, cluster, repo, plan)
		if err != nil {
			return 0, nil, err
		}
		return len(names), nil, cluster.DeleteTopics(ctx, names)
	}
	if err != nil {
		return 0, nil, err
	}
	var names []string
	created := map[string]*TargetTopic{}
	for i := range targets.Topics {
		if t := &targets.Topics[i]; t.Created {
			names = append(names, t.Name)
			created[t.Name] = t
		}
	}
	there, err := cluster.DescribeTopics(ctx, names)
	if err != nil {
		return 0, nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		t, is := there[name]
		return !is || t.ID.String() != created[name].ID
	})
	var logs []targetLog
	for _, name := range names {
		for _, p := range there[name].Partitions {
			l := targetLog{tp: kafka.TopicPartition{Topic: name, Partition: p.Partition}, id: there[name].ID}
			if n := int(p.Partition); n < len(created[name].Begin) {
				l.begin = created[name].Begin[n]
			}
			logs = append(logs, l)
		}
	}
	others, err := foreignRecords(ctx, cluster, targets.ProducerID, logs)
	if err != nil {
		return 0, nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		why, is := others[name]
		if is {
			kept = append(kept, Kept{name, why})
		}
		return is
	})
	return len(names), kept, cluster.DeleteTopics(ctx, names)
}

// targetLog is a partition that the restore began to fill.
type targetLog struct {
	tp    kafka.TopicPartition
	id    kafka.TopicID
	begin int64
}

// foreignRecords finds the topics in which not every record is this restore's,
// and says why, by the first such partition. A log is this restore's alone when
// it is as long as the sequence number of the restore's last record says.
func foreignRecords(ctx context.Context, cluster *kafka.Cluster, producerID int64, logs []targetLog) (others map[string]string, err error) {
	parts := make([]kafka.TopicPartition, len(logs))
	for i := range logs {
		parts[i] = logs[i].tp
	}
	// The end first: what a late attempt of the restore itself still writes is
	// then in the sequence number only.
	ends, err := cluster.EndOffsets(ctx, parts)
	if err != nil {
		return nil, err
	}
	states, err := cluster.DescribeProducers(ctx, producerID, parts)
	if err != nil && !errors.Is(err, kerr.UnsupportedVersion) {
		return nil, err
	}
	others = map[string]string{}
	found := func(l targetLog, format string, args ...any) {
		if _, is := others[l.tp.Topic]; !is {
			others[l.tp.Topic] = fmt.Sprintf("partition %d ", l.tp.Partition) + fmt.Sprintf(format, args...)
		}
	}
	var asked []targetLog // whose last batch has to tell
	var last []transfer.FetchPartition
	for _, l := range logs {
		end, state := ends[l.tp].Offset, states[l.tp]
		held := end - l.begin
		switch {
		case state.Others > 0:
			found(l, "was written to by others too")
		case held == 0:
		case state.Known:
			if beyond := recordbatch.Sequence(held - 1 - int64(state.LastSequence)); beyond > 0 && beyond < 1<<30 {
				found(l, "holds %d records, %d of them of somebody else", held, beyond)
			}
		default:
			asked = append(asked, l)
			last = append(last, transfer.FetchPartition{Topic: l.tp.Topic, TopicID: l.id, Partition: l.tp.Partition, Next: end - 1, End: end, LeaderEpoch: -1})
		}
	}
	ours := make([]bool, len(asked))
	err = transfer.Fetch(ctx, cluster.Client(), last, transfer.FetchOptions{}, func(_ context.Context, c transfer.Chunk) error {
		for _, b := range c.Batches {
			held := last[c.Index].End - asked[c.Index].begin
			ours[c.Index] = b.ProducerID() == producerID && b.BaseSequence() == recordbatch.Sequence(held-int64(b.NumRecords()))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find out who wrote last: %w", err)
	}
	for i, l := range asked {
		if !ours[i] {
			found(l, "ends after %d records, and the last is not one that this restore wrote there", last[i].End-l.begin)
		}
	}
	return others, nil
}
