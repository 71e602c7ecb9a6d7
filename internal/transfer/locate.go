package transfer

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// position is where a restore stands on a target partition.
type position struct {
	leader        int32
	rank          int64 // records of the restore the leader's log holds
	highWatermark int64
}

// located is what a leader says of one partition.
type located struct {
	leader        int32
	highWatermark int64
	known         bool  // the broker knows the producer id there
	lastSequence  int32 // meaningful when known
	err           error
}

// locate asks the leader how far the restore is on a partition, until it
// answers or the partition, which got on no more since the time given (zero:
// it does), has stalled.
func (p *producer) locate(ctx context.Context, t *ProducePartition, since time.Time) (position, error) {
	if since.IsZero() {
		since = time.Now()
	}
	for {
		a, err := p.locator.ask(ctx, t)
		if err != nil {
			return position{}, err
		}
		if a.err == nil {
			rank, err := rankOf(a, t.Begin)
			if err == nil && !p.opts.AllowForeign && a.highWatermark-t.Begin > rank {
				err = &ForeignWriteError{t.Topic, t.Partition, t.Begin + rank, a.highWatermark}
			}
			if err == nil && !a.known && rank > 0 && t.Confirm != nil {
				rank, err = t.Confirm(ctx, rank)
			}
			var foreign *ForeignWriteError
			if errors.As(err, &foreign) {
				foreign.Topic, foreign.Partition = t.Topic, t.Partition
			}
			return position{leader: a.leader, rank: rank, highWatermark: a.highWatermark}, err
		}
		var refused *PartitionError
		if errors.As(a.err, &refused) {
			refused.Op, refused.Offset = "produce", -1
			return position{}, refused
		}
		if d := time.Since(since); d > p.opts.StallTimeout {
			if gone(a.err) {
				return position{}, &PartitionError{"produce", t.Topic, t.Partition, -1, a.err, "the target topic was deleted meanwhile"}
			}
			return position{}, &StallError{Op: "produce", Topic: t.Topic, Partition: t.Partition, Offset: -1, End: -1, For: d, Err: a.err}
		}
		if err := pause(ctx, retryPause); err != nil {
			return position{}, err
		}
	}
}

// rankOf turns a leader's answer into a rank. Sequence numbers start again
// after 2^31, so the last sequence fixes the rank only up to a multiple of
// that; the high watermark, which is never far from the log's end, says which.
// A producer id that the broker does not know (nothing written yet, or
// forgotten after producer.id.expiration.ms) leaves the high watermark alone
// to tell.
func rankOf(a located, begin int64) (int64, error) {
	estimate := a.highWatermark - begin
	if estimate < 0 {
		return 0, &ForeignWriteError{Expected: begin, Found: a.highWatermark}
	}
	if !a.known {
		return estimate, nil
	}
	off := (int64(a.lastSequence) + 1 - estimate) % sequences
	if off > sequences/2 {
		off -= sequences
	} else if off < -sequences/2 {
		off += sequences
	}
	return max(estimate+off, 0), nil
}

// locator gathers questions and asks each leader once for many partitions.
type locator struct {
	cl         *kgo.Client
	producerID int64
	in         chan question
	stopped    chan struct{}
}

type question struct {
	t      *ProducePartition
	answer chan<- located
}

func newLocator(cl *kgo.Client, producerID int64) *locator {
	return &locator{cl: cl, producerID: producerID, in: make(chan question, 4096), stopped: make(chan struct{})}
}

func (l *locator) stop() { close(l.stopped) }

func (l *locator) ask(ctx context.Context, t *ProducePartition) (located, error) {
	c := make(chan located, 1)
	select {
	case l.in <- question{t, c}:
	case <-ctx.Done():
		return located{}, ctx.Err()
	}
	select {
	case a := <-c:
		return a, nil
	case <-ctx.Done():
		return located{}, ctx.Err()
	}
}

func (l *locator) run(ctx context.Context) error {
	for {
		var qs []question
		select {
		case q := <-l.in:
			qs = append(qs, q)
		case <-l.stopped:
			return nil
		case <-ctx.Done():
			return nil
		}
		// Questions come in crowds: give the rest of this one a moment.
		gather := time.NewTimer(2 * time.Millisecond)
		for waiting := true; waiting && len(qs) < 5000; {
			select {
			case q := <-l.in:
				qs = append(qs, q)
			case <-gather.C:
				waiting = false
			}
		}
		gather.Stop()
		l.answer(ctx, qs)
	}
}

// answer asks the leaders and answers every question.
func (l *locator) answer(ctx context.Context, qs []question) {
	topics := map[string]struct{}{}
	for _, q := range qs {
		topics[q.t.Topic] = struct{}{}
	}
	leaders, _ := partitionLeaders(ctx, l.cl, topics)
	byBroker := map[int32][]question{}
	for _, q := range qs {
		b, err := leaders.of(q.t.Topic, q.t.TopicID, q.t.Partition)
		if err != nil {
			q.answer <- located{err: err}
			continue
		}
		byBroker[b] = append(byBroker[b], q)
	}
	done := make(chan struct{})
	for b, qs := range byBroker {
		go func() {
			l.askBroker(ctx, b, qs)
			done <- struct{}{}
		}()
	}
	for range byBroker {
		<-done
	}
}

func (l *locator) askBroker(ctx context.Context, broker int32, qs []question) {
	// The high watermark first: what the restore itself produces between the
	// two questions then raises only the sequence, and is not taken for
	// somebody else's.
	marks, err := l.highWatermarks(ctx, broker, qs)
	var states map[partitionKey]located
	if err == nil {
		states, err = l.producers(ctx, broker, qs)
	}
	for _, q := range qs {
		k := partitionKey{topic: q.t.Topic, partition: q.t.Partition}
		a := located{leader: broker, err: err}
		if err == nil {
			m, ok := marks[k]
			switch {
			case !ok:
				a.err = errors.New("list offsets: the answer leaves the partition out")
			case m.err != nil:
				a.err = m.err
			default:
				s := states[k]
				a.highWatermark, a.known, a.lastSequence, a.err = m.highWatermark, s.known, s.lastSequence, s.err
			}
		}
		q.answer <- a
	}
}

func (l *locator) highWatermarks(ctx context.Context, broker int32, qs []question) (map[partitionKey]located, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	at := map[string]int{}
	for _, q := range qs {
		i, ok := at[q.t.Topic]
		if !ok {
			i = len(req.Topics)
			at[q.t.Topic] = i
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = q.t.Topic
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = q.t.Partition, -1
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	r, err := l.cl.Broker(int(broker)).Request(ctx, req)
	if err != nil {
		return nil, err
	}
	m := make(map[partitionKey]located, len(qs))
	for _, t := range r.(*kmsg.ListOffsetsResponse).Topics {
		for _, p := range t.Partitions {
			m[partitionKey{topic: t.Topic, partition: p.Partition}] = located{highWatermark: p.Offset, err: kerr.ErrorForCode(p.ErrorCode)}
		}
	}
	return m, nil
}

// knows asks a broker whether it knows a request.
func (l *locator) knows(ctx context.Context, broker int32, key kmsg.Key) (bool, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "kafka-backup", "1"
	r, err := l.cl.Broker(int(broker)).Request(ctx, req)
	if err != nil {
		return false, err
	}
	resp := r.(*kmsg.ApiVersionsResponse)
	for _, k := range resp.ApiKeys {
		if k.ApiKey == key.Int16() {
			return true, nil
		}
	}
	return false, kerr.ErrorForCode(resp.ErrorCode)
}

// producers asks for the last sequence of the restore's producer id
// (DescribeProducers, KIP-664). A broker that does not know the request
// answers nothing, and the high watermark decides.
func (l *locator) producers(ctx context.Context, broker int32, qs []question) (map[partitionKey]located, error) {
	req := kmsg.NewPtrDescribeProducersRequest()
	at := map[string]int{}
	for _, q := range qs {
		i, ok := at[q.t.Topic]
		if !ok {
			i = len(req.Topics)
			at[q.t.Topic] = i
			t := kmsg.NewDescribeProducersRequestTopic()
			t.Topic = q.t.Topic
			req.Topics = append(req.Topics, t)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, q.t.Partition)
	}
	m := make(map[partitionKey]located, len(qs))
	r, err := l.cl.Broker(int(broker)).Request(ctx, req)
	if err != nil {
		if known, verr := l.knows(ctx, broker, kmsg.DescribeProducers); verr == nil && !known {
			return m, nil
		}
		return nil, err
	}
	for _, t := range r.(*kmsg.DescribeProducersResponse).Topics {
		for _, p := range t.Partitions {
			s := located{err: kerr.ErrorForCode(p.ErrorCode)}
			if errors.Is(s.err, kerr.TopicAuthorizationFailed) {
				s.err = &PartitionError{Topic: t.Topic, Partition: p.Partition, Err: s.err, Hint: "the principal needs READ on the topic, to see how far the restore is"}
			}
			for _, a := range p.ActiveProducers {
				if a.ProducerID == l.producerID {
					s.known, s.lastSequence = true, a.LastSequence
				}
			}
			m[partitionKey{topic: t.Topic, partition: p.Partition}] = s
		}
	}
	return m, nil
}
