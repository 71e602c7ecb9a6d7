package backup

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// mergeFrom is how many small segments it takes to be worth writing them anew.
const mergeFrom = 8

// mergeSmall takes the small segments that earlier backups ended with out of
// the plan of a part and has the run write their blocks anew, into its own
// first segment. limit bounds the size of what is written.
//
// A backup of little leaves a small segment, and a continuous one at each
// checkpoint. They are merged like the digits of a counter that runs over: a segment goes along
// with those after it when it is at most twice as large as all of these, or
// tiny. So each byte is written again a few times only, and segments have an
// eighth of the limit or more, but for a few at the end.
func (pp *PlanPart) mergeSmall(limit int64) {
	// The age of a segment is how many slices of a partition come after it.
	age := make([]int, len(pp.Segments))
	for i := range age {
		age[i] = -1
	}
	pp.each(func(p *PlanPartition) {
		for i, s := range p.Slices {
			if after := len(p.Slices) - 1 - i; age[s.Segment] < 0 || after < age[s.Segment] {
				age[s.Segment] = after
			}
		}
	})
	order := make([]int, len(pp.Segments))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(age[a], age[b]), cmp.Compare(pp.Segments[b].Key, pp.Segments[a].Key))
	})
	merged := map[int]bool{}
	var size int64
	for _, s := range order {
		if n := pp.Segments[s].Size; size+n <= limit && n <= max(2*size, limit/16) {
			merged[s] = true
			size += n
		}
	}
	pp.onlyWhole(merged)
	if len(merged) < mergeFrom {
		return
	}
	pp.each(func(p *PlanPartition) {
		keep := len(p.Slices)
		for keep > 0 && merged[p.Slices[keep-1].Segment] {
			keep--
		}
		if keep == len(p.Slices) {
			return
		}
		all := p.Slices
		p.Merge = slices.Clone(all[keep:])
		p.Slices, p.Records, p.Bytes = nil, 0, 0
		p.FirstOffset, p.LastOffset, p.MinBaseTimestamp, p.MaxTimestamp = -1, -1, 0, 0
		for _, s := range all[:keep] {
			p.AddSlice(s)
		}
	})
}

// onlyWhole takes out of a set of segments those that would still be needed
// when the slices in the set at the end of each partition were gone.
func (pp *PlanPart) onlyWhole(set map[int]bool) {
	for before := -1; before != len(set); {
		before = len(set)
		pp.each(func(p *PlanPartition) {
			end := true
			for i := len(p.Slices) - 1; i >= 0; i-- {
				end = end && set[p.Slices[i].Segment]
				if !end {
					delete(set, p.Slices[i].Segment)
				}
			}
		})
	}
}

// each calls fn for each partition of the part.
func (pp *PlanPart) each(fn func(*PlanPartition)) {
	for i := range pp.Topics {
		for j := range pp.Topics[i].Partitions {
			fn(&pp.Topics[i].Partitions[j])
		}
	}
}

// mergeReads is how many partitions' slices are read beside each other: each
// is a small read or several, and there may be thousands.
const mergeReads = 8

// merge hands what the plan merges to the writer, before anything that is
// fetched. It all goes into the first segment, so once there is one it is done.
func (c *Copier) merge(ctx context.Context, r *run, w *writer) error {
	if r.sequence > 0 {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(mergeReads)
	index := -1
	r.plan.each(func(p *PlanPartition) {
		index++
		if len(p.Merge) > 0 {
			m := merger{c: c, r: r, w: w, index: index}
			g.Go(func() error { return m.partition(ctx, p) })
		}
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("merge small segments: %w", err)
	}
	return nil
}

type merger struct {
	c     *Copier
	r     *run
	w     *writer
	index int // of the partition
	buf   repository.Buffer
	chunk transfer.Chunk
}

// partition hands on the slices of a partition, joined, some fetch answer's
// worth at a time.
func (m *merger) partition(ctx context.Context, p *PlanPartition) error {
	tp := m.r.partitions[m.index].TopicPartition
	begin := func() { m.chunk = transfer.Chunk{Index: m.index, Next: p.From, LeaderEpoch: p.FromEpoch} }
	begin()
	for i := range p.Merge {
		slice := &p.Merge[i]
		seg, err := m.c.Repository.OpenSegment(ctx, m.r.plan.Segments[slice.Segment])
		if err != nil {
			return err
		}
		var records int64
		err = seg.ReadBlocks(ctx, seg.SliceBlocks(tp, slice), &m.buf, func(_ *repository.Block, raw []byte) error {
			for rest := slices.Clone(raw); len(rest) > 0; { // the writer keeps it for a while
				b, after, err := recordbatch.Next(rest)
				if err != nil {
					return &repository.CorruptError{Key: seg.Ref.Key, Detail: "the hash of a block fits but it is not whole record batches: " + err.Error()}
				}
				m.chunk.Batches = append(m.chunk.Batches, b)
				m.chunk.Bytes += len(b)
				records += int64(b.NumRecords())
				rest = after
			}
			if m.chunk.Bytes < int(m.c.Options.BlockMaxBytes) {
				return nil
			}
			err := m.w.takeMerged(ctx, m.chunk)
			begin()
			return err
		})
		if err == nil && records != slice.Records {
			err = &repository.CorruptError{Key: seg.Ref.Key, Detail: fmt.Sprintf("topic %q partition %d: the index of the backup says %d records at offsets %d to %d, the segment has %d",
				tp.Topic, tp.Partition, slice.Records, slice.FirstOffset, slice.LastOffset, records)}
		}
		if err != nil {
			return err
		}
	}
	if len(m.chunk.Batches) == 0 {
		return nil
	}
	return m.w.takeMerged(ctx, m.chunk)
}
