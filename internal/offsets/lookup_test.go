package offsets

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// failListOffsets makes leaders answer ListOffsets for some partitions and
// timestamps with an error code; the rest of a request is answered truthfully.
func (b *bed) failListOffsets(code *kerr.Error, bad func(tp kafka.TopicPartition, timestamp int64) bool) {
	b.fake.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		req := kreq.(*kmsg.ListOffsetsRequest)
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		rest := *req
		rest.Topics = nil
		for _, t := range req.Topics {
			rt := kmsg.NewListOffsetsResponseTopic()
			rt.Topic = t.Topic
			kept := t
			kept.Partitions = nil
			for _, p := range t.Partitions {
				if !bad(kafka.TopicPartition{Topic: t.Topic, Partition: p.Partition}, p.Timestamp) {
					kept.Partitions = append(kept.Partitions, p)
					continue
				}
				rp := kmsg.NewListOffsetsResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, code.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			if len(rt.Partitions) > 0 {
				resp.Topics = append(resp.Topics, rt)
			}
			if len(kept.Partitions) > 0 {
				rest.Topics = append(rest.Topics, kept)
			}
		}
		if len(resp.Topics) == 0 {
			return nil, nil, false
		}
		if len(rest.Topics) > 0 {
			type answer struct {
				resp *kmsg.ListOffsetsResponse
				err  error
			}
			done := make(chan answer, 1)
			go func() {
				cl, err := kgo.NewClient(kgo.SeedBrokers(b.fake.ListenAddrs()...))
				if err != nil {
					done <- answer{nil, err}
					return
				}
				defer cl.Close()
				got, err := rest.RequestWith(b.t.Context(), cl)
				done <- answer{got, err}
			}()
			b.fake.SleepControl(func() {
				got := <-done
				if got.err != nil {
					b.t.Error(got.err)
					return
				}
				resp.Topics = append(resp.Topics, got.resp.Topics...)
			})
		}
		return resp, nil, true
	})
}

// hide leaves a topic out of what brokers know, for so many looks at it.
func (b *bed) hide(topic string, looks int) {
	b.fake.ControlKey(int16(kmsg.Metadata), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		req := kreq.(*kmsg.MetadataRequest)
		if looks == 0 || !req.IncludeTopicAuthorizedOperations || len(req.Topics) != 1 || *req.Topics[0].Topic != topic {
			return nil, nil, false
		}
		looks--
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		rt := kmsg.NewMetadataResponseTopic()
		rt.Topic, rt.ErrorCode = kmsg.StringPtr(topic), kerr.UnknownTopicOrPartition.Code
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
}

// An offset that cannot be looked up is never taken for another one: its row is
// FAILED, and refuses a reset that is all or nothing.
func TestALookUpThatFailsIsFailed(t *testing.T) {
	at := time.Now().Add(-time.Hour).UnixMilli()
	for _, c := range []struct {
		name string
		s    Strategy
		code *kerr.Error
		bad  func(timestamp int64) bool
	}{
		{"by time", Strategy{Time: &at}, kerr.UnsupportedForMessageFormat, func(ts int64) bool { return ts >= 0 }},
		{"by time, unknown topic", Strategy{Time: &at}, kerr.UnknownTopicOrPartition, func(ts int64) bool { return ts >= 0 }},
		{"the end", Strategy{Latest: true}, kerr.UnknownTopicOrPartition, func(ts int64) bool { return ts == -1 }},
		{"the start", Strategy{Earliest: true}, kerr.UnknownTopicOrPartition, func(ts int64) bool { return ts == -2 }},
		{"no right", Strategy{Latest: true}, kerr.TopicAuthorizationFailed, func(int64) bool { return true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "orders"))
			b.fill("orders", 2, 10)
			b.commit("g", "orders", 4, 4)
			b.failListOffsets(c.code, func(tp kafka.TopicPartition, ts int64) bool { return tp.Partition == 1 && c.bad(ts) })
			for _, bestEffort := range []bool{false, true} {
				if bestEffort && c.code == kerr.UnknownTopicOrPartition {
					continue // each look at it takes its time
				}
				p, groups, err := b.plan(Request{Groups: Selection{Names: []string{"g"}}, Strategy: &c.s, BestEffort: bestEffort})
				if err != nil {
					t.Fatal(err)
				}
				if p.Totals.Failed != 1 || p.Totals.Set != 1 || len(groups) != 1 || len(groups[0].Topics[0].Rows) != 2 {
					t.Fatalf("%+v\n%s", p.Totals, rows(groups))
				}
				if r := groups[0].Topics[0].Rows[1]; r.Action != Failed || !strings.Contains(r.Why, c.code.Message) || !strings.Contains(r.Why, "orders partition 1") {
					t.Errorf("%+v", r)
				}
				if forward := (&Shard{groups}).Forward(); len(forward) != 1 || len(forward[0].Changes) != 1 || forward[0].Changes[0].Partition != 0 {
					t.Errorf("%+v", forward)
				}
				var blocked *BlockedError
				if err := Refusal(p.Totals, groups); !errors.As(err, &blocked) || !strings.Contains(err.Error(), c.code.Message) {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

// A topic that some broker does not know yet is not missing.
func TestATopicIsLookedForAgain(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	b.fill("orders", 1, 10)
	b.commit("g", "orders", 4)
	for name, topics := range map[string]TopicFilter{"committed": nil, "named": {{Topic: "orders"}}} {
		b.hide("orders", 2)
		_, groups, err := b.plan(Request{Groups: Selection{Names: []string{"g"}}, Strategy: &Strategy{Latest: true}, Topics: topics})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := rows(groups); got != "g orders/0 4>10 SET\n" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A group that is named and of which nothing can be set is not done; of one that
// a pattern selects the plan only says so.
func TestANamedGroupOfWhichNothingIsKnownIsBlocked(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders", "payments"))
	b.commit("g", "orders", 0)
	b.commit("h", "payments", 0)
	r := Request{Groups: Selection{Names: []string{"g", "h"}}, Strategy: &Strategy{Latest: true}, Topics: TopicFilter{{Topic: "pay*"}}}
	p, groups, err := b.plan(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(groups); got != "g: NoOffsets\nh payments/0 0>0 UNCHANGED\n" || p.Totals.Blocked != 1 {
		t.Errorf("%+v\n%s", p.Totals, got)
	}
	var blocked *BlockedError
	if err := Refusal(p.Totals, groups); !errors.As(err, &blocked) || blocked.Kind != BlockedNoOffsets || !strings.Contains(err.Error(), "group g: nothing is to be set") || !strings.Contains(err.Error(), "--topics") {
		t.Errorf("%v", err)
	}
	r.Groups = Selection{All: true}
	if p, groups, err = b.plan(r); err != nil || p.Totals.Blocked != 0 || rows(groups) != "h payments/0 0>0 UNCHANGED\n" || !strings.Contains(strings.Join(p.Warnings, ""), "group g: nothing is to be set") {
		t.Errorf("%v %+v\n%s", err, p, rows(groups))
	}
	// That a group has no offsets, as it had none, is a rollback that is done.
	s, err := TakeSnapshot(t.Context(), b.Cluster, b.repo, SnapshotRequest{Groups: Selection{Names: []string{"nobody"}}, Missing: true, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if p, _, err := b.plan(Request{Snapshot: s.ID, Groups: Selection{Names: []string{"nobody"}}}); err != nil || p.Totals.Blocked != 0 {
		t.Errorf("%v %+v", err, p)
	}
}

// In a bulk reset a topic that may not be looked at does not keep the others from
// being set.
func TestATopicThatCannotBeLookedUpStopsOnlyItself(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "orders", "secret"))
	b.fill("orders", 2, 10)
	b.commit("g", "orders", 4, 4)
	b.fake.ControlKey(int16(kmsg.Metadata), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		req := kreq.(*kmsg.MetadataRequest)
		if !req.IncludeTopicAuthorizedOperations || !slices.ContainsFunc(req.Topics, func(t kmsg.MetadataRequestTopic) bool { return *t.Topic == "secret" }) {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, asked := range req.Topics {
			rt := kmsg.NewMetadataResponseTopic()
			if rt.Topic = asked.Topic; *asked.Topic == "secret" {
				rt.ErrorCode = kerr.TopicAuthorizationFailed.Code
			} else {
				rt.TopicID = b.fake.TopicInfo(*asked.Topic).TopicID
				for n := range int32(2) {
					rp := kmsg.NewMetadataResponseTopicPartition()
					rp.Partition = n
					rt.Partitions = append(rt.Partitions, rp)
				}
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	r := Request{Groups: Selection{Names: []string{"g"}}, Strategy: &Strategy{Latest: true}, Topics: TopicFilter{{Topic: "orders"}, {Topic: "secret"}}, BestEffort: true}
	_, groups, err := b.plan(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(groups); got != "g orders/0 4>10 SET\ng orders/1 4>10 SET\ng secret/0 -1>-1 FAILED\n" {
		t.Error(got)
	}
	r.BestEffort = false
	if _, _, err := b.plan(r); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("%v", err)
	}
}
