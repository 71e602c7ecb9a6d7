package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// run is a part while it is copied: the part's plan, and what its segments
// in the repository have added to it.
type run struct {
	backupID   string
	part       int
	plan       *PlanPart
	segments   []repository.SegmentRef // earlier backups' first, then this run's
	sequence   int                     // of the next segment
	partitions []*partition
}

// partition is one topic partition of a run.
type partition struct {
	repository.TopicPartition
	id     kafka.TopicID
	topic  int // in the plan
	entry  repository.Partition
	from   int64     // where this backup begins to read
	next   int64     // where reading goes on
	epoch  int32     // leader epoch of the last batch before next
	readBy time.Time // PlanPartition.ReadBy

	gain // of the open segment
}

// gain is what a segment brings to a partition.
type gain struct {
	slice    repository.Slice
	leftOut  repository.LeftOut
	gaps     []repository.Gap
	advanced bool // anything of this, or the partition's next moved
}

func (p *partition) done() bool { return p.next >= p.entry.End }

// load reads how far a part is.
func load(ctx context.Context, repo *repository.Repository, backupID string, plan *PlanPart) (*run, error) {
	r := &run{backupID: backupID, part: plan.Part, plan: plan}
	r.segments = append(r.segments, plan.Segments...)
	byName := map[repository.TopicPartition]*partition{}
	for i, t := range plan.Topics {
		id, err := kafka.ParseTopicID(t.ID)
		if err != nil {
			return nil, fmt.Errorf("plan of part %d: topic %s: %w", plan.Part, t.Name, err)
		}
		for _, pp := range t.Partitions {
			p := &partition{
				TopicPartition: repository.TopicPartition{Topic: t.Name, TopicID: t.ID, Partition: pp.Partition.Partition},
				id:             id, topic: i, entry: pp.Partition, from: pp.From, next: pp.From, epoch: pp.FromEpoch, readBy: pp.ReadBy,
			}
			p.entry.Slices = append([]repository.Slice(nil), pp.Slices...)
			p.entry.Gaps = append([]repository.Gap(nil), pp.Gaps...)
			r.partitions = append(r.partitions, p)
			byName[p.TopicPartition] = p
		}
	}
	for {
		s, err := repo.FindSegment(ctx, backupID, plan.Part, r.sequence)
		if errors.Is(err, repository.ErrNotFound) {
			return r, nil
		}
		if err != nil {
			return nil, err
		}
		if err := r.adopt(s, byName); err != nil {
			return nil, err
		}
	}
}

// adopt adds a segment of this run.
func (r *run) adopt(s *repository.Segment, byName map[repository.TopicPartition]*partition) error {
	at := len(r.segments)
	r.segments = append(r.segments, s.Ref)
	r.sequence++
	for i := range s.Index.Partitions {
		sp := &s.Index.Partitions[i]
		p := byName[sp.TopicPartition]
		if p == nil {
			return fmt.Errorf("segment %s holds %s/%d, which is not in part %d of the plan", s.Ref.Key, sp.Topic, sp.Partition, r.part)
		}
		p.slice.AddBlocks(sp.Blocks...)
		p.leftOut, p.gaps = sp.LeftOut, sp.Gaps
		p.next, p.epoch = sp.NextOffset, sp.LeaderEpoch
		p.settle(at, p.gain)
		p.gain = gain{}
	}
	return nil
}

// settle makes what a closed segment brought part of the entry.
func (p *partition) settle(segment int, g gain) {
	if g.slice.Records > 0 {
		g.slice.Segment = segment
		p.entry.AddSlice(g.slice)
	}
	p.entry.LeftOut.Add(g.leftOut)
	p.entry.Gaps = append(p.entry.Gaps, g.gaps...)
}

// shard is the index of the finished part. What was left out or missing after
// the last segment is in no segment, and so is added here.
func (r *run) shard() *repository.Shard {
	s := &repository.Shard{Segments: r.segments}
	r.plan.each(func(p *PlanPartition) {
		for _, slice := range p.Merge {
			s.Merged.Records += slice.Records
			s.Merged.Bytes += slice.Bytes
		}
	})
	used := map[int]int{} // segments of earlier backups that are still needed
	topic := -1
	for _, p := range r.partitions {
		if p.topic != topic {
			topic = p.topic
			s.Topics = append(s.Topics, r.plan.Topics[topic].Topic())
		}
		e := p.entry
		if p.next > e.End { // it was followed
			e.End, e.HighWatermark = p.next, max(e.HighWatermark, p.next)
		}
		e.LeaderEpoch = p.epoch
		e.LeftOut.Add(p.leftOut)
		e.Gaps = append(e.Gaps, p.gaps...)
		for i := range e.Slices {
			used[e.Slices[i].Segment]++
		}
		t := &s.Topics[len(s.Topics)-1]
		t.Partitions = append(t.Partitions, e)
	}
	s.Segments = nil
	moved := make(map[int]int, len(used))
	for i, ref := range r.segments {
		if used[i] > 0 {
			moved[i] = len(s.Segments)
			s.Segments = append(s.Segments, ref)
		}
	}
	for i := range s.Topics {
		for j := range s.Topics[i].Partitions {
			slices := s.Topics[i].Partitions[j].Slices
			for k := range slices {
				slices[k].Segment = moved[slices[k].Segment]
			}
		}
	}
	return s
}

// amount sums up the partitions' progress.
func (r *run) amount() (did Amount) {
	for _, p := range r.partitions {
		did.Records += p.next - p.from
		if p.done() {
			did.Partitions++
		}
	}
	return did
}

// bytes is what this run has copied, as far as segments are closed.
func (r *run) bytes() (n int64) {
	for _, p := range r.partitions {
		n += p.entry.Bytes
	}
	r.plan.each(func(p *PlanPartition) {
		n -= p.Bytes
		for _, s := range p.Merge {
			if r.sequence > 0 { // they are in the first segment
				n -= s.Bytes
			}
		}
	})
	return n
}
