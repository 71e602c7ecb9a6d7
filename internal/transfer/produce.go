package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/telemetry"
)

// Load is one batch on its way to a target partition.
type Load struct {
	// Batch is dense, uses create time, and belongs to the load: it is stamped
	// in place.
	Batch recordbatch.Batch
	// Rank is the rank of the batch's first record: how many records of the
	// stream come before it.
	Rank int64
	// Release, when not nil, is called once when the batch is no longer
	// needed, sent or not. Without clean the memory may still be read by a
	// request that was given up, and must not be used again.
	Release func(clean bool)
}

// Stream is the sequence of records that goes into one target partition. It
// is a pure function of the restore's plan: every attempt sees the same
// records at the same ranks, though perhaps cut into other batches.
type Stream interface {
	// Seek goes to the record of the given rank. Rank equal to the number of
	// records is the end; a rank beyond it is an error.
	Seek(ctx context.Context, rank int64) error
	// Next returns the next batch, or io.EOF after the last record.
	Next(ctx context.Context) (Load, error)
}

// ProducePartition is one target partition and what goes into it.
type ProducePartition struct {
	Topic     string
	TopicID   [16]byte
	Partition int32
	// Begin is the offset at which the restore begins: the end of the
	// partition when the restore had not yet written to it.
	Begin int64
	// Confirm, when not nil, is asked when the leader does not know the
	// restore's producer id (it forgets one after producer.id.expiration.ms
	// without writes) although the log has grown by rank records since Begin:
	// it returns how many of them are this restore's, or an error when that
	// cannot be. Nil trusts the log's end.
	Confirm func(ctx context.Context, rank int64) (int64, error)
	// Open opens the stream; it is called at most once, when the partition's
	// turn has come. The stream is closed by cancelling ctx.
	Open func(ctx context.Context) (Stream, error)
}

// Acked tells what one acknowledged batch brought to a partition, or, with
// Done, that the partition holds its whole stream.
type Acked struct {
	Index   int // the partition's place in the slice given to [Produce]
	Records int64
	Bytes   int64
	// Rank is how many records of the stream the partition holds now.
	Rank int64
	Done bool
}

// ProduceOptions bounds and identifies a [Produce].
type ProduceOptions struct {
	// ProducerID and Epoch are the restore's own, the same in every attempt.
	ProducerID int64
	Epoch      int16
	// AllowForeign goes on when somebody else writes to a target partition;
	// otherwise that is a [ForeignWriteError].
	AllowForeign bool
	// MaxRequestBytes is how many bytes of batches one request carries (one
	// batch larger than this is still sent). Default 2 MiB.
	MaxRequestBytes int
	// Lanes is how many requests are under way at once to one broker.
	// Default 2.
	Lanes int
	// MaxPartitions is how many partitions are worked on at once. Default 1,000.
	MaxPartitions int
	// Timeout is how long a broker may wait for its replicas. Default 30 s.
	Timeout time.Duration
	// StallTimeout is how long a partition may go on without any progress
	// before Produce gives up with a [StallError]. Default 2 minutes.
	StallTimeout time.Duration
	// ByteRate and RecordRate, when not nil, limit what is sent per second.
	ByteRate, RecordRate *rate.Limiter
}

func (o *ProduceOptions) defaults() {
	if o.MaxRequestBytes <= 0 {
		o.MaxRequestBytes = 2 << 20
	}
	if o.Lanes <= 0 {
		o.Lanes = 2
	}
	if o.MaxPartitions <= 0 {
		o.MaxPartitions = 1000
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = 2 * time.Minute
	}
}

// ForeignWriteError says that somebody else writes to a target partition:
// records are there, or landed, where the restore's own belong.
type ForeignWriteError struct {
	Topic     string
	Partition int32
	Expected  int64 // where the log should end, or where a batch should have landed
	Found     int64 // where it does end, or where the batch landed
}

func (e *ForeignWriteError) Error() string {
	return fmt.Sprintf("produce %s/%d: somebody else writes to this partition: expected offset %d, found %d (stop the other writer, or set restore.allow_foreign_writes to go on and keep the shifted offsets in the mapping)",
		e.Topic, e.Partition, e.Expected, e.Found)
}

// Produce writes every partition's stream with the sequence of each record
// equal to its rank, so that each record lands exactly once and in order
// however many attempts, on however many machines, do the same at the same
// time. on is called from several goroutines.
//
// When ctx ends, requests under way are waited for (bounded by Timeout) and
// nothing more is sent, so that the log ends at a record boundary that on has
// been told of.
func Produce(ctx context.Context, cl *kgo.Client, partitions []ProducePartition, opts ProduceOptions, on func(Acked)) error {
	opts.defaults()
	g, ctx := errgroup.WithContext(ctx)
	p := &producer{cl: cl, opts: opts, on: on, lanes: map[laneKey]*produceLane{}, ctx: ctx}
	p.locator = newLocator(cl, opts.ProducerID)
	g.Go(func() error { return p.locator.run(ctx) })

	work, workCtx := errgroup.WithContext(ctx)
	work.SetLimit(opts.MaxPartitions)
	for i := range partitions {
		if workCtx.Err() != nil {
			break
		}
		work.Go(func() error { return p.partition(workCtx, i, &partitions[i]) })
	}
	err := work.Wait()
	p.locator.stop()
	p.stopLanes()
	if werr := g.Wait(); err == nil {
		err = werr
	}
	return err
}

type producer struct {
	cl      *kgo.Client
	opts    ProduceOptions
	on      func(Acked)
	locator *locator
	ctx     context.Context

	mu    sync.Mutex
	lanes map[laneKey]*produceLane
	wg    sync.WaitGroup
}

// verdict is what became of one load.
type verdict int

const (
	acked verdict = iota
	doubt         // ask the leader how far the log is before sending again
)

// partition writes one partition's stream to its end.
func (p *producer) partition(ctx context.Context, index int, t *ProducePartition) error {
	ctx, cancel := context.WithCancel(ctx) // closes the stream
	defer cancel()
	stream, err := t.Open(ctx)
	if err != nil {
		return err
	}
	var since time.Time // it has not got on; zero: it has
	rank, doubted := int64(-1), false
	for {
		// Where is the log? Asked first, and again after every doubt.
		at, err := p.locate(ctx, t, since)
		if err != nil {
			return err
		}
		if doubted {
			telemetry.Realigned(ctx, t.Topic, t.Partition, at.rank)
		}
		if at.rank != rank {
			rank, since = at.rank, time.Time{}
		}
		p.on(Acked{Index: index, Rank: rank})
		if err := stream.Seek(ctx, rank); err != nil {
			return err
		}
		before := rank
		rank, err = p.send(ctx, index, t, stream, at)
		if rank != before {
			since = time.Time{}
		}
		var d *doubtError
		var why error
		doubted = false
		switch {
		case err == nil:
			settled, err := p.settled(ctx, t, rank)
			if err != nil {
				return err
			}
			if settled {
				p.on(Acked{Index: index, Rank: rank, Done: true})
				return nil
			}
		case errors.As(err, &d):
			doubted = true
			telemetry.Retried(ctx, "produce", t.Topic, t.Partition, d.err)
			why = d.err
		default:
			return err
		}
		if since.IsZero() {
			since = time.Now()
		}
		if d := time.Since(since); d > p.opts.StallTimeout {
			return &StallError{Op: "produce", Topic: t.Topic, Partition: t.Partition, Offset: t.Begin + rank, End: -1, For: d, Err: why}
		}
		if err := pause(ctx, retryPause/4); err != nil {
			return err
		}
	}
}

// doubtError carries why a partition is in doubt.
type doubtError struct{ err error }

func (e *doubtError) Error() string { return "in doubt: " + e.err.Error() }
func (e *doubtError) Unwrap() error { return e.err }

// send sends the stream from where it stands until its end or a doubt, and
// returns the rank reached.
func (p *producer) send(ctx context.Context, index int, t *ProducePartition, stream Stream, at position) (int64, error) {
	lane, err := p.lane(at.leader, index)
	if err != nil {
		return at.rank, err
	}
	rank := at.rank
	answer := make(chan produced, 1)
	for {
		load, err := stream.Next(ctx)
		if err == io.EOF {
			return rank, nil
		}
		if err != nil {
			return rank, err
		}
		if load.Rank != rank {
			return rank, fmt.Errorf("produce %s/%d: the stream goes on at rank %d instead of %d", t.Topic, t.Partition, load.Rank, rank)
		}
		n, size := int64(load.Batch.NumRecords()), int64(len(load.Batch))
		load.Batch.Stamp(recordbatch.Stamp{
			ProducerID: p.opts.ProducerID, ProducerEpoch: p.opts.Epoch, BaseSequence: int32(rank % sequences),
		})
		if err := p.throttle(ctx, int(size), int(n)); err != nil {
			load.release(true)
			return rank, err
		}
		select {
		case lane.in <- shipment{t: t, batch: load.Batch, answer: answer}:
		case <-ctx.Done():
			load.release(true)
			return rank, ctx.Err()
		}
		a := <-answer // lanes always answer
		load.release(a.answered)
		v, err := p.judge(t, a, t.Begin+rank)
		if err != nil {
			return rank, err
		}
		if v == doubt {
			return rank, &doubtError{a.err}
		}
		rank += n
		telemetry.Produced(n, size)
		p.on(Acked{Index: index, Records: n, Bytes: size, Rank: rank})
		if ctx.Err() != nil {
			return rank, ctx.Err()
		}
	}
}

// sequences is how many sequence numbers there are before they start again
// at 0.
const sequences = 1 << 31

func (l *Load) release(clean bool) {
	if l.Release != nil {
		l.Release(clean)
	}
}

func (p *producer) throttle(ctx context.Context, bytes, records int) error {
	if p.opts.ByteRate != nil {
		if err := waitRate(ctx, p.opts.ByteRate, bytes); err != nil {
			return err
		}
	}
	if p.opts.RecordRate != nil {
		return waitRate(ctx, p.opts.RecordRate, records)
	}
	return nil
}

// judge decides what an answer means.
func (p *producer) judge(t *ProducePartition, a produced, expected int64) (verdict, error) {
	if a.err == nil {
		if a.base == expected || p.opts.AllowForeign {
			return acked, nil
		}
		// A repeat of an earlier request may be answered with -1 or with an
		// offset of its own; only the log tells.
		if a.base < expected {
			return doubt, nil
		}
		return acked, &ForeignWriteError{t.Topic, t.Partition, expected, a.base}
	}
	refuse := func(hint string) (verdict, error) {
		return acked, &PartitionError{"produce", t.Topic, t.Partition, expected, a.err, hint}
	}
	switch {
	case errors.Is(a.err, kerr.MessageTooLarge), errors.Is(a.err, kerr.RecordListTooLarge):
		return refuse("raise max.message.bytes of the target topic")
	case errors.Is(a.err, kerr.TopicAuthorizationFailed):
		return refuse("the principal needs WRITE on the topic")
	case errors.Is(a.err, kerr.ClusterAuthorizationFailed):
		return refuse("the principal needs IDEMPOTENT_WRITE on the cluster")
	case errors.Is(a.err, kerr.InvalidTimestamp) && a.answered && a.base >= 0:
		return refuse(a.message) // written, but not as it was
	case errors.Is(a.err, kerr.InvalidTimestamp):
		return refuse("the record's time is outside message.timestamp.before.max.ms / message.timestamp.after.max.ms of the target topic")
	case errors.Is(a.err, kerr.InvalidRecord), errors.Is(a.err, kerr.CorruptMessage),
		errors.Is(a.err, kerr.UnsupportedCompressionType), errors.Is(a.err, kerr.PolicyViolation),
		errors.Is(a.err, kerr.InvalidProducerEpoch), errors.Is(a.err, kerr.ProducerFenced):
		return refuse(a.message)
	}
	return doubt, nil
}

// settled tells whether the partition's high watermark shows every record of
// the stream, so that not even the loss of the leader can undo it.
func (p *producer) settled(ctx context.Context, t *ProducePartition, total int64) (bool, error) {
	at, err := p.locate(ctx, t, time.Time{})
	if err != nil {
		return false, err
	}
	return at.rank == total && at.highWatermark-t.Begin >= total, nil
}
