package kafka

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// Coordinators are looked up many a request, and not again until one has moved;
// then committing says so once, and finds the new one.
func TestCommitsFindTheCoordinators(t *testing.T) {
	f, address := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "orders"))
	c := connect(t, address, config.Security{})
	var mu sync.Mutex
	lookups := 0
	f.ControlKey(int16(kmsg.FindCoordinator), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		lookups++
		return nil, nil, false
	})
	var groups []string
	for i := range 300 {
		groups = append(groups, fmt.Sprint("group-", i))
	}
	all := func() (moved []string) {
		var wg sync.WaitGroup
		for _, g := range groups {
			wg.Go(func() {
				results, err := c.CommitOffsets(t.Context(), g, []CommittedOffset{{Topic: "orders", Offset: 7, LeaderEpoch: -1}})
				if err == nil {
					err = results[0]
				}
				if err == nil {
					return
				}
				if !errors.Is(err, kerr.NotCoordinator) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				moved = append(moved, g)
			})
		}
		wg.Wait()
		return moved
	}
	c.FindCoordinators(t.Context(), groups)
	if moved := all(); len(moved) > 0 || lookups != 1 {
		t.Errorf("%d look-ups; %d groups were sent to the wrong broker", lookups, len(moved))
	}
	before := map[string]int32{}
	for _, g := range groups {
		before[g] = f.CoordinatorFor(g)
	}
	f.RehashCoordinators()
	changed := func(g string) bool { return f.CoordinatorFor(g) != before[g] }
	if !slices.ContainsFunc(groups, changed) {
		t.Fatal("no coordinator has moved")
	}
	moved := all()
	for _, g := range moved {
		if !changed(g) {
			t.Errorf("%s: the coordinator has not moved", g)
		}
	}
	if again := all(); len(moved) == 0 || len(again) > 0 {
		t.Errorf("%d groups had moved, and %d are still sent to the wrong broker", len(moved), len(again))
	}
}

// Commits that wait do not hold others up: they go over several connections. A
// single one opens none of its own.
func TestCommitsGoOverSeveralConnections(t *testing.T) {
	_, address := fake(t, kfake.SeedTopics(1, "orders"))
	c := connect(t, address, config.Security{})
	one := func(i int) {
		if results, err := c.CommitOffsets(t.Context(), fmt.Sprint("group-", i), []CommittedOffset{{Topic: "orders", Offset: 7, LeaderEpoch: -1}}); err != nil || results[0] != nil {
			t.Error(results, err)
		}
	}
	for i := range 20 {
		one(i)
	}
	if n := len(c.commits.lanes); n != 1 {
		t.Errorf("%d lanes for one commit after the other", n)
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() { one(i) })
	}
	wg.Wait()
	if n := len(c.commits.lanes); n < 2 || n > maxLanes {
		t.Errorf("%d lanes for 200 commits at the same time", n)
	}
	for _, l := range c.commits.lanes {
		if l.inFlight != 0 {
			t.Errorf("%d requests are in flight when all are answered", l.inFlight)
		}
	}
}

// What an answer says is taken for the partition that it is about, in whatever
// order; what it leaves out is not taken for committed.
func TestAnswersInAnyOrder(t *testing.T) {
	f, address := fake(t, kfake.SeedTopics(3, "orders", "payments"))
	c := connect(t, address, config.Security{})
	f.ControlKey(int16(kmsg.OffsetCommit), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		req := kreq.(*kmsg.OffsetCommitRequest)
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range slices.Backward(req.Topics) {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range slices.Backward(t.Partitions) {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				if rp.Partition = p.Partition; p.Offset == 2 {
					rp.ErrorCode = kerr.OffsetMetadataTooLarge.Code
				}
				if p.Offset != 1 { // which is left out
					rt.Partitions = append(rt.Partitions, rp)
				}
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	results, err := c.CommitOffsets(t.Context(), "billing", []CommittedOffset{
		{Topic: "orders", Partition: 2, Offset: 2}, {Topic: "payments", Partition: 0, Offset: 9}, {Topic: "orders", Partition: 1, Offset: 1},
		{Topic: "payments", Partition: 2, Offset: 9}, {Topic: "orders", Partition: 0, Offset: 9},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{kerr.OffsetMetadataTooLarge, nil, errNoAnswer, nil, nil} {
		if !errors.Is(results[i], want) {
			t.Errorf("%d: %v and not %v", i, results[i], want)
		}
	}
}
