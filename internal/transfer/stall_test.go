package transfer

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"golang.org/x/time/rate"
)

// A cluster that cannot be reached says nothing about its topics.
func TestAnUnreachableClusterHasNotLostItsTopics(t *testing.T) {
	c, _ := cluster(t, 1, map[string]int32{"a": 1})
	cl := client(t, c, kgo.RequestRetries(0))
	fill(t, cl, "a", 1, 10)
	parts, ts := plan(t, cl, "a", 1, 10), targets(t, cl, "a", 1, 10)
	c.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, errors.New("connection cut by the test"), true
	})
	const soon = 500 * time.Millisecond
	var stall *StallError
	if err := Fetch(deadline(t), cl, parts, FetchOptions{StallTimeout: soon}, new(collected).sink); !errors.As(err, &stall) {
		t.Errorf("fetch: got %v, want a StallError", err)
	}
	if err := Produce(deadline(t), cl, ts, ProduceOptions{StallTimeout: soon}, func(Acked) {}); !errors.As(err, &stall) {
		t.Errorf("produce: got %v, want a StallError", err)
	}
}

// A topic that its cluster does not know for long is gone.
func TestATopicThatWasDeletedIsSaidToBeGone(t *testing.T) {
	_, cl := cluster(t, 1, map[string]int32{"a": 1})
	missing := []FetchPartition{{Topic: "nope", End: 10, LeaderEpoch: -1}}
	var refused *PartitionError
	err := Fetch(deadline(t), cl, missing, FetchOptions{StallTimeout: 500 * time.Millisecond}, new(collected).sink)
	if !errors.As(err, &refused) || !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("got %v", err)
	}
}

// Waiting for one's turn, be it for much longer than the stall timeout, is no
// stall.
func TestAPartitionThatWaitsForItsTurnDoesNotStall(t *testing.T) {
	_, cl := cluster(t, 1, map[string]int32{"a": 40})
	want := fill(t, cl, "a", 40, 30)
	var got collected
	opts := FetchOptions{MaxBytes: 2048, Lanes: 1, StallTimeout: 100 * time.Millisecond, Rate: rate.NewLimiter(20<<10, 2048)}
	if err := Fetch(deadline(t), cl, plan(t, cl, "a", 40, 30), opts, got.sink); err != nil {
		t.Fatal(err)
	}
	for p := range want {
		same(t, fmt.Sprintf("partition %d", p), got.values[p], want[p])
	}
}

// A lane that gives partitions back takes new ones meanwhile: else it and the
// router could wait for each other.
func TestALaneThatGivesBackTakesMeanwhile(t *testing.T) {
	f := &fetcher{stray: make(chan []*fetchState)}
	l := &fetchLane{fetcher: f, in: make(chan []*fetchState)}
	released := make(chan error, 1)
	go func() { released <- l.release(deadline(t), []*fetchState{{index: 1}}) }()
	select {
	case l.in <- []*fetchState{{index: 2}}:
	case <-time.After(10 * time.Second):
		t.Fatal("it takes nothing while it gives back")
	}
	if back := <-f.stray; len(back) != 1 || back[0].index != 1 {
		t.Errorf("gave back %v", back)
	}
	if err := <-released; err != nil || len(l.todo) != 1 || l.todo[0].index != 2 {
		t.Errorf("%v, to do: %v", err, l.todo)
	}
}

// Brokers before 2.8 do not know DescribeProducers: the log's end tells.
func TestProduceToABrokerThatDoesNotDescribeProducers(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "a"), kfake.MaxVersions(kversion.V2_7_0()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cl := client(t, c)
	id, _ := producerID(t, cl)
	ts := targets(t, cl, "a", 2, 100)
	if err := Produce(deadline(t), cl, ts, ProduceOptions{ProducerID: id, StallTimeout: 5 * time.Second}, func(Acked) {}); err != nil {
		t.Fatal(err)
	}
	written(t, cl, "a", 2, 100)
}

// Records that the leader has but its replicas do not get are no end.
func TestProduceDoesNotWaitForEverForTheHighWatermark(t *testing.T) {
	c, cl := cluster(t, 1, map[string]int32{"a": 1})
	id, _ := producerID(t, cl)
	ts := targets(t, cl, "a", 1, 10)
	c.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return listed(req.(*kmsg.ListOffsetsRequest), 5), nil, true
	})
	c.ControlKey(int16(kmsg.DescribeProducers), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := req.(*kmsg.DescribeProducersRequest)
		resp := r.ResponseKind().(*kmsg.DescribeProducersResponse)
		rt := kmsg.NewDescribeProducersResponseTopic()
		rt.Topic = r.Topics[0].Topic
		rp := kmsg.NewDescribeProducersResponseTopicPartition()
		active := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		active.ProducerID, active.LastSequence = id, 9
		rp.ActiveProducers = append(rp.ActiveProducers, active)
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	var stall *StallError
	err := Produce(deadline(t), cl, ts, ProduceOptions{ProducerID: id, StallTimeout: 500 * time.Millisecond}, func(Acked) {})
	if !errors.As(err, &stall) {
		t.Errorf("got %v, want a StallError", err)
	}
}

// listed is an answer in which every partition ends at the same offset.
func listed(r *kmsg.ListOffsetsRequest, end int64) kmsg.Response {
	resp := r.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, t := range r.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Offset = p.Partition, end
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
