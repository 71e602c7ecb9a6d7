package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// commit commits offsets that must be accepted.
func commit(t *testing.T, c *Cluster, group string, offsets ...CommittedOffset) {
	t.Helper()
	results, err := c.CommitOffsets(t.Context(), group, offsets)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range results {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func allTopics(string) bool { return true }

// A broker that is asked for the name of a topic by its id may not know a new
// topic yet: its offsets are not left out. Those of one that was deleted are.
func TestOffsetsOfATopicThatNotAllBrokersKnow(t *testing.T) {
	cluster, address := fake(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	commit(t, connect(t, address, config.Security{}), "billing", CommittedOffset{Topic: "orders", Offset: 5, LeaderEpoch: -1})
	var unknown atomic.Int32
	cluster.ControlKey(kmsg.Metadata.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := kreq.(*kmsg.MetadataRequest)
		if len(req.Topics) == 0 || req.Topics[0].Topic != nil || unknown.Add(-1) < 0 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, asked := range req.Topics {
			rt := kmsg.NewMetadataResponseTopic()
			rt.TopicID, rt.ErrorCode = asked.TopicID, kerr.UnknownTopicID.Code
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	for times, want := range map[int32]int{2: 1, 1000: 0} {
		unknown.Store(times)
		c := connect(t, address, config.Security{}) // one that knows no names
		c.patience = time.Second
		got, err := c.CommittedOffsets(t.Context(), []string{"billing"})
		if err != nil || len(got["billing"]) != want {
			t.Errorf("unknown %d times: %+v, %v", times, got, err)
		}
		if left := unknown.Load(); left == times {
			t.Error("nobody asked for the name")
		}
	}
}

func TestCommittedOffsetsComeBack(t *testing.T) {
	_, address := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(3, "orders", "payments"))
	c := connect(t, address, config.Security{})
	topics, err := c.DescribeTopics(t.Context(), []string{"orders", "payments"})
	if err != nil {
		t.Fatal(err)
	}
	want := []CommittedOffset{
		{Topic: "orders", Partition: 0, Offset: 5, LeaderEpoch: 2, Metadata: "done: 50%"},
		{Topic: "orders", Partition: 2, Offset: 0, LeaderEpoch: -1},
		{Topic: "payments", Partition: 1, Offset: 1 << 40, LeaderEpoch: 0, Metadata: "x"},
	}
	commit(t, c, "billing", want[2], want[1], want[0])
	got, err := c.CommittedOffsets(t.Context(), []string{"billing", "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := got["nobody"]; !ok || len(n) != 0 {
		t.Errorf("a group that does not exist: %v", n)
	}
	if len(got["billing"]) != len(want) {
		t.Fatalf("%+v", got["billing"])
	}
	for i, o := range got["billing"] {
		w := want[i]
		w.TopicID = topics[w.Topic].ID
		if o != w {
			t.Errorf("%+v and not %+v", o, w)
		}
	}
}

func TestCommitReportsEachPartition(t *testing.T) {
	_, address := fake(t, kfake.SeedTopics(2, "orders"))
	c := connect(t, address, config.Security{})
	foreign := TopicID{1, 2, 3} // the id the topic had in another cluster
	got, err := c.CommitOffsets(t.Context(), "billing", []CommittedOffset{
		{Topic: "orders", TopicID: foreign, Partition: 0, Offset: 1}, {Topic: "orders", Partition: 7, Offset: 1}, {Topic: "nope", Partition: 0, Offset: 1},
	})
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	if got[0] != nil {
		t.Errorf("%v", got[0])
	}
	for i, p := range []TopicPartition{tp("orders", 7), tp("nope", 0)} {
		var e *Error
		if err := got[i+1]; !errors.As(err, &e) || !missing(e) || e.Group != "billing" || e.Topic != p.Topic || e.Partition != p.Partition {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func TestCaptureGroups(t *testing.T) {
	_, address := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(2, "orders", "payments"))
	c := connect(t, address, config.Security{})
	const groups = 250 // more than one request holds
	for i := range groups {
		commit(t, c, fmt.Sprintf("group-%03d", i), CommittedOffset{Topic: "orders", Offset: int64(i)}, CommittedOffset{Topic: "payments", Offset: 1})
	}
	commit(t, c, "elsewhere", CommittedOffset{Topic: "payments", Offset: 3})
	got, err := c.CaptureGroups(t.Context(), config.GroupFilter{Exclude: []string{"*-007"}}, func(topic string) bool { return topic == "orders" })
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != groups-1 {
		t.Fatalf("%d groups", len(got))
	}
	for i, g := range got {
		if g.Name == "elsewhere" || g.Type != GroupClassic || g.State != "Empty" || len(g.Offsets) != 1 || g.Offsets[0].Topic != "orders" || i > 0 && got[i-1].Name >= g.Name {
			t.Errorf("%+v", g)
		}
	}
}

// What cannot be read is reported beside what could.
func TestCaptureGroupsInPart(t *testing.T) {
	cluster, address := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "orders"))
	c := connect(t, address, config.Security{})
	c.patience = 100 * time.Millisecond
	for i := range 20 {
		commit(t, c, fmt.Sprintf("group-%02d", i), CommittedOffset{Topic: "orders", Offset: 1})
	}
	down := cluster.CoordinatorFor("group-03")
	cluster.ControlKey(kmsg.OffsetFetch.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if cluster.CurrentNode() != down {
			return nil, nil, false
		}
		req := kreq.(*kmsg.OffsetFetchRequest)
		resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, g := range req.Groups {
			rg := kmsg.NewOffsetFetchResponseGroup()
			rg.Group, rg.ErrorCode = g.Group, kerr.GroupAuthorizationFailed.Code
			resp.Groups = append(resp.Groups, rg)
		}
		return resp, nil, true
	})
	got, err := c.CaptureGroups(t.Context(), config.GroupFilter{}, allTopics)
	failed := failures(t, err)
	if len(failed)+len(got) != 20 || len(got) == 0 || !Unauthorized(err) || Retryable(err) {
		t.Errorf("%d groups and %d failures: %v", len(got), len(failed), err)
	}
	for _, e := range failed {
		if cluster.CoordinatorFor(e.Group) != down {
			t.Errorf("%v", e)
		}
	}
}

func TestListGroupsWaitsForCoordinators(t *testing.T) {
	cluster, address := fake(t, kfake.SeedTopics(1, "orders"))
	c := connect(t, address, config.Security{})
	commit(t, c, "billing", CommittedOffset{Topic: "orders", Offset: 1})
	var loading atomic.Int32
	cluster.ControlKey(kmsg.ListGroups.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if loading.Add(1) > 2 {
			return nil, nil, false
		}
		resp := kreq.ResponseKind().(*kmsg.ListGroupsResponse)
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return resp, nil, true
	})
	got, err := c.ListGroups(t.Context(), config.GroupFilter{})
	if err != nil || len(got) != 1 || got[0].Name != "billing" {
		t.Errorf("%v, %v", got, err)
	}
}

// member joins a group and stays until the test ends.
func member(t *testing.T, address, group string, opts ...kgo.Opt) {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(address), kgo.ConsumerGroup(group), kgo.ConsumeTopics("orders"), kgo.ClientID("the-consumer"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if fetches := cl.PollFetches(ctx); fetches.Err() != nil {
		t.Fatal(fetches.Err())
	}
}

func TestActiveGroups(t *testing.T) {
	_, address := fake(t, kfake.SeedTopics(1, "orders"))
	c := connect(t, address, config.Security{})
	produce(t, c, "orders", 0, 1)
	member(t, address, "classic")
	member(t, address, "modern", kgo.WithContext(context.WithValue(t.Context(), "opt_in_kafka_next_gen_balancer_beta", true)))
	commit(t, c, "empty", CommittedOffset{Topic: "orders", Offset: 1})

	got, err := c.DescribeGroups(t.Context(), []string{"classic", "modern", "empty", "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Errorf("%+v", got)
	}
	for name, typ := range map[string]string{"classic": GroupClassic, "modern": GroupConsumer} {
		g := got[name]
		if g.Type != typ || len(g.Members) != 1 || g.Members[0].ClientID != "the-consumer" || g.Members[0].ID == "" {
			t.Errorf("%s: %+v", name, g)
		}
		results, err := c.CommitOffsets(t.Context(), name, []CommittedOffset{{Topic: "orders", Offset: 1}})
		if err != nil || !errors.Is(results[0], kerr.UnknownMemberID) {
			t.Errorf("%s: a commit while a member is active: %v, %v", name, results, err)
		}
	}
	if g := got["empty"]; g.State != "Empty" || len(g.Members) != 0 {
		t.Errorf("%+v", g)
	}
}

func TestDeleteOffsets(t *testing.T) {
	_, address := fake(t, kfake.SeedTopics(2, "orders"))
	c := connect(t, address, config.Security{})
	commit(t, c, "billing", CommittedOffset{Topic: "orders", Partition: 0, Offset: 1}, CommittedOffset{Topic: "orders", Partition: 1, Offset: 2})
	results, err := c.DeleteOffsets(t.Context(), "billing", []TopicPartition{tp("orders", 0)})
	if err != nil || len(results) != 1 || results[0] != nil {
		t.Fatalf("%v, %v", results, err)
	}
	left, err := c.CommittedOffsets(t.Context(), []string{"billing"})
	if err != nil || len(left["billing"]) != 1 || left["billing"][0].Partition != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if _, err := c.DeleteOffsets(t.Context(), "nobody", []TopicPartition{tp("orders", 0)}); !errors.Is(err, kerr.GroupIDNotFound) {
		t.Errorf("%v", err)
	}
}

// Who may do nothing is told so, and is not kept waiting.
func TestRights(t *testing.T) {
	_, address := fake(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "a"), kfake.SeedTopics(1, "orders", "secret"),
		kfake.User("PLAIN", "ann", "b", kfake.ACL{
			Resource: kmsg.ACLResourceTypeTopic, Name: "orders", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationDescribe, Allow: true,
		}))
	user := func(name, pass string) config.Security {
		return config.Security{SecurityProtocol: "SASL_PLAINTEXT", SASLMechanism: "PLAIN", SASLUsername: name, SASLPassword: config.NewSecret(pass)}
	}
	admin, ann := connect(t, address, user("admin", "a")), connect(t, address, user("ann", "b"))
	commit(t, admin, "billing", CommittedOffset{Topic: "orders", Offset: 1})

	d, err := ann.Discover(t.Context(), config.TopicFilter{}, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Topics) != 1 || d.Topics[0].Name != "orders" || d.Topics[0].Config != nil || d.Topics[0].Partitions[0].Size != -1 || len(d.Warnings) == 0 {
		t.Errorf("%+v", d)
	}
	for _, w := range d.Warnings {
		if !Unauthorized(w) {
			t.Errorf("%v", w)
		}
	}
	begin := time.Now()
	for name, err := range map[string]error{
		"discover by name": second(ann.Discover(t.Context(), config.TopicFilter{Include: []string{"secret"}}, false)),
		"create":           second(ann.CreateTopics(t.Context(), []NewTopic{{Name: "new", Partitions: 1, ReplicationFactor: 1}}, false)),
		"alter":            ann.AlterTopicConfigs(t.Context(), map[string]map[string]*string{"orders": {"retention.ms": nil}}),
		"offsets":          second(ann.CommittedOffsets(t.Context(), []string{"billing"})),
		"delete offsets":   second(ann.DeleteOffsets(t.Context(), "billing", []TopicPartition{tp("orders", 0)})),
		"producers":        second(ann.DescribeProducers(t.Context(), 1, []TopicPartition{tp("orders", 0)})),
		"producer id":      func() error { _, _, err := ann.InitProducerID(t.Context()); return err }(),
	} {
		if !Unauthorized(err) || Retryable(err) || Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if since := time.Since(begin); since > ann.patience {
		t.Errorf("it took %v to be refused", since)
	}
	results, err := ann.CommitOffsets(t.Context(), "billing", []CommittedOffset{{Topic: "orders", Offset: 9}})
	if err == nil {
		err = results[0]
	}
	if !Unauthorized(err) {
		t.Errorf("commit: %v", err)
	}
}
