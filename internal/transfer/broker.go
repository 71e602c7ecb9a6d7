package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/time/rate"
)

// leaderMap is who leads what, by topic name.
type leaderMap map[string]topicLeaders

type topicLeaders struct {
	id      [16]byte
	err     error
	leaders map[int32]int32
}

// of returns the broker that leads a partition. A *PartitionError means that
// looking again will not help.
func (m leaderMap) of(topic string, id [16]byte, partition int32) (int32, error) {
	t, ok := m[topic]
	if !ok {
		return -1, kerr.UnknownTopicOrPartition
	}
	if errors.Is(t.err, kerr.TopicAuthorizationFailed) {
		return -1, &PartitionError{Topic: topic, Partition: partition, Err: t.err, Hint: "the principal needs DESCRIBE on the topic"}
	}
	if t.err != nil {
		return -1, t.err
	}
	if id != ([16]byte{}) && t.id != ([16]byte{}) && id != t.id {
		return -1, &PartitionError{Topic: topic, Partition: partition, Err: kerr.InconsistentTopicID,
			Hint: "the topic was deleted and created again under the same name: it is another topic now"}
	}
	leader, ok := t.leaders[partition]
	if !ok || leader < 0 {
		return -1, kerr.LeaderNotAvailable
	}
	return leader, nil
}

// gone tells whether an error that has lasted says that the topic is no more.
func gone(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}

// partitionLeaders asks for the leaders of topics; kgo's cache is not used,
// since it is asked when the cache was wrong. The only error is that ctx ended:
// any other is every topic's, whose leader is then not known.
func partitionLeaders(ctx context.Context, cl *kgo.Client, topics map[string]struct{}) (leaderMap, error) {
	req := kmsg.NewPtrMetadataRequest()
	for name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	m := make(leaderMap, len(topics))
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		for name := range topics {
			m[name] = topicLeaders{err: err}
		}
		return m, ctx.Err()
	}
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		l := topicLeaders{id: t.TopicID, err: kerr.ErrorForCode(t.ErrorCode), leaders: make(map[int32]int32, len(t.Partitions))}
		for _, p := range t.Partitions {
			l.leaders[p.Partition] = p.Leader
		}
		m[*t.Topic] = l
	}
	return m, nil
}

func fetchTopics(states []*fetchState) map[string]struct{} {
	m := map[string]struct{}{}
	for _, s := range states {
		m[s.Topic] = struct{}{}
	}
	return m
}

// logBounds asks a leader for a partition's log start offset and high
// watermark.
func logBounds(ctx context.Context, cl *kgo.Client, broker int32, topic string, partition int32) (start, end int64, err error) {
	for i, ts := range []int64{-2, -1} {
		req := kmsg.NewPtrListOffsetsRequest()
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = partition, ts
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		r, err := cl.Broker(int(broker)).Request(ctx, req)
		if err != nil {
			return 0, 0, err
		}
		resp := r.(*kmsg.ListOffsetsResponse)
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return 0, 0, fmt.Errorf("list offsets of %s/%d: the answer leaves it out", topic, partition)
		}
		a := resp.Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(a.ErrorCode); err != nil {
			return 0, 0, fmt.Errorf("list offsets of %s/%d: %w", topic, partition, err)
		}
		if i == 0 {
			start = a.Offset
		} else {
			end = a.Offset
		}
	}
	return start, end, nil
}

// pause waits for d or for ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitRate takes n from the limiter, in bites it allows.
func waitRate(ctx context.Context, l *rate.Limiter, n int) error {
	for n > 0 {
		bite := min(n, l.Burst())
		if err := l.WaitN(ctx, bite); err != nil {
			return err
		}
		n -= bite
	}
	return nil
}
