package offsets

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func changes(group string, offsets ...int64) GroupChanges {
	g := GroupChanges{Group: group}
	for p, o := range offsets {
		g.Changes = append(g.Changes, Change{Topic: "orders", Partition: int32(p), Offset: o, LeaderEpoch: -1})
	}
	return g
}

// A transient error of one partition is cured by trying that partition again,
// alone; the others are set at once.
func TestTransientErrorsOfAPartitionAreTriedAgain(t *testing.T) {
	for _, code := range []*kerr.Error{kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.RebalanceInProgress, kerr.RequestTimedOut} {
		t.Run(code.Message, func(t *testing.T) {
			b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "orders"))
			b.refuse(2, map[int32]*kerr.Error{0: code, 2: code})
			a := Applier{Cluster: b.Cluster}
			o, err := a.Apply(t.Context(), []GroupChanges{changes("g", 10, 11, 12, 13)})
			if err != nil {
				t.Fatal(err)
			}
			if o.Changed != 4 || len(o.Failed)+len(o.Open) != 0 || o.Retries != 4 {
				t.Errorf("%+v", o)
			}
			if got := b.committed("g"); got != "orders/0=10 orders/1=11 orders/2=12 orders/3=13" {
				t.Errorf("committed %s", got)
			}
		})
	}
}

// A request that is under way when it is cancelled is waited for: what undoes it
// must not overtake it.
func TestACancelWaitsForTheAnswer(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	asked, answer := make(chan struct{}), make(chan struct{})
	b.fake.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(asked)
		b.fake.SleepControl(func() { <-answer })
		return nil, nil, false
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		a := Applier{Cluster: b.Cluster}
		_, err := a.Apply(ctx, []GroupChanges{changes("g", 10)})
		ended <- err
	}()
	<-asked
	cancel()
	select {
	case <-ended:
		close(answer)
		t.Fatal("it ended while the request was under way")
	case <-time.After(100 * time.Millisecond):
	}
	close(answer)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if got := b.committed("g"); got != "orders/0=10" {
		t.Errorf("committed %s", got)
	}
}

// What stays transient is left open for a later round; what is refused fails
// with its code. Neither keeps the rest from being set.
func TestABadPartitionNeverStopsTheRest(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "orders"))
	b.refuse(100, map[int32]*kerr.Error{1: kerr.CoordinatorLoadInProgress, 2: kerr.UnknownMemberID})
	a := Applier{Cluster: b.Cluster, Tries: 2}
	o, err := a.Apply(t.Context(), []GroupChanges{changes("g", 10, 11, 12, 13), changes("h", 1)})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Open) != 1 || o.Open[0].Partition != 1 || o.Open[0].Code != "COORDINATOR_LOAD_IN_PROGRESS" || o.Open[0].Group != "g" {
		t.Errorf("open: %+v", o.Open)
	}
	if len(o.Failed) != 1 || o.Failed[0].Partition != 2 || o.Failed[0].Code != "UNKNOWN_MEMBER_ID" || !strings.Contains(o.Failed[0].Error, "active members") {
		t.Errorf("failed: %+v", o.Failed)
	}
	if o.Changed != 3 || b.committed("g") != "orders/0=10 orders/3=13" || b.committed("h") != "orders/0=1" {
		t.Errorf("changed %d: %s; %s", o.Changed, b.committed("g"), b.committed("h"))
	}
	if again := regroup(o.Open); len(again) != 1 || len(again[0].Changes) != 1 || again[0].Changes[0].Offset != 11 {
		t.Errorf("the next round: %+v", again)
	}
}

// A request that is too large is split until it passes.
func TestARequestThatIsTooLargeIsSplit(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(9, "orders"))
	largest := 0
	b.fake.ControlKey(int16(kmsg.OffsetCommit), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		req := kreq.(*kmsg.OffsetCommitRequest)
		n := len(req.Topics[0].Partitions)
		if n <= 2 {
			largest = max(largest, n)
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		for _, p := range req.Topics[0].Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.InvalidCommitOffsetSize.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	a := Applier{Cluster: b.Cluster}
	o, err := a.Apply(t.Context(), []GroupChanges{changes("g", 0, 1, 2, 3, 4, 5, 6, 7, 8)})
	if err != nil {
		t.Fatal(err)
	}
	if o.Changed != 9 || len(o.Failed)+len(o.Open) != 0 || largest != 2 {
		t.Errorf("largest %d: %+v", largest, o)
	}
}

func TestAnActiveGroupIsRefusedByNameWithItsMembers(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "orders"))
	b.fill("orders", 2, 10)
	b.commit("busy", "orders", 1, 2)
	b.commit("idle", "orders", 3, 4)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.fake.ListenAddrs()...), kgo.ConsumerGroup("busy"), kgo.ConsumeTopics("orders"), kgo.ClientID("the-client"),
		kgo.InstanceID("static-1"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	cl.PollFetches(t.Context())
	r := Request{Strategy: &Strategy{Earliest: true}, Groups: Selection{Names: []string{"busy", "idle"}}}
	p, groups, err := b.plan(r)
	if err != nil {
		t.Fatal(err)
	}
	if p.Totals.Active != 1 || groups[0].Kind != BlockedActive || groups[1].Blocked != "" {
		t.Errorf("%+v\n%s", p.Totals, rows(groups))
	}
	if err := Refusal(p.Totals, groups); err != nil {
		t.Errorf("whoever waits for it may carry it out: %v", err)
	}
	refusal := Active(p.Totals, groups)
	if refusal == nil {
		t.Fatal("no group is active")
	}
	for _, part := range []string{"Consumer group has active members", "busy", "the-client", "static-1", "127.0.0.1", "--wait-inactive"} {
		if !strings.Contains(refusal.Error(), part) {
			t.Errorf("%q does not say %q", refusal, part)
		}
	}
	// Nothing is set for it, and the other one is.
	s := Shard{Groups: groups}
	a := Applier{Cluster: b.Cluster}
	if o, err := a.Apply(t.Context(), s.Forward()); err != nil || o.Changed != 2 {
		t.Errorf("%+v %v", o, err)
	}
	if b.committed("busy") != "orders/0=1 orders/1=2" || b.committed("idle") != "orders/0=0 orders/1=0" {
		t.Errorf("%s; %s", b.committed("busy"), b.committed("idle"))
	}
}

// What was set is put back, whatever was there: a partition without a committed
// offset has none again.
func TestWhatWasSetIsPutBack(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	b.fill("orders", 3, 20)
	b.commit("g", "orders", 5, -1, 7)
	before := b.committed("g")
	_, groups, err := b.plan(Request{Strategy: &Strategy{Latest: true}, Groups: Selection{Names: []string{"g"}}, Topics: TopicFilter{{Topic: "orders"}}})
	if err != nil {
		t.Fatal(err)
	}
	s := Shard{Groups: groups}
	a := Applier{Cluster: b.Cluster}
	if o, err := a.Apply(t.Context(), s.Forward()); err != nil || o.Changed != 3 {
		t.Fatalf("%+v %v", o, err)
	}
	if got := b.committed("g"); got != "orders/0=20 orders/1=20 orders/2=20" {
		t.Errorf("forward: %s", got)
	}
	if wrong, unread, err := Verify(t.Context(), b.Cluster, s.Forward()); err != nil || len(wrong)+len(unread) != 0 {
		t.Errorf("%+v %+v %v", wrong, unread, err)
	}
	if wrong, _, err := Verify(t.Context(), b.Cluster, s.back()); err != nil || len(wrong) != 3 || wrong[0].Code != "MISMATCH" {
		t.Errorf("%+v %v", wrong, err)
	}
	if u, err := s.putBack(t.Context(), a); err != nil || u.PutBack != 3 || len(u.Left)+len(u.Failed)+len(u.Open) > 0 {
		t.Fatalf("%+v %v", u, err)
	}
	if got := b.committed("g"); got != before {
		t.Errorf("back: %s, before: %s", got, before)
	}
	if wrong, _, err := Verify(t.Context(), b.Cluster, s.back()); err != nil || len(wrong) != 0 {
		t.Errorf("%+v %v", wrong, err)
	}
}

func TestPercentilesAreOverPartitions(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(50, "orders"))
	var all []GroupChanges
	for g := range 20 {
		offsets := make([]int64, 50)
		all = append(all, changes(fmt.Sprint("g", g), offsets...))
	}
	a := Applier{Cluster: b.Cluster, Concurrent: 4}
	o, err := a.Apply(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	var s Summary
	if err := s.Add(o, true); err != nil {
		t.Fatal(err)
	}
	if s.Changed != 1000 || s.Requests != 20 || s.histogram.TotalCount() != 1000 {
		t.Errorf("%+v, %d in the histogram", s, s.histogram.TotalCount())
	}
	if l := s.Latency; l.P50 <= 0 || l.P50 > l.P90 || l.P90 > l.P99 || l.P99 > l.Max {
		t.Errorf("%+v", l)
	}
}
