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
	truncated            int64 // up to where the log still is what was read; -1: all of it, as far as known
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
// deleted and created again is another topic: nothing. Nor of one that is
// forgetful.
func (e *earlier) find(t *kafka.Topic, partition int32) *earlierPartition {
	if e == nil || t.ID == (kafka.TopicID{}) || e.forgetful(t) {
		return nil
	}
	return e.partitions[repository.TopicPartition{Topic: t.Name, TopicID: t.ID.String(), Partition: partition}]
}

// forgetful tells whether a compacted topic may have had tombstones since the
// earlier backup that are gone by now, or by the time they would be read: keys
// that were deleted would come back if what it holds were added to. A quarter
// of the time is left for reading.
func (e *earlier) forgetful(t *kafka.Topic) bool {
	return t.Compacted && Clock().Sub(e.manifest.CreatedAt) > t.DeleteRetention/4*3
}

// checkEpochs asks the leaders whether their logs still are what was read.
func (e *earlier) checkEpochs(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, topics []kafka.Topic) error {
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
				if c.LeaderEpoch < b.LeaderEpoch {
					// The log took another course, however long it is by now.
					tp := repository.TopicPartition{Topic: t.Name, TopicID: t.ID.String(), Partition: b.Partition.Partition}
					end, err := e.endOf(ctx, repo, tp, b, c.LeaderEpoch)
					if err != nil {
						return err
					}
					b.truncated = min(b.truncated, end)
				}
			}
		}
	}
	return nil
}

// endOf is where what was read in leader epochs up to the one given ends, as
// far as the segments tell.
func (e *earlier) endOf(ctx context.Context, repo *repository.Repository, tp repository.TopicPartition, b *earlierPartition, epoch int32) (int64, error) {
	end := b.LogStart
	for i := range b.Slices {
		s := &b.Slices[i]
		seg, err := repo.OpenSegment(ctx, e.segments[s.Segment])
		if err != nil {
			return 0, err
		}
		if p := seg.Partition(tp); p == nil || p.LeaderEpoch < 0 || p.LeaderEpoch > epoch {
			break
		}
		end = s.LastOffset + 1
	}
	return end, nil
}
