package transfer

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/telemetry"
)

// produceLane carries batches for many partitions to one broker, one request
// at a time. While a request is under way the next one fills up.
type produceLane struct {
	p      *producer
	broker int32
	in     chan shipment
}

// shipment is one stamped batch for one partition. Its answer always comes.
type shipment struct {
	t      *ProducePartition
	batch  recordbatch.Batch
	answer chan<- produced
}

// produced is the broker's answer for one batch.
type produced struct {
	base     int64
	err      error
	message  string
	answered bool // the broker answered: nothing reads the batch any more
}

func (p *producer) lane(broker int32, index int) (*produceLane, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lanes == nil {
		return nil, context.Canceled
	}
	k := laneKey{broker, index % p.opts.Lanes}
	l := p.lanes[k]
	if l == nil {
		l = &produceLane{p: p, broker: broker, in: make(chan shipment, p.opts.MaxPartitions)}
		p.lanes[k] = l
		p.wg.Go(l.run)
	}
	return l, nil
}

// stopLanes ends the lanes; nobody may hold a shipment any more.
func (p *producer) stopLanes() {
	p.mu.Lock()
	for _, l := range p.lanes {
		close(l.in)
	}
	p.lanes = nil
	p.mu.Unlock()
	p.wg.Wait()
}

func (l *produceLane) run() {
	var held *shipment
	for {
		var load []shipment
		size := 0
		if held != nil {
			load, size, held = append(load, *held), len(held.batch), nil
		} else {
			s, ok := <-l.in
			if !ok {
				return
			}
			load, size = append(load, s), len(s.batch)
		}
	fill:
		for size < l.p.opts.MaxRequestBytes {
			select {
			case s, ok := <-l.in:
				if !ok {
					break fill
				}
				if size+len(s.batch) > l.p.opts.MaxRequestBytes {
					held = &s
					break fill
				}
				load, size = append(load, s), size+len(s.batch)
			default:
				break fill
			}
		}
		l.ship(load)
	}
}

// ship sends one request and answers every shipment. The request is not
// abandoned when the operation is cancelled: its answer tells where the log
// ends.
func (l *produceLane) ship(load []shipment) {
	req := kmsg.NewPtrProduceRequest()
	req.Acks = -1
	req.TimeoutMillis = int32(l.p.opts.Timeout.Milliseconds())
	topics := map[[16]byte]int{}
	for _, s := range load {
		i, ok := topics[s.t.TopicID]
		if !ok || req.Topics[i].Topic != s.t.Topic {
			i = len(req.Topics)
			topics[s.t.TopicID] = i
			t := kmsg.NewProduceRequestTopic()
			t.Topic, t.TopicID = s.t.Topic, s.t.TopicID
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = s.t.Partition, s.batch
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.p.ctx), 2*l.p.opts.Timeout)
	defer cancel()
	began := time.Now()
	r, err := l.p.cl.Broker(int(l.broker)).Request(ctx, req)
	telemetry.ProduceDone(began)
	if err != nil {
		for _, s := range load {
			s.answer <- produced{err: err}
		}
		return
	}
	resp := r.(*kmsg.ProduceResponse)
	byID := resp.Version >= 13
	answers := make(map[partitionKey]produced, len(load))
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			a := produced{base: p.BaseOffset, err: kerr.ErrorForCode(p.ErrorCode), answered: true}
			if a.err == nil && p.LogAppendTime >= 0 {
				// The restore holds this off; somebody has changed it since.
				a.err, a.message = kerr.InvalidTimestamp, "the broker replaced the records' timestamps: message.timestamp.type of the target topic was changed during the restore; delete the topic and restore it again"
			}
			if p.ErrorMessage != nil {
				a.message = *p.ErrorMessage
			}
			for _, e := range p.ErrorRecords {
				if e.ErrorMessage != nil {
					a.message = *e.ErrorMessage
				}
			}
			k := partitionKey{topic: t.Topic, partition: p.Partition}
			if byID {
				k = partitionKey{id: t.TopicID, partition: p.Partition}
			}
			answers[k] = a
		}
	}
	for _, s := range load {
		k := partitionKey{topic: s.t.Topic, partition: s.t.Partition}
		if byID {
			k = partitionKey{id: s.t.TopicID, partition: s.t.Partition}
		}
		a, ok := answers[k]
		if !ok {
			a = produced{err: errors.New("the broker's answer leaves the partition out"), answered: true}
		}
		s.answer <- a
	}
}
