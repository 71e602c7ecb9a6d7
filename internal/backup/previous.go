package backup

import (
	"context"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// earlier is the newest complete backup of the same cluster, to which the new
// one adds. A nil earlier is none.
type earlier struct {
	manifest   *repository.Manifest
	segments   []repository.SegmentRef // of all shards
	partitions map[repository.TopicPartition]*earlierPartition
}

type earlierPartition struct {
	repository.Partition       // its slices refer to earlier.segments
	truncated            int64 // where the log was cut since; -1: it was not, as far as known
}

// previous finds the backup to add to; nil when there is none or every record
// is to be read anew.
func (p *planner) previous(ctx context.Context) (*earlier, error) {
	if !p.req.Options.Incremental || p.cluster.ID() == "" {
		return nil, nil
	}
	all, err := p.repo.ListBackups(ctx)
	if err != nil {
		return nil, err
	}
	var newest *repository.Manifest
	for _, b := range all {
		m := b.Manifest
		if m == nil || m.ClusterID != p.cluster.ID() {
			continue
		}
		if m.BackupID == p.req.Previous {
			newest = m
			break
		}
		if newest == nil || m.CreatedAt.After(newest.CreatedAt) {
			newest = m
		}
	}
	if newest == nil {
		return nil, nil
	}
	e := &earlier{manifest: newest, partitions: map[repository.TopicPartition]*earlierPartition{}}
	for shard, err := range p.repo.Shards(ctx, newest, 2) {
		if err != nil {
			return nil, err
		}
		base := len(e.segments)
		e.segments = append(e.segments, shard.Segments...)
		for i := range shard.Topics {
			t := &shard.Topics[i]
			for _, part := range t.Partitions {
				for j := range part.Slices {
					part.Slices[j].Segment += base
				}
				e.partitions[repository.TopicPartition{Topic: t.Name, TopicID: t.ID, Partition: part.Partition}] =
					&earlierPartition{Partition: part, truncated: -1}
			}
		}
	}
	return e, nil
}

// find returns what the earlier backup holds of a partition. A topic that was
// deleted and created again is another topic: nothing.
func (e *earlier) find(t *kafka.Topic, partition int32) *earlierPartition {
	if e == nil || t.ID == (kafka.TopicID{}) {
		return nil
	}
	return e.partitions[repository.TopicPartition{Topic: t.Name, TopicID: t.ID.String(), Partition: partition}]
}

// checkEpochs asks the leaders whether their logs still are what was read.
func (e *earlier) checkEpochs(ctx context.Context, cluster *kafka.Cluster, topics []kafka.Topic) error {
	if e == nil {
		return nil
	}
	var points []kafka.EpochPoint
	for i := range topics {
		t := &topics[i]
		for j := range t.Partitions {
			k := &t.Partitions[j]
			if b := e.find(t, k.Partition); b != nil && b.End > k.LogStart {
				points = append(points, kafka.EpochPoint{
					TopicPartition: kafka.TopicPartition{Topic: t.Name, Partition: k.Partition}, LeaderEpoch: b.LeaderEpoch, EndOffset: b.End,
				})
			}
		}
	}
	checks, err := cluster.CheckEpochs(ctx, points)
	if err != nil {
		return err
	}
	for i := range topics {
		t := &topics[i]
		for j := range t.Partitions {
			c, ok := checks[kafka.TopicPartition{Topic: t.Name, Partition: t.Partitions[j].Partition}]
			if b := e.find(t, t.Partitions[j].Partition); ok && b != nil && c.State == kafka.EpochTruncated {
				b.truncated = c.EndOffset
			}
		}
	}
	return nil
}
