package backup

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// earlier is what complete backups of the same cluster hold of the topics that
// a new one is about: to that it adds. Of each topic it is the newest backup
// whose selection takes the topic in. When that one does not hold it, under
// its topic id, then no older one does, but for one that was made when the
// topic could not be seen; and the topic is read anew. So no index is read in
// vain, however many backups of other topics there are. A nil earlier is
// nothing.
type earlier struct {
	segments   []repository.SegmentRef // of all shards
	partitions map[repository.TopicPartition]*earlierPartition
}

type earlierPartition struct {
	repository.Partition           // its slices refer to earlier.segments
	backup               string    // that holds it
	at                   time.Time // when that was planned
	truncated            int64     // up to where the log still is what was read; -1: all of it, as far as known
	surely               surely    // of a compacted topic
}

// earlier finds the backups to add to; nil when every record is to be read
// anew.
func (p *planner) earlier(ctx context.Context, topics []kafka.Topic) (*earlier, error) {
	if !p.req.Options.Incremental || p.cluster.ID() == "" {
		return nil, nil
	}
	all, err := p.repo.ListBackups(ctx)
	if err != nil {
		return nil, err
	}
	var candidates []*repository.Manifest // the newest first, but for the one that is asked for
	for _, b := range slices.Backward(all) {
		if m := b.Manifest; m != nil && m.ClusterID == p.cluster.ID() {
			candidates = append(candidates, m)
		}
	}
	slices.SortStableFunc(candidates, func(a, b *repository.Manifest) int { return b.CreatedAt.Compare(a.CreatedAt) })
	if at := slices.IndexFunc(candidates, func(m *repository.Manifest) bool { return m.BackupID == p.req.Previous }); at > 0 {
		asked := candidates[at]
		candidates = slices.Insert(slices.Delete(candidates, at, at+1), 0, asked)
	}
	wanted := map[*repository.Manifest]map[string]bool{} // topic ids
	for i := range topics {
		t := &topics[i]
		at := slices.IndexFunc(candidates, func(m *repository.Manifest) bool { return tookIn(m, t) })
		if at < 0 || t.ID == (kafka.TopicID{}) {
			continue
		}
		if m := candidates[at]; wanted[m] == nil {
			wanted[m] = map[string]bool{}
		}
		wanted[candidates[at]][t.ID.String()] = true
	}
	e := &earlier{partitions: map[repository.TopicPartition]*earlierPartition{}}
	for _, m := range candidates {
		if len(wanted[m]) > 0 {
			if err := e.read(ctx, p.repo, m, wanted[m]); err != nil {
				return nil, err
			}
		}
	}
	return e, nil
}

// tookIn reports whether a backup was to hold a topic, by its name.
func tookIn(m *repository.Manifest, t *kafka.Topic) bool {
	s := m.Selection
	return s == nil || t.SelectedBy(config.TopicFilter{Include: s.Include, Exclude: s.Exclude}, s.Internal)
}

// read adds what a backup holds of some topics.
func (e *earlier) read(ctx context.Context, repo *repository.Repository, m *repository.Manifest, topics map[string]bool) error {
	for shard, err := range repo.Shards(ctx, m, 2) {
		if err != nil {
			return err
		}
		base := len(e.segments)
		e.segments = append(e.segments, shard.Segments...)
		for i := range shard.Topics {
			t := &shard.Topics[i]
			if !topics[t.ID] {
				continue
			}
			for _, part := range t.Partitions {
				for j := range part.Slices {
					part.Slices[j].Segment += base
				}
				e.partitions[repository.TopicPartition{Topic: t.Name, TopicID: t.ID, Partition: part.Partition}] =
					&earlierPartition{Partition: part, backup: m.BackupID, at: m.CreatedAt, truncated: -1}
			}
		}
	}
	return nil
}

// ids are the backups that something is used of, the newest first.
func (e *earlier) ids() (ids []string) {
	if e == nil {
		return nil
	}
	at := map[string]time.Time{}
	for _, b := range e.partitions {
		at[b.backup] = b.at
	}
	for id := range at {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Or(at[b].Compare(at[a]), cmp.Compare(a, b)) })
	return ids
}

// find returns what an earlier backup holds of a partition. A topic that was
// deleted and created again is another topic: nothing.
func (e *earlier) find(t *kafka.Topic, partition int32) *earlierPartition {
	if e == nil || t.ID == (kafka.TopicID{}) {
		return nil
	}
	return e.partitions[repository.TopicPartition{Topic: t.Name, TopicID: t.ID.String(), Partition: partition}]
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
