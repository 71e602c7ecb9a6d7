package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/telemetry"
)

type fetcher struct {
	cl    *kgo.Client
	opts  FetchOptions
	sink  Sink
	left  atomic.Int64  // partitions that have not reached their end
	done  chan struct{} // closed when left is zero
	stray chan []*fetchState
	lanes map[laneKey]*fetchLane // the router's alone
}

type laneKey struct {
	broker int32
	lane   int
}

// fetchState is a partition on its way. It belongs to one goroutine at a
// time: the router, or the lane it was routed to.
type fetchState struct {
	FetchPartition
	index   int
	epoch   int32
	since   time.Time // when it first failed to move on; zero: it moved the last time
	lastErr error
	empty   int // unthrottled answers without any batch, asked for alone, in a row
}

// fetchLane asks one broker for its partitions, one request at a time.
type fetchLane struct {
	*fetcher
	broker int32
	in     chan []*fetchState
	todo   []*fetchState // starved ones first

	aborted     recordbatch.Aborted
	abortedList []recordbatch.AbortedTransaction
}

// route sends partitions to the lanes of their leaders, again and again as
// leaders move, until all have reached their end.
func (f *fetcher) route(ctx context.Context, g *errgroup.Group, pending []*fetchState) error {
	for {
		if len(pending) > 0 {
			leaders, err := partitionLeaders(ctx, f.cl, fetchTopics(pending))
			if err != nil {
				return err
			}
			var homeless []*fetchState
			byLane := map[laneKey][]*fetchState{}
			for _, s := range pending {
				broker, err := leaders.of(s.Topic, s.TopicID, s.Partition)
				if err != nil {
					var refused *PartitionError
					if errors.As(err, &refused) {
						refused.Op, refused.Offset = "fetch", s.Next
						return refused
					}
					s.lastErr = err
					if err := f.stalled(s); err != nil {
						return err
					}
					homeless = append(homeless, s)
					continue
				}
				k := laneKey{broker, s.index % f.opts.Lanes}
				byLane[k] = append(byLane[k], s)
			}
			for k, states := range byLane {
				l := f.lanes[k]
				if l == nil {
					l = &fetchLane{fetcher: f, broker: k.broker, in: make(chan []*fetchState, 64)}
					f.lanes[k] = l
					g.Go(func() error { return l.run(ctx) })
				}
				select {
				case l.in <- states:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			pending = homeless
		}
		var again <-chan time.Time
		if len(pending) > 0 {
			again = time.After(retryPause)
		}
		select {
		case s := <-f.stray:
			pending = append(pending, s...)
			if again == nil {
				if err := pause(ctx, retryPause); err != nil {
					return err
				}
			}
		case <-again:
		case <-f.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stalled notes that a partition did not move on.
func (f *fetcher) stalled(s *fetchState) error {
	if s.since.IsZero() {
		s.since = time.Now()
	}
	if d := time.Since(s.since); d > f.opts.StallTimeout {
		if gone(s.lastErr) {
			return &PartitionError{"fetch", s.Topic, s.Partition, s.Next, s.lastErr, "the topic was deleted meanwhile"}
		}
		return &StallError{Op: "fetch", Topic: s.Topic, Partition: s.Partition, Offset: s.Next, End: s.End, For: d, Err: s.lastErr}
	}
	return nil
}

func (l *fetchLane) run(ctx context.Context) error {
	for {
		if len(l.todo) == 0 {
			select {
			case s := <-l.in:
				l.todo = append(l.todo, s...)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		for more := true; more; {
			select {
			case s := <-l.in:
				l.todo = append(l.todo, s...)
			default:
				more = false
			}
		}
		if err := l.ask(ctx); err != nil {
			return err
		}
	}
}

// ask makes one request and hands on what comes.
func (l *fetchLane) ask(ctx context.Context) error {
	asked := l.todo[:min(len(l.todo), l.opts.MaxPartitions)]
	if asked[0].empty > 0 {
		asked = asked[:1] // see fetchState.empty
	}
	began := time.Now()
	resp, err := l.request(ctx, asked)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, s := range asked {
			s.lastErr = err
			if err := l.stalled(s); err != nil {
				return err
			}
		}
		strays := slices.Clone(asked)
		l.todo = slices.Delete(l.todo, 0, len(asked))
		return l.release(ctx, strays)
	}

	answers := make(map[partitionKey]*kmsg.FetchResponseTopicPartition, len(asked))
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			answers[partitionKey{t.Topic, t.TopicID, t.Partitions[j].Partition}] = &t.Partitions[j]
		}
	}
	byID := resp.Version >= 13
	var starved, fed, strays []*fetchState
	bytes, moved := 0, false
	for _, s := range asked {
		key := partitionKey{topic: s.Topic, partition: s.Partition}
		if byID {
			key = partitionKey{id: s.TopicID, partition: s.Partition}
		}
		before := s.Next
		a := answers[key]
		fate, n, err := l.take(ctx, s, a, len(asked) == 1, resp.ThrottleMillis > 0)
		if err != nil {
			return err
		}
		if a != nil && a.ErrorCode == 0 && s.Next >= a.LastStableOffset && l.opts.CaughtUp != nil {
			l.opts.CaughtUp(s.index, began)
		}
		bytes += n
		if s.Next != before {
			s.since, s.lastErr, s.empty = time.Time{}, nil, 0
			moved = true
		}
		switch {
		case s.Next >= s.End:
			if l.left.Add(-1) == 0 {
				close(l.done)
			}
		case fate == lost:
			strays = append(strays, s)
		case s.Next == before:
			starved = append(starved, s)
		default:
			fed = append(fed, s)
		}
	}
	for _, s := range strays {
		if err := l.stalled(s); err != nil {
			return err
		}
	}
	for _, s := range starved {
		if moved || l.opts.Follow {
			s.since = time.Time{} // others took up the answer, or there is nothing to wait for
		} else if err := l.stalled(s); err != nil {
			return err
		}
	}
	waiting := l.todo[len(asked):]
	next := make([]*fetchState, 0, len(l.todo))
	if l.opts.Follow { // those that have nothing now have no claim to be asked first
		waiting, starved = starved, waiting
	}
	next = append(next, starved...)
	next = append(next, waiting...)
	l.todo = append(next, fed...)
	if err := l.release(ctx, strays); err != nil {
		return err
	}
	if l.opts.Rate != nil {
		return waitRate(ctx, l.opts.Rate, bytes)
	}
	return nil
}

type partitionKey struct {
	topic     string
	id        [16]byte
	partition int32
}

func (l *fetchLane) request(ctx context.Context, asked []*fetchState) (*kmsg.FetchResponse, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis = int32(l.opts.MaxWait.Milliseconds())
	req.MinBytes = 1
	req.MaxBytes = l.opts.MaxBytes
	req.IsolationLevel = 1 // read_committed
	perPartition := max(l.opts.MaxBytes/int32(len(asked)), min(l.opts.MaxBytes, l.opts.MaxPartitionBytes))
	topics := map[[16]byte]int{}
	for _, s := range asked {
		i, ok := topics[s.TopicID]
		if !ok || req.Topics[i].Topic != s.Topic {
			i = len(req.Topics)
			topics[s.TopicID] = i
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = s.Topic, s.TopicID
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition = s.Partition
		p.FetchOffset = s.Next
		p.LastFetchedEpoch = s.epoch
		p.PartitionMaxBytes = perPartition
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	began := time.Now()
	resp, err := l.cl.Broker(int(l.broker)).Request(ctx, req)
	telemetry.FetchDone(began)
	if err != nil {
		return nil, err
	}
	r := resp.(*kmsg.FetchResponse)
	return r, kerr.ErrorForCode(r.ErrorCode)
}

// release gives partitions back to the router.
func (l *fetchLane) release(ctx context.Context, strays []*fetchState) error {
	if len(strays) == 0 {
		return nil
	}
	for _, s := range strays {
		telemetry.Retried(ctx, "fetch", s.Topic, s.Partition, s.lastErr)
	}
	for {
		select {
		case l.stray <- strays:
			return nil
		case s := <-l.in: // the router may be waiting to send these first
			l.todo = append(l.todo, s...)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type fate int

const (
	stays fate = iota
	lost       // the partition has to be routed anew
)

// take handles one partition's answer and returns the bytes handed on.
func (l *fetchLane) take(ctx context.Context, s *fetchState, a *kmsg.FetchResponseTopicPartition, alone, throttled bool) (fate, int, error) {
	if a == nil {
		s.lastErr = errors.New("the broker's answer leaves the partition out") // it may be full
		return stays, 0, nil
	}
	if err := kerr.ErrorForCode(a.ErrorCode); err != nil {
		s.lastErr = err
		switch {
		case errors.Is(err, kerr.OffsetOutOfRange):
			return l.outOfRange(ctx, s)
		case errors.Is(err, kerr.TopicAuthorizationFailed):
			return lost, 0, &PartitionError{"fetch", s.Topic, s.Partition, s.Next, err, "the principal needs READ on the topic"}
		case errors.Is(err, kerr.CorruptMessage):
			return lost, 0, &PartitionError{"fetch", s.Topic, s.Partition, s.Next, err, "the broker's own log is damaged here; a replica may be intact"}
		}
		return lost, 0, nil
	}
	s.lastErr = nil
	if d := a.DivergingEpoch; d.EndOffset >= 0 && d.Epoch >= 0 {
		return lost, 0, &TruncatedError{Topic: s.Topic, Partition: s.Partition, Read: s.Next, Epoch: s.epoch, Diverged: d.EndOffset}
	}
	c := Chunk{Index: s.index, Next: s.Next, LeaderEpoch: s.epoch}
	if err := l.walk(s, a, &c); err != nil {
		return lost, 0, &PartitionError{"fetch", s.Topic, s.Partition, c.Next, err, ""}
	}
	if c.Next == s.Next {
		// Nothing came. Alone in an unthrottled request, with the last stable
		// offset at or past the end, a broker that has a batch in its log must
		// send it: when it repeatedly does not, compaction has emptied the rest.
		// (A topic in tiered storage may answer with nothing while it reads;
		// but those are never compacted.)
		if len(a.RecordBatches) == 0 && a.LastStableOffset >= s.End && !throttled {
			s.empty++
		}
		if alone && s.empty > 3 && l.opts.Compacted != nil {
			compacted, err := l.opts.Compacted(ctx, s.Topic)
			if s.lastErr = err; err == nil && compacted {
				c.Gap = &Gap{From: s.Next, To: s.End, Reason: GapCompacted}
				c.Next = s.End
			} else {
				s.empty = -100 // let the others have their turns for a while
			}
		}
		if c.Next == s.Next {
			return stays, 0, nil
		}
	}
	s.Next, s.epoch = c.Next, c.LeaderEpoch
	return stays, c.Bytes, l.sink(ctx, c)
}

// walk sorts an answer's batches into those to keep and those to leave out.
func (l *fetchLane) walk(s *fetchState, a *kmsg.FetchResponseTopicPartition, c *Chunk) error {
	for _, t := range a.AbortedTransactions {
		l.abortedList = append(l.abortedList, recordbatch.AbortedTransaction{ProducerID: t.ProducerID, FirstOffset: t.FirstOffset})
	}
	l.aborted.Reset(l.abortedList)
	l.abortedList = l.abortedList[:0]
	rest := a.RecordBatches
	for len(rest) > 0 {
		b, after, err := recordbatch.Next(rest)
		switch {
		case errors.Is(err, recordbatch.ErrShort):
			return nil
		case errors.Is(err, recordbatch.ErrMagic):
			// A log written by a broker older than 0.11: the rest of this
			// answer is rewritten as record batches, offsets kept.
			var up recordbatch.Upconverter
			batches, _, err := up.Convert(nil, rest)
			if err != nil {
				return err
			}
			if rest = batches; len(rest) == 0 {
				return nil
			}
			continue
		case err != nil:
			return err
		}
		rest = after
		last := b.LastOffset()
		if last < s.Next {
			continue
		}
		if b.BaseOffset() >= s.End {
			c.Next = s.End
			return nil
		}
		verdict, err := l.aborted.Judge(b)
		if err != nil {
			return err
		}
		kept := []recordbatch.Batch{b}
		switch {
		case verdict == recordbatch.Control:
			c.ControlBatches++
			c.LeftOutBytes += int64(len(b))
			kept = nil
		case b.NumRecords() == 0: // kept by compaction for its producer's sake
			kept = nil
		case verdict == recordbatch.AbortedData:
			c.AbortedBatches++
			c.AbortedRecords += int64(b.NumRecords())
			c.LeftOutBytes += int64(len(b))
			kept = nil
		case b.BaseOffset() < s.Next || last >= s.End:
			if kept, err = cut(b, s.Next, s.End); err != nil {
				return fmt.Errorf("cut the batch at offset %d: %w", b.BaseOffset(), err)
			}
		}
		for _, b := range kept {
			c.Batches = append(c.Batches, b)
			c.Bytes += len(b)
		}
		c.Next = min(last+1, s.End)
		c.LeaderEpoch = b.LeaderEpoch()
	}
	return nil
}

// outOfRange finds out why Next is not in the log: records before the log
// start are gone, an offset past the end means a truncated log.
func (l *fetchLane) outOfRange(ctx context.Context, s *fetchState) (fate, int, error) {
	start, end, err := logBounds(ctx, l.cl, l.broker, s.Topic, s.Partition)
	if err != nil {
		s.lastErr = err
		return lost, 0, ctx.Err()
	}
	switch {
	case s.Next < start:
		to := min(start, s.End)
		c := Chunk{Index: s.index, Next: to, LeaderEpoch: -1, Gap: &Gap{From: s.Next, To: to, Reason: GapLogStartMoved}}
		s.Next, s.epoch = to, -1
		return stays, 0, l.sink(ctx, c)
	case s.Next > end:
		return lost, 0, &TruncatedError{Topic: s.Topic, Partition: s.Partition, Read: s.Next, Epoch: s.epoch, Diverged: end}
	}
	return lost, 0, nil // in range again: ask anew
}
