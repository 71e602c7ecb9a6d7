package offsets

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/semaphore"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// Change is one committed offset to be set, or to be removed.
type Change struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Offset is the next offset to be read; negative removes the committed
	// offset, so that the group has none.
	Offset      int64  `json:"offset"`
	LeaderEpoch int32  `json:"leader_epoch"` // -1: none
	Metadata    string `json:"metadata,omitempty"`
}

// GroupChanges are the changes of one group.
type GroupChanges struct {
	Group   string   `json:"group"`
	Changes []Change `json:"changes"`
}

// Failure is a change that was not made, or that reads back differently.
type Failure struct {
	Group string `json:"group"`
	Change
	Code  string `json:"code"` // Kafka's name of the error, or see [Code]
	Error string `json:"error"`

	cause error // nil when it was read from a repository
}

func failure(group string, c Change, err error) Failure {
	return Failure{Group: group, Change: c, Code: Code(err), Error: err.Error(), cause: err}
}

// Applier makes changes: many partitions of a group in a request, several
// requests at the same time.
type Applier struct {
	Cluster *kafka.Cluster
	// Concurrent is how many requests are in flight at most; 0 means 100.
	Concurrent int
	// Tries is how often a partition whose error is transient is tried; 0 means
	// 4. The pauses between grow from 50 ms.
	Tries int
	// Report is told how many partitions were changed, from several goroutines;
	// may be nil.
	Report func(changed int)
}

// maxCommit is how many partitions go into one request. The coordinator
// writes the offsets of a request in one batch, which max.message.bytes of
// __consumer_offsets bounds (1 MiB by default).
const maxCommit = 2000

// Outcome is what became of changes.
type Outcome struct {
	Changed  int64 `json:"changed"`
	Requests int64 `json:"requests"`
	Retries  int64 `json:"retries"` // partitions sent again
	// Failed are changes that were refused for good; Open those whose error was
	// transient to the last try.
	Failed []Failure `json:"failed,omitempty"`
	Open   []Failure `json:"open,omitempty"`
	// Latency is an HdrHistogram of microseconds: for each partition the time of
	// the request that changed it. See [Percentiles].
	Latency []byte    `json:"latency,omitempty"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
}

// Apply makes changes. What could not be made is in the outcome; the error is
// ctx's, or [ErrSuspended].
func (a *Applier) Apply(ctx context.Context, groups []GroupChanges) (*Outcome, error) {
	return a.begin(ctx, a.slots(), groups).outcome(ctx)
}

// slots are the requests that may be in flight.
func (a *Applier) slots() *semaphore.Weighted {
	return semaphore.NewWeighted(int64(cmp.Or(a.Concurrent, 100)))
}

// begin makes changes, and returns when all of them are in flight or done.
func (a *Applier) begin(ctx context.Context, slots *semaphore.Weighted, groups []GroupChanges) *applying {
	run := &applying{Applier: a, awake: stayAwake(), latency: newHistogram(), made: Outcome{Began: time.Now().UTC()}}
	run.begin(ctx, slots, groups)
	return run
}

func (a *applying) begin(ctx context.Context, slots *semaphore.Weighted, groups []GroupChanges) {
	for i := range groups {
		for changes := range slices.Chunk(groups[i].Changes, maxCommit) {
			if slots.Acquire(ctx, 1) != nil {
				return
			}
			a.wg.Go(func() {
				defer slots.Release(1)
				a.send(ctx, groups[i].Group, changes, 1, 50*time.Millisecond)
			})
		}
	}
}

// applying is changes in flight.
type applying struct {
	*Applier
	awake    *awake
	wg       sync.WaitGroup
	requests atomic.Int64

	mu      sync.Mutex
	latency *hdrhistogram.Histogram
	made    Outcome
}

// outcome waits until all changes are made. The error is ctx's, or
// [ErrSuspended].
func (a *applying) outcome(ctx context.Context) (*Outcome, error) {
	a.wg.Wait()
	a.awake.stop()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := a.awake.check(); err != nil {
		return nil, err
	}
	o := &a.made
	o.Requests, o.Ended = a.requests.Load(), time.Now().UTC()
	if o.Changed > 0 {
		encoded, err := a.latency.EncodeV2()
		if err != nil {
			return nil, err
		}
		o.Latency = encoded
	}
	sortFailures(o.Failed)
	sortFailures(o.Open)
	return o, nil
}

func sortFailures(f []Failure) {
	slices.SortFunc(f, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// send makes changes of one group, and tries those with transient errors
// again, alone.
func (a *applying) send(ctx context.Context, group string, open []Change, try int, wait time.Duration) {
	for ; len(open) > 0 && ctx.Err() == nil; try++ {
		if try > 1 {
			select {
			case <-time.After(wait):
				wait = min(2*wait, 2*time.Second)
			case <-ctx.Done():
				return
			}
		}
		if a.awake.check() != nil {
			return
		}
		began := time.Now()
		waiting, done := outlive(ctx, lastAnswer)
		results, err := a.request(waiting, group, open)
		done()
		took := time.Since(began)
		if len(open) > 1 && (tooLarge(err) || slices.ContainsFunc(results, tooLarge)) {
			// Halves may pass. They go one after the other: this one holds a slot.
			a.send(ctx, group, open[:len(open)/2], try, wait)
			a.send(ctx, group, open[len(open)/2:], try, wait)
			return
		}
		if ctx.Err() != nil {
			return
		}
		changed := 0
		var again []Change
		var refused, left []Failure
		for i, c := range open {
			cause := err
			if cause == nil {
				cause = results[i]
			}
			switch {
			case cause == nil:
				changed++
			case !transient(cause):
				refused = append(refused, failure(group, c, cause))
			case try < cmp.Or(a.Tries, 4):
				again = append(again, c)
			default:
				left = append(left, failure(group, c, cause))
			}
		}
		a.note(changed, took, refused, left, len(again))
		open = again
	}
}

// lastAnswer is how long the answer to a request is waited for after a cancel.
// One that is still under way could reach the coordinator after those that undo
// it.
const lastAnswer = 5 * time.Second

// outlive is a context that ends some time after another does.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return longer, func() { stop(); cancel() }
}

func (a *applying) note(changed int, took time.Duration, refused, left []Failure, again int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if changed > 0 {
		_ = a.latency.RecordValues(min(max(took.Microseconds(), 1), maxLatency), int64(changed)) // within its bounds
		a.made.Changed += int64(changed)
	}
	a.made.Retries += int64(again)
	a.made.Failed = append(a.made.Failed, refused...)
	a.made.Open = append(a.made.Open, left...)
	if a.Report != nil && changed > 0 {
		a.Report(changed)
	}
}

// tooLarge tells whether a request failed because it, or what the coordinator
// makes of it, is too large.
//
// Apache Kafka 4.3 says UNKNOWN_SERVER_ERROR when what it would write is more
// than max.message.bytes of __consumer_offsets.
func tooLarge(err error) bool {
	return errors.Is(err, kerr.UnknownServerError) || errors.Is(err, kerr.InvalidCommitOffsetSize) || errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// request sends one round: a commit for what is set, a delete for what is
// removed. The results are in the order of the changes.
func (a *applying) request(ctx context.Context, group string, open []Change) ([]error, error) {
	set := make([]kafka.CommittedOffset, 0, len(open))
	var remove []kafka.TopicPartition
	for i := range open {
		if c := &open[i]; c.Offset < 0 {
			remove = append(remove, kafka.TopicPartition{Topic: c.Topic, Partition: c.Partition})
		} else {
			set = append(set, kafka.CommittedOffset{Topic: c.Topic, Partition: c.Partition, Offset: c.Offset, LeaderEpoch: c.LeaderEpoch, Metadata: c.Metadata})
		}
	}
	commit := func() ([]error, error) {
		a.requests.Add(1)
		return a.Cluster.CommitOffsets(ctx, group, set)
	}
	remover := func() ([]error, error) {
		a.requests.Add(1)
		results, err := a.Cluster.DeleteOffsets(ctx, group, remove)
		if errors.Is(err, kerr.GroupIDNotFound) {
			return make([]error, len(remove)), nil // no group, no offset
		}
		return results, err
	}
	switch {
	case len(remove) == 0:
		return commit()
	case len(set) == 0:
		return remover()
	}
	// One may fail and the other not.
	wasSet, setErr := commit()
	if tooLarge(setErr) || slices.ContainsFunc(wasSet, tooLarge) {
		return wasSet, setErr // they are sent again in halves
	}
	removed, removeErr := remover()
	results := make([]error, len(open))
	for i := range open {
		from, err := &wasSet, setErr
		if open[i].Offset < 0 {
			from, err = &removed, removeErr
		}
		if results[i] = err; err == nil {
			results[i], *from = (*from)[0], (*from)[1:]
		}
	}
	return results, nil
}

// maxLatency is the largest latency that is told apart, in microseconds.
const maxLatency = int64(10 * time.Minute / time.Microsecond)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLatency, 3) }
