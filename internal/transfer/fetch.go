package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
)

// FetchPartition is one partition to be fetched: the records at offsets
// [Next, End).
type FetchPartition struct {
	Topic     string
	TopicID   [16]byte
	Partition int32

	// Next is the first offset wanted.
	Next int64
	// End is the offset at which fetching stops; it is never fetched itself.
	// It must not be beyond the partition's last stable offset, or the fetch
	// waits until the last stable offset has reached it.
	End int64
	// LeaderEpoch is the leader epoch of the record before Next, or -1 when
	// it is not known. With it the broker can tell that the log was truncated
	// and rewritten below Next (KIP-320).
	LeaderEpoch int32
}

// Chunk is what one fetch answer brought for one partition.
type Chunk struct {
	// Index is the partition's place in the slice given to [Fetch].
	Index int
	// Batches are the committed data batches, in offset order, as the broker
	// sent them; they share the memory of the answer. Their checksums have
	// not been verified yet. It may be empty: then the chunk only moves Next.
	Batches []recordbatch.Batch
	// Bytes is the size of Batches.
	Bytes int
	// Next is the offset at which the partition goes on after this chunk.
	Next int64
	// LeaderEpoch is the leader epoch of the last batch before Next, or -1.
	LeaderEpoch int32
	// AbortedBatches, the records in them and ControlBatches count what was
	// left out, LeftOutBytes its size.
	AbortedBatches, AbortedRecords, ControlBatches, LeftOutBytes int64
	// Gap, when not nil, says that the offsets [Gap.From, Gap.To) no longer
	// exist in the source and why.
	Gap *Gap
}

// GapReason says why offsets that were to be fetched do not exist any more.
type GapReason string

const (
	// GapLogStartMoved: retention or DeleteRecords removed them before they
	// could be fetched.
	GapLogStartMoved GapReason = "log_start_moved"
	// GapCompacted: compaction removed the last records before the planned
	// end, so that no batch reaches it.
	GapCompacted GapReason = "compacted"
)

// Gap is a range of offsets, From inclusive and To exclusive.
type Gap struct {
	From, To int64
	Reason   GapReason
}

// Sink takes chunks. Calls for one partition are made one after the other, in
// offset order; calls for different partitions may overlap. A Sink that
// blocks holds the lane back: that is how memory stays bounded.
type Sink func(ctx context.Context, c Chunk) error

// FetchOptions bounds a [Fetch].
type FetchOptions struct {
	// MaxBytes is the most bytes one answer may hold (one batch larger than
	// this is still sent). Default 4 MiB.
	MaxBytes int32
	// MaxPartitionBytes is the most bytes one answer may hold of one partition,
	// unless so few partitions share it that it would not be full. Default 1 MiB.
	MaxPartitionBytes int32
	// MaxWait is how long a broker waits for data before it answers with
	// nothing. Default 500 ms.
	MaxWait time.Duration
	// Lanes is how many requests are under way at once to one broker, each
	// for its own partitions. Default 2.
	Lanes int
	// MaxPartitions is the most partitions named in one request. Default 500.
	MaxPartitions int
	// StallTimeout is how long a partition may go on answering with errors,
	// or with nothing although its end is not reached, before Fetch gives up
	// with a [StallError]. The time before its turn comes does not count.
	// Default 2 minutes.
	StallTimeout time.Duration
	// Compacted tells whether a topic is compacted. It is asked when a leader
	// goes on answering with nothing although the end is not reached: only
	// compaction can have removed the last records before an offset that was
	// seen, and only then does the fetch end there. Nil is never.
	Compacted func(ctx context.Context, topic string) (bool, error)
	// Follow says that partitions which have nothing more are waited for:
	// only errors are a stall. Fetch then ends with ctx.
	Follow bool
	// CaughtUp, when not nil, is told that a partition, by its place, had no
	// record below its last stable offset at a time that sink has not taken.
	// Calls for one partition are made one after the other, and between those
	// of sink.
	CaughtUp func(index int, at time.Time)
	// Rate, when not nil, limits the bytes fetched per second. Its burst must
	// be at least 1.
	Rate *rate.Limiter
}

func (o *FetchOptions) defaults() {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 4 << 20
	}
	if o.MaxPartitionBytes <= 0 {
		o.MaxPartitionBytes = 1 << 20
	}
	if o.MaxWait <= 0 {
		o.MaxWait = 500 * time.Millisecond
	}
	if o.Lanes <= 0 {
		o.Lanes = 2
	}
	if o.MaxPartitions <= 0 {
		o.MaxPartitions = 500
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = 2 * time.Minute
	}
}

// retryPause is the pause before a partition whose leader moved or did not
// answer is looked up and asked again.
const retryPause = 200 * time.Millisecond

// Fetch fetches every partition from its Next to its End with read_committed
// isolation and hands what comes to sink. It returns when every partition has
// reached its end, or with the first error: a [StallError], a
// [TruncatedError], a [PartitionError], or what sink returned.
func Fetch(ctx context.Context, cl *kgo.Client, partitions []FetchPartition, opts FetchOptions, sink Sink) error {
	opts.defaults()
	f := &fetcher{cl: cl, opts: opts, sink: sink, stray: make(chan []*fetchState, 64)}
	var begin []*fetchState
	for i, p := range partitions {
		if p.Next < p.End {
			begin = append(begin, &fetchState{FetchPartition: p, index: i, epoch: p.LeaderEpoch})
		}
	}
	if len(begin) == 0 {
		return nil
	}
	f.left.Add(int64(len(begin)))
	f.done = make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	f.lanes = map[laneKey]*fetchLane{}
	g.Go(func() error {
		err := f.route(ctx, g, begin)
		cancel()
		return err
	})
	err := g.Wait()
	if err != nil && f.left.Load() == 0 && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// PartitionError is a broker's refusal that trying again does not cure: no
// rights, a topic that is gone or was recreated, a corrupt log.
type PartitionError struct {
	Op        string // "fetch" or "produce"
	Topic     string
	Partition int32
	Offset    int64 // the offset asked for; -1 when it does not apply
	Err       error // a *kerr.Error
	Hint      string
}

func (e *PartitionError) Error() string {
	s := fmt.Sprintf("%s %s/%d", e.Op, e.Topic, e.Partition)
	if e.Offset >= 0 {
		s += fmt.Sprintf(" at offset %d", e.Offset)
	}
	s += ": " + e.Err.Error()
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func (e *PartitionError) Unwrap() error { return e.Err }

// TruncatedError says that the source's log was truncated below an offset
// that had already been read (an unclean leader election): what was read
// before and what would be read now are two different histories.
type TruncatedError struct {
	Topic     string
	Partition int32
	// Read is the offset up to which the partition had been read, and Epoch
	// the leader epoch of the last record read.
	Read  int64
	Epoch int32
	// Diverged is the end offset, in the log as it is now, of the newest
	// leader epoch both histories share.
	Diverged int64
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("fetch %s/%d: the log was truncated: records up to offset %d (leader epoch %d) were read, but the leader's log diverges at offset %d (make a new backup: it reads this partition again from its start)",
		e.Topic, e.Partition, e.Read, e.Epoch, e.Diverged)
}

// StallError says that a partition made no progress for longer than the stall
// timeout. Trying again later may cure it.
type StallError struct {
	Op        string
	Topic     string
	Partition int32
	Offset    int64 // where it stands
	End       int64 // where it has to get to
	For       time.Duration
	Err       error // the last error, nil when the broker answered with nothing
}

func (e *StallError) Error() string {
	why := "the broker answers without records"
	if e.Err != nil {
		why = e.Err.Error()
	}
	return fmt.Sprintf("%s %s/%d: no progress for %s at offset %d of %d: %s",
		e.Op, e.Topic, e.Partition, e.For.Round(time.Second), e.Offset, e.End, why)
}

func (e *StallError) Unwrap() error { return e.Err }
