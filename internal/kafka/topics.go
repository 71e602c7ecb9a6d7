package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxNewPartitions is how many partitions one request creates. Controllers (KRaft) refuse more than
// 10,000 at once.
const maxNewPartitions = 2000

// adminTimeout is how long a controller may take over one request.
const adminTimeout = 30 * time.Second

// NewTopic is a topic to be created.
type NewTopic struct {
	Name              string
	Partitions        int32             // at least 1
	ReplicationFactor int16             // -1: the cluster's default
	Config            map[string]string // set on the topic; what is not named has the cluster's default
}

// CreatedTopic is what became of a [NewTopic].
type CreatedTopic struct {
	Name    string
	ID      TopicID // zero when Existed, or when the brokers have no topic ids
	Existed bool    // there was a topic of that name already; it was left as it is
}

// CreateTopics creates topics. One that exists is reported as such, and is no error. With validateOnly
// nothing is created, but everything is checked by the controller. It needs CREATE on the cluster or the
// topics. The topics that could not be created are in a [*PartialError], the others in the result, by
// name.
//
// A topic that was created is not known to all brokers at once; see [Cluster.AwaitTopics].
func (c *Cluster) CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) (map[string]CreatedTopic, error) {
	const op = "create topics"
	byName := make(map[string]NewTopic, len(topics))
	for _, t := range topics {
		byName[t.Name] = t
	}
	created := make(map[string]CreatedTopic, len(topics))
	var failed []*Error
	for _, names := range byPartitions(byName) {
		err := c.byTopic(ctx, op, names, func(names []string, failed map[string]failure) error {
			req := kmsg.NewPtrCreateTopicsRequest()
			req.TimeoutMillis, req.ValidateOnly = int32(adminTimeout/time.Millisecond), validateOnly
			for _, name := range names {
				t := kmsg.NewCreateTopicsRequestTopic()
				t.Topic, t.NumPartitions, t.ReplicationFactor = name, byName[name].Partitions, byName[name].ReplicationFactor
				for _, key := range sortedKeys(byName[name].Config) {
					e := kmsg.NewCreateTopicsRequestTopicConfig()
					e.Name, e.Value = key, kmsg.StringPtr(byName[name].Config[key])
					t.Configs = append(t.Configs, e)
				}
				req.Topics = append(req.Topics, t)
			}
			resp, err := req.RequestWith(ctx, c.client)
			if err != nil {
				return err
			}
			for _, t := range resp.Topics {
				switch err := kerr.ErrorForCode(t.ErrorCode); {
				case err == nil:
					created[t.Topic] = CreatedTopic{Name: t.Topic, ID: t.TopicID}
				case errors.Is(err, kerr.TopicAlreadyExists):
					// Also what a request finds that was repeated after its answer got lost.
					created[t.Topic] = CreatedTopic{Name: t.Topic, Existed: true}
				default:
					failed[t.Topic] = failure{err, text(t.ErrorMessage)}
					continue
				}
				delete(failed, t.Topic)
			}
			return nil
		})
		if failed, err = gather(failed, err); err != nil {
			return created, err
		}
	}
	return created, partial(op, failed)
}

// gather adds the failures of a *PartialError to a list and returns any other error.
func gather(failed []*Error, err error) ([]*Error, error) {
	var pe *PartialError
	if errors.As(err, &pe) {
		return append(failed, pe.Failed...), nil
	}
	return failed, err
}

// byPartitions cuts topics into requests of a bounded number of partitions.
func byPartitions(topics map[string]NewTopic) [][]string {
	var requests [][]string
	room := int32(0)
	for _, name := range sortedKeys(topics) {
		if n := topics[name].Partitions; n > room || len(requests) == 0 {
			requests, room = append(requests, nil), maxNewPartitions
		}
		last := &requests[len(requests)-1]
		*last = append(*last, name)
		room -= topics[name].Partitions
	}
	return requests
}

// CreatePartitions raises the partition counts of topics, by name, to the counts given (KIP-195). It
// needs ALTER on each topic. A topic that has that count already is left as it is. What failed is in a
// [*PartialError]; a topic with more partitions fails with [ErrMorePartitions].
func (c *Cluster) CreatePartitions(ctx context.Context, counts map[string]int32) error {
	const op = "create partitions"
	have, err := c.DescribeTopics(ctx, sortedKeys(counts))
	if err != nil {
		return err
	}
	var names []string
	var more []*Error
	for _, name := range sortedKeys(counts) {
		switch t, ok := have[name]; {
		case ok && len(t.Partitions) > int(counts[name]):
			more = append(more, topicError(op, name, fits(t, counts[name], -1)))
		case !ok || len(t.Partitions) < int(counts[name]):
			names = append(names, name)
		}
	}
	err = c.byTopic(ctx, op, names, func(names []string, failed map[string]failure) error {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.TimeoutMillis = int32(adminTimeout / time.Millisecond)
		for _, name := range names {
			t := kmsg.NewCreatePartitionsRequestTopic()
			t.Topic, t.Count = name, counts[name]
			req.Topics = append(req.Topics, t)
		}
		resp, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			delete(failed, t.Topic)
			if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
				failed[t.Topic] = failure{err, text(t.ErrorMessage)}
			}
		}
		return nil
	})
	if more, err = gather(more, err); err != nil {
		return err
	}
	return partial(op, more)
}

// DeleteTopics deletes topics by name. It needs DELETE on each. One that does not exist is no error.
// What failed is in a [*PartialError].
func (c *Cluster) DeleteTopics(ctx context.Context, names []string) error {
	return c.byTopic(ctx, "delete topics", names, func(names []string, failed map[string]failure) error {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.TimeoutMillis = int32(adminTimeout / time.Millisecond)
		for _, name := range names {
			req.TopicNames = append(req.TopicNames, name) // until version 5
			t := kmsg.NewDeleteTopicsRequestTopic()
			t.Topic = kmsg.StringPtr(name)
			req.Topics = append(req.Topics, t)
		}
		resp, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			if t.Topic == nil {
				continue // we never ask by id
			}
			delete(failed, *t.Topic)
			if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !missing(err) {
				failed[*t.Topic] = failure{err, text(t.ErrorMessage)}
			}
		}
		return nil
	})
}

// AwaitTopics waits until every broker that can be reached knows the topics with the given partition
// counts, and each partition has a leader that answers; it then returns the topics. It gives up, with a
// [*PartialError] that says what each topic lacks, when ctx ends, or when for 45 s no topic came nearer
// (a broker takes its time to make thousands of partitions). A topic that has more partitions than given
// fails with [ErrMorePartitions] at once.
func (c *Cluster) AwaitTopics(ctx context.Context, counts map[string]int32) (map[string]Topic, error) {
	const op = "await topics"
	begin := time.Now()
	open := sortedKeys(counts)
	ready := make(map[string]Topic, len(counts))
	for wait := metadataMinAge / 2; len(open) > 0; wait = min(2*wait, time.Second) {
		lacks := map[string]error{}
		for _, names := range chunks(open, maxTopicsPerRequest) {
			c.look(ctx, names, counts, ready, lacks)
		}
		var failed []*Error
		for _, name := range open {
			if err, ok := lacks[name]; ok {
				failed = append(failed, topicError(op, name, err))
			}
		}
		if len(lacks) < len(open) {
			begin = time.Now() // it goes on
		}
		open = sortedKeys(lacks)
		for _, err := range lacks {
			if errors.Is(err, ErrMorePartitions) || Unauthorized(err) {
				return ready, partial(op, failed)
			}
		}
		if len(open) > 0 && (time.Since(begin)+wait > c.patience || !sleep(ctx, wait)) {
			return ready, partial(op, failed)
		}
	}
	var topics []Topic
	for _, name := range sortedKeys(ready) {
		topics = append(topics, ready[name])
	}
	_, err := c.EndOffsets(ctx, partitionsOf(topics))
	return ready, err
}

// look asks all brokers about topics, and notes those that are as they should be and what the others lack.
func (c *Cluster) look(ctx context.Context, names []string, counts map[string]int32, ready map[string]Topic, lacks map[string]error) {
	// Brokers come from an answer of this moment, so that one that has left is not waited for.
	some, err := metadataRequest(names).RequestWith(ctx, c.client)
	if err != nil {
		for _, name := range names {
			lacks[name] = err
		}
		return
	}
	reached := 0
	judge := func(resp *kmsg.MetadataResponse, broker int32) {
		reached++
		topics, failed := readMetadata(resp)
		seen := map[string]bool{}
		for _, t := range topics {
			seen[t.Name] = true
			if err := fits(t, counts[t.Name], broker); err != nil {
				lacks[t.Name] = err
			} else {
				ready[t.Name] = t
			}
		}
		for _, e := range failed {
			seen[e.Topic] = true
			lacks[e.Topic] = e.Err
		}
		for _, name := range names {
			if !seen[name] {
				lacks[name] = kerr.UnknownTopicOrPartition
			}
		}
	}
	each(some.Brokers, func(b kmsg.MetadataResponseBroker) func() {
		resp, err := c.client.Broker(int(b.NodeID)).Request(ctx, metadataRequest(names))
		return func() {
			if err == nil { // a broker that is down takes part in nothing
				judge(resp.(*kmsg.MetadataResponse), b.NodeID)
			}
		}
	})
	if reached == 0 {
		judge(some, -1)
	}
}

func fits(t Topic, count int32, broker int32) error {
	switch n := int32(len(t.Partitions)); {
	case n > count:
		return fmt.Errorf("%w: %d and not %d", ErrMorePartitions, n, count)
	case n < count:
		return fmt.Errorf("broker %d knows %d of %d partitions", broker, n, count)
	}
	if bad := t.leaderless(); len(bad) > 0 {
		return fmt.Errorf("%d partitions have no leader: %w", len(bad), kerr.LeaderNotAvailable)
	}
	return nil
}
