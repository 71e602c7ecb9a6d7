package restore

import (
	"cmp"
	"container/heap"
	"context"
	"math"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// A merge makes the streams of a topic whose partition count changes. Each
// target partition gets the records whose keys belong to it, of all source
// partitions, block after block, the blocks in order of time: by the latest
// timestamp that the source partition has reached with the block, then by
// source partition. That order is known from the index alone, keeps the order
// within each source partition and so of each key, and mixes partitions as
// closely as blocks are large.

// home is the target partition of a record: as Kafka's default partitioner
// has it for a key, and spread over all for records without one.
func home(r *recordbatch.Record, source, partitions int32) int32 {
	if r.Key == nil {
		return int32((r.Offset + int64(source)) % int64(partitions))
	}
	return recordbatch.KeyPartition(r.Key, partitions)
}

// blockWalk walks the blocks of several sources in merge order.
type blockWalk struct {
	sources []*source
	heads   []head // a heap
}

// head is the next block of one source.
type head struct {
	src     int // in sources
	at      place
	segment *repository.Segment
	blocks  []repository.Block // of the slice
	reached int64              // the latest timestamp of this and all earlier blocks
}

func newBlockWalk(ctx context.Context, sources []*source) (*blockWalk, error) {
	w := &blockWalk{sources: sources}
	for i := range sources {
		h := head{src: i, at: place{slice: -1}, reached: math.MinInt64}
		more, err := w.advance(ctx, &h)
		if err != nil {
			return nil, err
		}
		if more {
			w.heads = append(w.heads, h)
		}
	}
	heap.Init(w)
	return w, nil
}

// next returns the next block and its source; nil at the end.
func (w *blockWalk) next(ctx context.Context) (*source, *repository.Segment, *repository.Block, error) {
	if len(w.heads) == 0 {
		return nil, nil, nil, nil
	}
	h := &w.heads[0]
	src, seg, block := w.sources[h.src], h.segment, h.blocks[h.at.block]
	more, err := w.advance(ctx, h)
	if err != nil {
		return nil, nil, nil, err
	}
	if more {
		heap.Fix(w, 0)
	} else {
		heap.Pop(w)
	}
	return src, seg, &block, nil
}

// advance moves a head to its source's next block that is restored.
func (w *blockWalk) advance(ctx context.Context, h *head) (more bool, err error) {
	s := w.sources[h.src]
	h.at.block++
	for {
		for ; h.at.slice >= 0 && h.at.block < len(h.blocks); h.at.block++ {
			if b := &h.blocks[h.at.block]; s.rule.ofBlock(b) != none {
				h.reached = max(h.reached, b.MaxTimestamp)
				return true, nil
			}
		}
		h.at = place{slice: h.at.slice + 1}
		if h.at.slice >= len(s.slices) {
			return false, nil
		}
		if s.rule.ofSlice(&s.slices[h.at.slice]) == none {
			h.blocks = nil
			continue
		}
		if h.segment, h.blocks, err = s.blocks(ctx, h.at.slice); err != nil {
			return false, err
		}
	}
}

// Len implements heap.Interface.
func (w *blockWalk) Len() int { return len(w.heads) }

// Less implements heap.Interface.
func (w *blockWalk) Less(i, j int) bool {
	a, b := &w.heads[i], &w.heads[j]
	return cmp.Or(cmp.Compare(a.reached, b.reached), cmp.Compare(a.src, b.src)) < 0
}

// Swap implements heap.Interface.
func (w *blockWalk) Swap(i, j int) { w.heads[i], w.heads[j] = w.heads[j], w.heads[i] }

// Push implements heap.Interface.
func (w *blockWalk) Push(x any) { w.heads = append(w.heads, x.(head)) }

// Pop implements heap.Interface.
func (w *blockWalk) Pop() any {
	last := w.heads[len(w.heads)-1]
	w.heads = w.heads[:len(w.heads)-1]
	return last
}

func (f *Filler) mergeSources(plan *Plan, segments []repository.SegmentRef, m *Merge) []*source {
	sources := make([]*source, len(m.From))
	for i := range m.From {
		s := f.source(plan, segments, m.Source, m.SourceID, &m.From[i])
		sources[i] = &s
	}
	return sources
}
