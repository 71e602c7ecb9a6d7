package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ProducerState is what a partition's leader remembers of one producer id.
type ProducerState struct {
	// Known is false when the leader does not list the producer id: it has not written to the
	// partition, was forgotten (producer.id.expiration.ms), or the broker does not list such producers.
	Known         bool
	Epoch         int32
	LastSequence  int32 // of the last record that was accepted; -1 for none
	LastTimestamp int64 // of the last record, epoch milliseconds
	// Others is how many other producer ids the leader lists.
	Others int
}

// DescribeProducers asks the leader of each partition (KIP-664, brokers from 2.8 on) for what it
// remembers of a producer id. It needs the right to READ the topics. What failed is in a
// [*PartialError]; on brokers that do not know the request all fails with kerr.UnsupportedVersion.
func (c *Cluster) DescribeProducers(ctx context.Context, producerID int64, parts []TopicPartition) (map[TopicPartition]ProducerState, error) {
	const op = "describe producers"
	if !c.Supports(kmsg.DescribeProducers, 0) {
		failed := make([]*Error, len(parts))
		for i, tp := range parts {
			failed[i] = partitionError(op, tp, kerr.UnsupportedVersion)
		}
		return nil, partial(op, failed)
	}
	// An answer lists every producer of a partition, so fewer partitions are asked for at once.
	return byPartition(ctx, c, op, maxPartitionsPerRequest/5, parts, func(ctx context.Context, parts []TopicPartition, a *answers[ProducerState]) {
		req := kmsg.NewPtrDescribeProducersRequest()
		topics, partitions := byTopic(parts)
		for _, topic := range topics {
			t := kmsg.NewDescribeProducersRequestTopic()
			t.Topic, t.Partitions = topic, partitions[topic]
			req.Topics = append(req.Topics, t)
		}
		ask(ctx, c, req, a, func(req *kmsg.DescribeProducersRequest, about func(string, int32)) {
			for _, t := range req.Topics {
				for _, p := range t.Partitions {
					about(t.Topic, p)
				}
			}
		}, func(resp *kmsg.DescribeProducersResponse, says func(string, int32, int16, ProducerState)) {
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					says(t.Topic, p.Partition, p.ErrorCode, producerState(producerID, p.ActiveProducers))
				}
			}
		})
	})
}

func producerState(id int64, active []kmsg.DescribeProducersResponseTopicPartitionActiveProducer) ProducerState {
	s := ProducerState{LastSequence: -1, LastTimestamp: -1}
	for _, p := range active {
		if p.ProducerID != id {
			s.Others++
			continue
		}
		s.Known, s.Epoch, s.LastSequence, s.LastTimestamp = true, p.ProducerEpoch, p.LastSequence, p.LastTimestamp
	}
	return s
}

// InitProducerID takes a new producer id that belongs to no transactional id (KIP-98). It needs
// WRITE on some topic, or IDEMPOTENT_WRITE on the cluster before 2.8.
func (c *Cluster) InitProducerID(ctx context.Context) (id int64, epoch int16, err error) {
	err = patiently(ctx, c, func() error {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.ProducerID, req.ProducerEpoch = -1, -1
		resp, err := req.RequestWith(ctx, c.client)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			return &Error{Op: "take a producer id", Partition: -1, Broker: -1, Err: err}
		}
		id, epoch = resp.ProducerID, resp.ProducerEpoch
		return nil
	})
	return id, epoch, err
}
