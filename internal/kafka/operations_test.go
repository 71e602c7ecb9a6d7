package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

func tp(topic string, partition int32) TopicPartition { return TopicPartition{topic, partition} }

func produce(t *testing.T, c *Cluster, topic string, partition int32, n int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.client.OptValue(kgo.SeedBrokers).([]string)...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range n {
		r := &kgo.Record{Topic: topic, Partition: partition, Value: fmt.Append(nil, i)}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// failures returns the failures of a PartialError.
func failures(t *testing.T, err error) []*Error {
	t.Helper()
	var pe *PartialError
	if !errors.As(err, &pe) {
		t.Fatalf("not a PartialError: %v", err)
	}
	return pe.Failed
}

func TestDiscover(t *testing.T) {
	cluster, address := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(4, "orders"), kfake.SeedTopics(2, "orders-dlq", "payments"))
	c := connect(t, address, config.Security{})
	produce(t, c, "orders", 1, 10)
	if err := cluster.DeleteRecords("orders", 1, 3); err != nil {
		t.Fatal(err)
	}
	ms := "60000"
	if err := c.AlterTopicConfigs(t.Context(), map[string]map[string]*string{"orders": {"retention.ms": &ms}}); err != nil {
		t.Fatal(err)
	}
	d, err := c.Discover(t.Context(), config.TopicFilter{Include: []string{"orders*"}, Exclude: []string{"*-dlq"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Topics) != 1 || d.Topics[0].Name != "orders" || len(d.Topics[0].Partitions) != 4 {
		t.Fatalf("%+v", d.Topics)
	}
	topic := d.Topics[0]
	if topic.ID == (TopicID{}) || topic.ID != TopicID(cluster.TopicInfo("orders").TopicID) || topic.ReplicationFactor < 1 || topic.Config["retention.ms"] != ms {
		t.Errorf("%+v", topic)
	}
	p := topic.Partitions[1]
	if p.LogStart != 3 || p.HighWatermark != 10 || p.LastStable != 10 || p.Leader != cluster.LeaderFor("orders", 1) || p.LeaderEpoch < 0 {
		t.Errorf("%+v", p)
	}
	if q := topic.Partitions[0]; q.LogStart != 0 || q.HighWatermark != 0 {
		t.Errorf("%+v", q)
	}
}

func TestDiscoverSeesOpenTransactions(t *testing.T) {
	_, address := fake(t, kfake.SeedTopics(1, "orders"))
	c := connect(t, address, config.Security{})
	produce(t, c, "orders", 0, 5)
	txn, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.TransactionalID("open"))
	if err != nil {
		t.Fatal(err)
	}
	defer txn.Close()
	if err := txn.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := txn.ProduceSync(t.Context(), &kgo.Record{Topic: "orders"}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	d, err := c.Discover(t.Context(), config.TopicFilter{}, false)
	if err != nil {
		t.Fatal(err)
	}
	if p := d.Topics[0].Partitions[0]; p.LastStable != 5 || p.HighWatermark != 6 {
		t.Errorf("last stable offset %d, high watermark %d", p.LastStable, p.HighWatermark)
	}
}

func TestDiscoverNamesWhatIsMissing(t *testing.T) {
	_, address := fake(t, kfake.SeedTopics(1, "orders"))
	c := connect(t, address, config.Security{})
	_, err := c.Discover(t.Context(), config.TopicFilter{Include: []string{"orders", "nope", "no-*"}}, false)
	failed := failures(t, err)
	if len(failed) != 1 || failed[0].Topic != "nope" || !errors.Is(err, kerr.UnknownTopicOrPartition) || Retryable(err) {
		t.Errorf("%v", err)
	}
	d, err := c.Discover(t.Context(), config.TopicFilter{Include: []string{"nope", "no-*"}, Exclude: []string{"nope"}}, false)
	if err != nil || len(d.Topics) != 0 {
		t.Errorf("an excluded name: %v, %v", d, err)
	}
}

func TestDiscoverLeavesInternalTopicsOut(t *testing.T) {
	topics := []Topic{{Name: "orders"}, {Name: "__internal", Internal: true}}
	for _, tc := range []struct {
		filter   config.TopicFilter
		internal bool
		want     []string
	}{
		{config.TopicFilter{}, false, []string{"orders"}},
		{config.TopicFilter{}, true, []string{"__internal", "orders"}},
		{config.TopicFilter{Include: []string{"*"}}, false, []string{"orders"}},
		{config.TopicFilter{Include: []string{"o*", "__internal"}}, false, []string{"__internal", "orders"}},
		{config.TopicFilter{Include: []string{"__*"}}, true, []string{"__internal"}},
	} {
		var got []string
		for _, topic := range topics {
			if topic.SelectedBy(tc.filter, tc.internal) {
				got = append(got, topic.Name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%v, internal %v: %q and not %q", tc.filter, tc.internal, got, tc.want)
		}
	}
}

func TestOffsets(t *testing.T) {
	_, address := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(3, "orders"))
	c := connect(t, address, config.Security{})
	produce(t, c, "orders", 0, 7)
	got, err := c.EndOffsets(t.Context(), []TopicPartition{tp("orders", 0), tp("orders", 2), tp("orders", 3), tp("nope", 0)})
	if got[tp("orders", 0)].Offset != 7 || got[tp("orders", 2)].Offset != 0 || len(got) != 2 {
		t.Errorf("%v", got)
	}
	failed := failures(t, err)
	if len(failed) != 2 || failed[0].Topic != "orders" || failed[0].Partition != 3 || failed[1].Topic != "nope" || Retryable(err) {
		t.Errorf("%v", err)
	}
	later, err := c.OffsetsForTime(t.Context(), []TopicPartition{tp("orders", 0)}, time.Now().Add(time.Hour).UnixMilli())
	if err != nil || later[tp("orders", 0)].Offset != -1 {
		t.Errorf("%v, %v", later, err)
	}
}

// A leader that moved while requests are under way is found without the caller noticing.
func TestOffsetsFollowTheLeader(t *testing.T) {
	cluster, address := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "orders"))
	c := connect(t, address, config.Security{})
	for range 5 {
		next := (cluster.LeaderFor("orders", 0) + 1) % 3
		if err := cluster.MoveTopicPartition("orders", 0, next); err != nil {
			t.Fatal(err)
		}
		if _, err := c.EndOffsets(t.Context(), []TopicPartition{tp("orders", 0)}); err != nil {
			t.Fatal(err)
		}
	}
}

// One request a broker, however many partitions.
func TestRequestsAreBatched(t *testing.T) {
	const partitions = 2000
	cluster, address := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(partitions, "wide"))
	c := connect(t, address, config.Security{})
	var requests atomic.Int32
	for _, key := range []kmsg.Key{kmsg.ListOffsets, kmsg.DescribeProducers, kmsg.OffsetForLeaderEpoch, kmsg.OffsetCommit, kmsg.DescribeLogDirs} {
		cluster.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			requests.Add(1)
			return nil, nil, false
		})
	}
	topics, err := c.DescribeTopics(t.Context(), []string{"wide"})
	if err != nil {
		t.Fatal(err)
	}
	parts := partitionsOf([]Topic{topics["wide"]})
	points := make([]EpochPoint, len(parts))
	offsets := make([]CommittedOffset, len(parts))
	for i, p := range parts {
		points[i] = EpochPoint{TopicPartition: p}
		offsets[i] = CommittedOffset{Topic: p.Topic, Partition: p.Partition, Offset: int64(i), LeaderEpoch: -1}
	}
	for name, tc := range map[string]struct {
		most int32
		do   func() (int, error)
	}{
		"list offsets":       {3, func() (int, error) { r, err := c.EndOffsets(t.Context(), parts); return len(r), err }},
		"describe producers": {6, func() (int, error) { r, err := c.DescribeProducers(t.Context(), 1, parts); return len(r), err }},
		"check epochs":       {3, func() (int, error) { r, err := c.CheckEpochs(t.Context(), points); return len(r), err }},
		"sizes": {3, func() (int, error) {
			r, err := c.PartitionSizes(t.Context(), []Topic{topics["wide"]})
			return len(r), err
		}},
		"commit": {1, func() (int, error) {
			r, err := c.CommitOffsets(t.Context(), "g", offsets)
			for _, e := range r {
				err = errors.Join(err, e)
			}
			return len(r), err
		}},
	} {
		requests.Store(0)
		n, err := tc.do()
		if err != nil || n != partitions {
			t.Errorf("%s: %d answers, %v", name, n, err)
		}
		if got := requests.Load(); got > tc.most {
			t.Errorf("%s: %d requests and not at most %d", name, got, tc.most)
		}
	}
}

func TestJudgeEpoch(t *testing.T) {
	point := EpochPoint{LeaderEpoch: 5, EndOffset: 100}
	for _, tc := range []struct {
		epoch int32
		end   int64
		want  EpochState
	}{
		{5, 100, EpochSame},      // the log ends where reading ended
		{5, 250, EpochSame},      // it went on
		{5, 99, EpochTruncated},  // the last record is gone
		{4, 90, EpochTruncated},  // the epoch is gone
		{4, 120, EpochTruncated}, // another leader wrote other records there
		{-1, -1, EpochUnknown},
	} {
		if got := judgeEpoch(point, tc.epoch, tc.end); got.State != tc.want {
			t.Errorf("epoch %d ends at %d: %v and not %v", tc.epoch, tc.end, got.State, tc.want)
		}
	}
}

func TestCheckEpochs(t *testing.T) {
	_, address := fake(t, kfake.SeedTopics(3, "orders"))
	c := connect(t, address, config.Security{})
	produce(t, c, "orders", 0, 5)
	starts, err := c.EndOffsets(t.Context(), []TopicPartition{tp("orders", 0)})
	if err != nil {
		t.Fatal(err)
	}
	epoch := starts[tp("orders", 0)].LeaderEpoch
	got, err := c.CheckEpochs(t.Context(), []EpochPoint{{tp("orders", 0), epoch, 5}, {tp("orders", 1), epoch, 9}, {tp("orders", 2), -1, 0}})
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range []EpochState{EpochSame, EpochTruncated, EpochUnknown} {
		if g := got[tp("orders", int32(p))]; g.State != want {
			t.Errorf("partition %d: %+v", p, g)
		}
	}
}

func TestCreateTopics(t *testing.T) {
	_, address := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "there"))
	c := connect(t, address, config.Security{})
	topics := []NewTopic{
		{Name: "there", Partitions: 9, ReplicationFactor: 1},
		{Name: "new", Partitions: 5, ReplicationFactor: 3, Config: map[string]string{"cleanup.policy": "compact"}},
		{Name: "wrong", Partitions: 0, ReplicationFactor: 1},
	}
	if _, err := c.CreateTopics(t.Context(), topics[:2], true); err != nil {
		t.Fatal(err)
	}
	if found, err := c.DescribeTopics(t.Context(), []string{"new"}); err != nil || len(found) != 0 {
		t.Fatalf("validating only made %v, %v", found, err)
	}
	got, err := c.CreateTopics(t.Context(), topics, false)
	if failed := failures(t, err); len(failed) != 1 || failed[0].Topic != "wrong" || !errors.Is(err, kerr.InvalidPartitions) {
		t.Errorf("%v", err)
	}
	if !got["there"].Existed || got["new"].Existed || got["new"].ID == (TopicID{}) {
		t.Errorf("%+v", got)
	}
	ready, err := c.AwaitTopics(t.Context(), map[string]int32{"new": 5, "there": 1})
	if err != nil || ready["new"].ID != got["new"].ID || len(ready["there"].Partitions) != 1 {
		t.Errorf("%+v, %v", ready, err)
	}
	if err := c.CreatePartitions(t.Context(), map[string]int32{"there": 4, "new": 5}); err != nil {
		t.Error(err)
	}
	if _, err := c.AwaitTopics(t.Context(), map[string]int32{"there": 4}); err != nil {
		t.Error(err)
	}
	for _, err := range []error{c.CreatePartitions(t.Context(), map[string]int32{"there": 2}), second(c.AwaitTopics(t.Context(), map[string]int32{"there": 2}))} {
		if !errors.Is(err, ErrMorePartitions) || Retryable(err) {
			t.Errorf("too many partitions: %v", err)
		}
	}
	if err := c.DeleteTopics(t.Context(), []string{"new", "nope"}); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// A broker that does not know a new topic yet is waited for.
func TestAwaitTopicsWaitsForEveryBroker(t *testing.T) {
	cluster, address := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(2, "orders"))
	c := connect(t, address, config.Security{})
	var late atomic.Int32
	cluster.ControlKey(kmsg.Metadata.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := kreq.(*kmsg.MetadataRequest)
		if cluster.CurrentNode() != 2 || len(req.Topics) != 1 || late.Add(1) > 3 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		rt := kmsg.NewMetadataResponseTopic()
		rt.Topic, rt.ErrorCode = req.Topics[0].Topic, kerr.UnknownTopicOrPartition.Code
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	ready, err := c.AwaitTopics(t.Context(), map[string]int32{"orders": 2})
	if err != nil || len(ready) != 1 || late.Load() <= 3 {
		t.Errorf("%v, %v after %d questions", ready, err, late.Load())
	}
}

func TestAwaitTopicsGivesUp(t *testing.T) {
	_, address := fake(t, kfake.SeedTopics(2, "orders"))
	c := connect(t, address, config.Security{})
	c.patience = 200 * time.Millisecond
	ready, err := c.AwaitTopics(t.Context(), map[string]int32{"orders": 2, "nope": 1, "more": 3})
	if failed := failures(t, err); len(failed) != 2 || len(ready) != 1 {
		t.Errorf("%v, %v", ready, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.AwaitTopics(ctx, map[string]int32{"nope": 1}); err == nil {
		t.Error("no error although the context has ended")
	}
}

func TestCreateRequestsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topics := map[string]NewTopic{}
		for i, n := range rapid.SliceOf(rapid.Int32Range(1, 3*maxNewPartitions)).Draw(t, "partition counts") {
			name := fmt.Sprintf("t%d", i)
			topics[name] = NewTopic{Name: name, Partitions: n}
		}
		seen := 0
		for _, names := range byPartitions(topics) {
			sum := int32(0)
			for _, name := range names {
				sum += topics[name].Partitions
			}
			if len(names) == 0 || sum > maxNewPartitions && len(names) > 1 {
				t.Fatalf("%d partitions of %d topics in one request", sum, len(names))
			}
			seen += len(names)
		}
		if seen != len(topics) {
			t.Fatalf("%d of %d topics", seen, len(topics))
		}
	})
}

func TestTopicConfigs(t *testing.T) {
	_, address := fake(t, kfake.SeedTopics(1, "orders", "payments"))
	c := connect(t, address, config.Security{})
	set := func(v string) *string { return &v }
	err := c.AlterTopicConfigs(t.Context(), map[string]map[string]*string{
		"orders": {"retention.ms": set("1000"), "cleanup.policy": set("compact")}, "payments": {}, "nope": {"retention.ms": set("1")},
	})
	if failed := failures(t, err); len(failed) != 1 || failed[0].Topic != "nope" {
		t.Errorf("%v", err)
	}
	if err := c.AlterTopicConfigs(t.Context(), map[string]map[string]*string{"orders": {"retention.ms": nil}}); err != nil {
		t.Fatal(err)
	}
	got, err := c.TopicConfigs(t.Context(), []string{"orders", "payments"})
	if err != nil {
		t.Fatal(err)
	}
	if d := got["orders"].Dynamic(); len(d) != 1 || d["cleanup.policy"] != "compact" {
		t.Errorf("%v", d)
	}
	if e := got["orders"]["retention.ms"]; e.Dynamic || e.Value == "" {
		t.Errorf("the default is not there: %+v", e)
	}
	if d := got["payments"].Dynamic(); d == nil || len(d) != 0 {
		t.Errorf("%v", d)
	}
}

func TestProducers(t *testing.T) {
	_, address := fake(t, kfake.SeedTopics(1, "orders"))
	c := connect(t, address, config.Security{})
	a, _, err := c.InitProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, epoch, err := c.InitProducerID(t.Context())
	if err != nil || a == b || b < 0 || epoch != 0 {
		t.Errorf("producer ids %d and %d, epoch %d, %v", a, b, epoch, err)
	}
	active := []kmsg.DescribeProducersResponseTopicPartitionActiveProducer{
		{ProducerID: 7, ProducerEpoch: 1, LastSequence: 41, LastTimestamp: 5}, {ProducerID: 8, LastSequence: 1},
	}
	if s := producerState(7, active); s != (ProducerState{Known: true, Epoch: 1, LastSequence: 41, LastTimestamp: 5, Others: 1}) {
		t.Errorf("%+v", s)
	}
	if s := producerState(9, active); s.Known || s.LastSequence != -1 || s.Others != 2 {
		t.Errorf("%+v", s)
	}
}

func TestDescribeProducersOfOldBrokers(t *testing.T) {
	_, address := fake(t, kfake.SeedTopics(1, "orders"))
	c := connect(t, address, config.Security{})
	delete(c.versions, kmsg.DescribeProducers.Int16())
	_, err := c.DescribeProducers(t.Context(), 1, []TopicPartition{tp("orders", 0)})
	if !errors.Is(err, kerr.UnsupportedVersion) || Retryable(err) {
		t.Errorf("%v", err)
	}
}

func TestTopicIDText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := TopicID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		back, err := ParseTopicID(id.String())
		if err != nil || back != id || len(id.String()) != 22 && id != (TopicID{}) {
			t.Fatalf("%x is %q and back %x, %v", id[:], id, back[:], err)
		}
	})
	for _, wrong := range []string{"x", "AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAA+A"} {
		if _, err := ParseTopicID(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

// What one broker does not know yet, a topic or partitions of it, is looked for
// again; what there is not is told when the time is up.
func TestFindTopicsLooksAgain(t *testing.T) {
	cluster, address := fake(t, kfake.NumBrokers(2), kfake.SeedTopics(3, "orders", "grown"))
	c := connect(t, address, config.Security{})
	var late atomic.Int32
	cluster.ControlKey(kmsg.Metadata.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := kreq.(*kmsg.MetadataRequest)
		if len(req.Topics) == 0 || late.Add(1) > 2 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, asked := range req.Topics {
			rt := kmsg.NewMetadataResponseTopic()
			rt.Topic, rt.ErrorCode = asked.Topic, kerr.UnknownTopicOrPartition.Code
			if *asked.Topic == "grown" {
				rt.ErrorCode = 0
				rp := kmsg.NewMetadataResponseTopicPartition()
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	found, err := c.FindTopics(t.Context(), map[string]int32{"orders": 1, "grown": 3}, time.Now().Add(LookAgain))
	if err != nil || len(found["orders"].Partitions) != 3 || len(found["grown"].Partitions) != 3 {
		t.Errorf("%+v, %v", found, err)
	}
	found, err = c.FindTopics(t.Context(), map[string]int32{"orders": 9, "nope": 1}, time.Now())
	if err != nil || len(found) != 1 || len(found["orders"].Partitions) != 3 {
		t.Errorf("%+v, %v", found, err)
	}
	if names, err := c.TopicNames(t.Context()); err != nil || !slices.Equal(names, []string{"grown", "orders"}) {
		t.Errorf("%v, %v", names, err)
	}
}
