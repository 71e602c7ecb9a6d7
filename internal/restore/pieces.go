package restore

import (
	"context"
	"fmt"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// findPieces finds out where in the target each record landed, where others
// were allowed to write meanwhile. The log itself tells: each batch names its
// producer and the sequence number, which is the rank, of its first record. So
// nothing need be remembered between attempts.
func (f *Filler) findPieces(ctx context.Context, targets *Targets, results []PartitionResult, ids []kafka.TopicID) error {
	var all []kafka.TopicPartition
	for _, r := range results {
		all = append(all, kafka.TopicPartition{Topic: r.Topic, Partition: r.Partition})
	}
	ends, err := f.Cluster.EndOffsets(ctx, all)
	if err != nil {
		return err
	}
	var mixed []int // in results
	var scan []transfer.FetchPartition
	for i, r := range results {
		end := ends[all[i]].Offset
		if end-r.Begin == r.Records {
			continue
		}
		mixed = append(mixed, i)
		scan = append(scan, transfer.FetchPartition{Topic: r.Topic, TopicID: ids[i], Partition: r.Partition, Next: r.Begin, End: end, LeaderEpoch: -1})
	}
	ranks := make([]int64, len(mixed))
	err = transfer.Fetch(ctx, f.Cluster.Client(), scan, transfer.FetchOptions{}, func(_ context.Context, c transfer.Chunk) error {
		r := &results[mixed[c.Index]]
		for _, b := range c.Batches {
			if b.ProducerID() != targets.ProducerID {
				continue
			}
			rank := ranks[c.Index]
			if want := recordbatch.Sequence(rank); b.BaseSequence() != want {
				return &NotOursError{Topic: r.Topic, Partition: r.Partition, Offset: b.BaseOffset(), Detail: fmt.Sprintf("its sequence is %d instead of %d", b.BaseSequence(), want)}
			}
			if r.offset(rank) != b.BaseOffset() {
				r.Pieces = append(r.Pieces, Piece{Rank: rank, Offset: b.BaseOffset()})
			}
			ranks[c.Index] += int64(b.NumRecords())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("find where records landed among those of others: %w", err)
	}
	for i, at := range mixed {
		if r := &results[at]; ranks[i] != r.Records {
			return &LostError{Topic: r.Topic, Partition: r.Partition, End: r.offset(ranks[i]), Want: r.offset(r.Records)}
		}
	}
	return nil
}
