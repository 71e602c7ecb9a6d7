package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// NotOursError says that what a target partition ends with is not what this
// restore wrote, and that the broker no longer knows the restore's producer id
// (it forgets one after producer.id.expiration.ms without writes): somebody
// else wrote, or deleted, while the restore stood still.
type NotOursError struct {
	Topic     string
	Partition int32
	Offset    int64 // that should hold the restore's last record
	Detail    string
}

func (e *NotOursError) Error() string {
	return fmt.Sprintf("%s/%d: the broker does not know this restore's producer id (nothing was written yet, or it was forgotten after producer.id.expiration.ms), and offset %d does not hold what the restore would have written last: %s. Restore into an empty topic, or set restore.allow_foreign_writes before the restore begins",
		e.Topic, e.Partition, e.Offset, e.Detail)
}

// confirming bounds the memory of all confirmations of a part together.
const confirming = 32 << 20

// confirm makes what a partition is confirmed with: how many records of this
// restore its log holds when the broker has forgotten the producer id and the
// log has grown by rank records since the restore began there. Nobody else may
// write: then it is rank, if the last of them is the stream's; otherwise a
// [NotOursError]. ours calls check with the stream's last record before a rank,
// nil when the stream is shorter, at the latest before the one at that rank is
// sent. Others may: then the log itself tells, whose batches name their
// producers.
func (f *Filler) confirm(t transfer.ProducePartition, targets *Targets, ours func(ctx context.Context, rank int64, check func(*recordbatch.Record) error) error) func(context.Context, int64) (int64, error) {
	return func(ctx context.Context, rank int64) (int64, error) {
		if f.Options.AllowForeignWrites {
			return f.countOurs(ctx, t, targets, rank)
		}
		at := t.Begin + rank - 1
		refuse := func(format string, args ...any) error {
			return &NotOursError{Topic: t.Topic, Partition: t.Partition, Offset: at, Detail: fmt.Sprintf(format, args...)}
		}
		theirs, err := f.recordAt(ctx, t, at)
		if err != nil {
			return 0, fmt.Errorf("%s/%d: read offset %d: %w", t.Topic, t.Partition, at, err)
		}
		if theirs == nil {
			return 0, refuse("it was deleted")
		}
		return rank, ours(ctx, rank, func(r *recordbatch.Record) error {
			if r == nil {
				return refuse("the log is longer than all that is restored into it")
			}
			if what := differs(r, theirs); what != "" {
				return refuse("its %s is another", what)
			}
			return nil
		})
	}
}

// recordAt is the record of the target at an offset, copied; nil when there is
// none any more.
func (f *Filler) recordAt(ctx context.Context, t transfer.ProducePartition, offset int64) (found *recordbatch.Record, err error) {
	var dec recordbatch.Decoder
	one := []transfer.FetchPartition{{Topic: t.Topic, TopicID: t.TopicID, Partition: t.Partition, Next: offset, End: offset + 1, LeaderEpoch: -1}}
	err = transfer.Fetch(ctx, f.Cluster.Client(), one, transfer.FetchOptions{}, func(_ context.Context, c transfer.Chunk) error {
		for _, b := range c.Batches {
			if err := b.Verify(); err != nil {
				return err
			}
			if err := dec.Records(b, func(r *recordbatch.Record) error {
				if r.Offset == offset {
					found = copyRecord(r)
				}
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// countOurs counts the records of this restore in the log of a partition.
func (f *Filler) countOurs(ctx context.Context, t transfer.ProducePartition, targets *Targets, grown int64) (ours int64, err error) {
	all := []transfer.FetchPartition{{Topic: t.Topic, TopicID: t.TopicID, Partition: t.Partition, Next: t.Begin, End: t.Begin + grown, LeaderEpoch: -1}}
	err = transfer.Fetch(ctx, f.Cluster.Client(), all, transfer.FetchOptions{}, func(_ context.Context, c transfer.Chunk) error {
		for _, b := range c.Batches {
			if b.ProducerID() != targets.ProducerID {
				continue
			}
			if b.BaseSequence() != recordbatch.Sequence(ours) {
				return &NotOursError{Topic: t.Topic, Partition: t.Partition, Offset: b.BaseOffset(),
					Detail: fmt.Sprintf("%d records of the restore come before it, its sequence is %d", ours, b.BaseSequence())}
			}
			ours += int64(b.NumRecords())
		}
		return nil
	})
	return ours, err
}

// recordAt is the record of the stream at a rank, copied; nil beyond the end.
func (s *stream) recordAt(ctx context.Context, rank int64) (found *recordbatch.Record, err error) {
	ctx, stop := context.WithCancel(ctx)
	s.ctx = ctx
	defer func() {
		stop()
		s.halt()
	}()
	var beyond *BeyondError
	if err := s.Seek(ctx, rank); errors.As(err, &beyond) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	load, err := s.Next(ctx)
	if err == io.EOF {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var dec recordbatch.Decoder
	err = dec.Records(load.Batch, func(r *recordbatch.Record) error {
		found = copyRecord(r)
		return recordbatch.Stop
	})
	if load.Release != nil {
		load.Release(true)
	}
	return found, err
}

func copyRecord(r *recordbatch.Record) *recordbatch.Record {
	c := &recordbatch.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, recordbatch.Header{Key: bytes.Clone(h.Key), Value: bytes.Clone(h.Value)})
	}
	return c
}

// differs says in what two records differ, their offsets apart; empty when
// they are the same.
func differs(a, b *recordbatch.Record) string {
	same := func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
	switch {
	case !same(a.Key, b.Key):
		return "key"
	case !same(a.Value, b.Value):
		return "value"
	case !slices.EqualFunc(a.Headers, b.Headers, func(a, b recordbatch.Header) bool { return bytes.Equal(a.Key, b.Key) && same(a.Value, b.Value) }):
		return "headers"
	case a.Timestamp != b.Timestamp:
		return "timestamp"
	}
	return ""
}
