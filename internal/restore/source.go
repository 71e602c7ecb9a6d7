package restore

import (
	"context"
	"fmt"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// source is what a backup holds of one source partition, as far as a rule
// takes it. It counts by the index where the index tells, and looks into
// blocks where it does not.
type source struct {
	repo     *repository.Repository
	segments []repository.SegmentRef
	tp       repository.TopicPartition
	slices   []repository.Slice
	rule     Rule
	reader   *repository.BlockReader // shared with other sources; nil reads block by block
}

// readTogether makes sources of one repository, which are read beside each
// other, share the reads of what lies near each other in a segment.
func readTogether(sources []*source) {
	type wanted struct {
		src   *source
		slice *repository.Slice
	}
	bySegment := map[repository.SegmentRef][]wanted{}
	reader := repository.NewBlockReader(func(seg *repository.Segment) (blocks []repository.Block) {
		for _, w := range bySegment[seg.Ref] {
			for _, b := range seg.SliceBlocks(w.src.tp, w.slice) {
				if w.src.rule.ofBlock(&b) != none {
					blocks = append(blocks, b)
				}
			}
		}
		return blocks
	})
	for _, s := range sources {
		s.reader = reader
		for i := range s.slices {
			sl := &s.slices[i]
			if s.rule.ofSlice(sl) != none {
				ref := s.segments[sl.Segment]
				bySegment[ref] = append(bySegment[ref], wanted{s, sl})
			}
		}
	}
}

// BeyondError says that a stream has not as many records.
type BeyondError struct {
	Topic     string // of the source
	Partition int32
	Rank      int64 // that was asked for
	Beyond    int64 // by how many records it is beyond the end
}

func (e *BeyondError) Error() string {
	return fmt.Sprintf("topic %q partition %d: rank %d is %d records beyond the end of what is restored", e.Topic, e.Partition, e.Rank, e.Beyond)
}

// place is a block of a source.
type place struct {
	slice, block int
}

// blocks opens a slice's segment, of which the index is read, and returns the
// slice's blocks.
func (s *source) blocks(ctx context.Context, slice int) (*repository.Segment, []repository.Block, error) {
	sl := &s.slices[slice]
	seg, err := s.repo.OpenSegment(ctx, s.segments[sl.Segment])
	if err != nil {
		return nil, nil, err
	}
	blocks := seg.SliceBlocks(s.tp, sl)
	var records int64
	for i := range blocks {
		records += blocks[i].Records
	}
	if records != sl.Records {
		return nil, nil, &repository.CorruptError{Key: seg.Ref.Key, Detail: fmt.Sprintf("topic %q partition %d: the index of the backup says %d records at offsets %d to %d, the segment has %d",
			s.tp.Topic, s.tp.Partition, sl.Records, sl.FirstOffset, sl.LastOffset, records)}
	}
	return seg, blocks, nil
}

// seek finds the block that holds the record of the given rank, and how many
// records of that block, of those that are restored, come before it. At the
// end the place is past the last slice.
func (s *source) seek(ctx context.Context, rank int64) (at place, skip int64, err error) {
	if rank == 0 {
		return place{}, 0, nil // wherever the first record is
	}
	left := rank
	for i := range s.slices {
		sl := &s.slices[i]
		switch s.rule.ofSlice(sl) {
		case none:
			continue
		case all:
			if left >= sl.Records {
				left -= sl.Records
				continue
			}
		}
		seg, blocks, err := s.blocks(ctx, i)
		if err != nil {
			return at, 0, err
		}
		for j := range blocks {
			n, err := s.count(ctx, seg, &blocks[j], everything)
			if err != nil {
				return at, 0, err
			}
			if left < n {
				return place{i, j}, left, nil
			}
			left -= n
		}
	}
	if left > 0 {
		return at, 0, &BeyondError{Topic: s.tp.Topic, Partition: s.tp.Partition, Rank: rank, Beyond: left}
	}
	return place{slice: len(s.slices)}, 0, nil
}

// rank is how many restored records have an offset below the one given: the
// rank of the first restored record at or after it.
func (s *source) rank(ctx context.Context, offset int64) (rank int64, err error) {
	for i := range s.slices {
		sl := &s.slices[i]
		share := s.rule.ofSlice(sl)
		switch {
		case sl.FirstOffset >= offset:
			return rank, nil
		case share == none:
			continue
		case share == all && sl.LastOffset < offset:
			rank += sl.Records
			continue
		case share == all && sl.Dense():
			return rank + offset - sl.FirstOffset, nil
		}
		seg, blocks, err := s.blocks(ctx, i)
		if err != nil {
			return 0, err
		}
		for j := range blocks {
			if blocks[j].FirstOffset >= offset {
				return rank, nil
			}
			n, err := s.count(ctx, seg, &blocks[j], offset)
			if err != nil {
				return 0, err
			}
			rank += n
		}
	}
	return rank, nil
}

// total is how many records are restored.
func (s *source) total(ctx context.Context) (int64, error) { return s.rank(ctx, everything) }

// count counts the restored records of a block with an offset below the one
// given.
func (s *source) count(ctx context.Context, seg *repository.Segment, b *repository.Block, below int64) (n int64, err error) {
	switch s.rule.ofBlock(b) {
	case none:
		return 0, nil
	case all:
		if b.LastOffset < below {
			return b.Records, nil
		}
		if b.Dense() {
			return max(below-b.FirstOffset, 0), nil
		}
	}
	var buf repository.Buffer
	raw, err := s.reader.Read(ctx, seg, *b, &buf)
	if err != nil {
		return 0, err
	}
	var dec recordbatch.Decoder
	err = batches(seg, raw, func(batch recordbatch.Batch) error {
		switch s.rule.ofBatch(batch) {
		case none:
			return nil
		case all:
			if batch.LastOffset() < below {
				n += int64(batch.NumRecords())
				return nil
			}
		}
		return dec.Records(batch, func(r *recordbatch.Record) error {
			if r.Offset < below && s.rule.takes(r) {
				n++
			}
			return nil
		})
	})
	return n, err
}

// batches walks the batches of a block.
func batches(seg *repository.Segment, raw []byte, fn func(recordbatch.Batch) error) error {
	for len(raw) > 0 {
		b, rest, err := recordbatch.Next(raw)
		if err != nil {
			return &repository.CorruptError{Key: seg.Ref.Key, Detail: "the hash of a block fits but it is not whole record batches: " + err.Error()}
		}
		if err := fn(b); err != nil {
			return err
		}
		raw = rest
	}
	return nil
}
