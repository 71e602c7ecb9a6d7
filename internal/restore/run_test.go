package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"gocloud.dev/blob/memblob"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// world is a backup b of topics with two partitions of ten records each, and
// a cluster to restore it into.
type world struct {
	*testing.T
	repo    *repository.Repository
	fake    *kfake.Cluster
	cluster *kafka.Cluster
}

const perPartition = 10

func newWorld(t *testing.T, topics map[string]map[string]string) *world {
	t.Helper()
	ctx := t.Context()
	repo, err := repository.Create(ctx, memblob.OpenBucket(nil))
	if err != nil {
		t.Fatal(err)
	}
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	w := &world{T: t, repo: repo, fake: fake, cluster: dial(t, fake)}

	shard := &repository.Shard{}
	seg, err := repo.NewSegment(ctx, "b", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var table []repository.SegmentPartition
	enc, _ := recordbatch.NewEncoder(recordbatch.EncoderConfig{})
	for name, own := range topics {
		topic := repository.Topic{Name: name, ID: "id-of-" + name, ReplicationFactor: 1, PartitionCount: 2, Config: own}
		for p := range int32(2) {
			tp := repository.TopicPartition{Topic: name, TopicID: topic.ID, Partition: p}
			for i := range perPartition {
				enc.Append(&recordbatch.Record{Timestamp: time.Now().UnixMilli(), Value: fmt.Appendf(nil, "%s-%d-%d", name, p, i)})
			}
			raw, err := enc.Flush(nil)
			if err != nil {
				t.Fatal(err)
			}
			var b repository.Block
			b.AddBatch(raw)
			stored, err := repository.EncodeBlock(repository.CodecNone, 1, raw)
			if err != nil {
				t.Fatal(err)
			}
			b.SetEncoded(stored)
			if err := seg.Append(tp, b, stored.Stored...); err != nil {
				t.Fatal(err)
			}
			table = append(table, repository.SegmentPartition{TopicPartition: tp, NextOffset: perPartition})
			part := repository.Partition{Partition: p, End: perPartition, FirstOffset: -1, LastOffset: -1}
			var slice repository.Slice
			slice.AddBlocks(b)
			part.AddSlice(slice)
			topic.Partitions = append(topic.Partitions, part)
		}
		shard.Topics = append(shard.Topics, topic)
	}
	ref, err := seg.Close(table)
	if err != nil {
		t.Fatal(err)
	}
	shard.Segments = []repository.SegmentRef{ref}
	index, _, err := repo.AdoptIndex(ctx, "b", 0, shard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.WriteManifest(ctx, &repository.Manifest{BackupID: "b", CreatedAt: time.Now(), Index: []repository.ObjectRef{index}}); err != nil {
		t.Fatal(err)
	}
	return w
}

func dial(t *testing.T, fake *kfake.Cluster) *kafka.Cluster {
	t.Helper()
	c, err := kafka.Connect(t.Context(), config.Cluster{BootstrapServers: fake.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func options() config.Restore {
	var o config.Restore
	config.SetDefaults(&o)
	return o
}

func (w *world) plan(run string, o config.Restore) (*Plan, error) {
	p, _, err := MakePlan(w.Context(), w.cluster, w.repo, Request{WorkflowID: "restore/b/x", RunID: run, BackupID: "b", Options: o}, true)
	return p, err
}

func (w *world) must(p *Plan, err error) *Plan {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	return p
}

func (w *world) prepare(p *Plan) *Targets {
	w.Helper()
	t, err := Prepare(w.Context(), w.cluster, w.repo, p)
	if err != nil {
		w.Fatal(err)
	}
	return t
}

func (w *world) fill(p *Plan, o config.Restore) error {
	f := Filler{Cluster: w.cluster, Repository: w.repo, Options: o, Share: 1}
	for i := range p.Parts {
		if _, err := f.Fill(w.Context(), p, i); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) release(p *Plan) {
	w.Helper()
	if _, err := Release(w.Context(), w.cluster, w.repo, p); err != nil {
		w.Fatal(err)
	}
}

// own is what is set on the topic itself of what is held while loading.
func (w *world) own(topic string) map[string]string {
	w.Helper()
	all, err := w.cluster.TopicConfigs(w.Context(), []string{topic})
	if err != nil {
		w.Fatal(err)
	}
	own := all[topic].Dynamic()
	for name := range own {
		if _, held := hold[name]; !held {
			delete(own, name)
		}
	}
	return own
}

func (w *world) wantOwn(topic string, want map[string]string) {
	w.Helper()
	if got := w.own(topic); fmt.Sprint(got) != fmt.Sprint(want) {
		w.Errorf("topic %s has %v, want %v", topic, got, want)
	}
}

func (w *world) create(topic string, partitions int32, own map[string]string) {
	w.Helper()
	if _, err := w.cluster.CreateTopics(w.Context(), []kafka.NewTopic{{Name: topic, Partitions: partitions, ReplicationFactor: 1, Config: own}}, false); err != nil {
		w.Fatal(err)
	}
}

func (w *world) delete(topic string) {
	w.Helper()
	if err := w.cluster.DeleteTopics(w.Context(), []string{topic}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) exists(topic string) bool {
	w.Helper()
	there, err := w.cluster.DescribeTopics(w.Context(), []string{topic})
	if err != nil {
		w.Fatal(err)
	}
	_, is := there[topic]
	return is
}

// deleteRecords moves the log start, as retention does.
func (w *world) deleteRecords(topic string, before int64) {
	w.Helper()
	var to kadm.Offsets
	to.AddOffset(topic, 0, before, -1)
	if _, err := w.cluster.Admin().DeleteRecords(w.Context(), to); err != nil {
		w.Fatal(err)
	}
}

var weekly = map[string]string{"retention.ms": "604800000", "cleanup.policy": "compact"}

func TestWhatARunThatWasTerminatedHeldIsPutBackByTheNext(t *testing.T) {
	w := newWorld(t, map[string]map[string]string{"new": weekly, "there": nil})
	w.create("there", 2, weekly)
	// The first run is terminated before it could record where it begins.
	first := w.must(w.plan("run-1", options()))
	p := &preparer{cluster: w.cluster, repo: w.repo, plan: first}
	holds, err := p.holds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.create(t.Context(), holds); err != nil {
		t.Fatal(err)
	}
	if err := p.apply(t.Context(), holds); err != nil {
		t.Fatal(err)
	}
	if got := w.own("there")["retention.ms"]; got != "-1" {
		t.Fatalf("retention.ms is %q while loading", got)
	}

	second := w.must(w.plan("run-2", options()))
	w.prepare(second)
	if err := w.fill(second, options()); err != nil {
		t.Fatal(err)
	}
	w.release(second)
	w.wantOwn("there", weekly)
	w.wantOwn("new", weekly)
}

func TestAnAttemptThatWakesUpAfterTheEndHoldsNothing(t *testing.T) {
	w := newWorld(t, map[string]map[string]string{"a": weekly})
	plan := w.must(w.plan("run-1", options()))
	w.prepare(plan)
	holds := &Holds{}
	if _, err := w.repo.ReadDocument(t.Context(), plan.object(holdsName), holds); err != nil {
		t.Fatal(err)
	}
	w.release(plan)
	w.wantOwn("a", weekly)

	var ended *EndedError
	if _, err := Prepare(t.Context(), w.cluster, w.repo, plan); !errors.As(err, &ended) {
		t.Errorf("got %v, want an EndedError", err)
	}
	w.wantOwn("a", weekly)
	// It slept just before it changed the configuration.
	p := &preparer{cluster: w.cluster, repo: w.repo, plan: plan}
	if err := p.apply(t.Context(), holds); !errors.As(err, &ended) {
		t.Errorf("got %v, want an EndedError", err)
	}
	w.wantOwn("a", weekly)

	// A later run that goes on holds again, and puts back again.
	next := w.must(w.plan("run-2", options()))
	if next.Base != plan.Base {
		t.Fatalf("it does not go on: base %s", next.Base)
	}
	w.prepare(next)
	if got := w.own("a")["retention.ms"]; got != "-1" {
		t.Errorf("retention.ms is %q while loading", got)
	}
	w.release(next)
	w.wantOwn("a", weekly)
}

func TestATopicThatFailsDoesNotKeepOthersHeld(t *testing.T) {
	w := newWorld(t, map[string]map[string]string{"a": weekly, "b": weekly})
	plan := w.must(w.plan("run-1", options()))
	w.prepare(plan)
	refuse := true
	answer, err := w.cluster.TopicConfigs(t.Context(), []string{"b"})
	if err != nil {
		t.Fatal(err)
	}
	w.fake.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.fake.KeepControl()
		r := req.(*kmsg.DescribeConfigsRequest)
		if !refuse || len(r.Resources) < 2 {
			return nil, nil, false
		}
		refuse = false
		resp := r.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, topic := range []string{"a", "b"} {
			rr := kmsg.NewDescribeConfigsResponseResource()
			rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, topic
			if topic == "a" {
				rr.ErrorCode = kerr.TopicAuthorizationFailed.Code
			} else {
				for name, e := range answer[topic] {
					c := kmsg.NewDescribeConfigsResponseResourceConfig()
					c.Name, c.Value = name, kmsg.StringPtr(e.Value)
					if e.Dynamic {
						c.Source = kmsg.ConfigSourceDynamicTopicConfig
					}
					rr.Configs = append(rr.Configs, c)
				}
			}
			resp.Resources = append(resp.Resources, rr)
		}
		return resp, nil, true
	})
	if _, err := Release(t.Context(), w.cluster, w.repo, plan); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("got %v", err)
	}
	w.wantOwn("b", weekly)
}

func TestOnlyTheTopicsThatWereCreatedAreDeleted(t *testing.T) {
	w := newWorld(t, map[string]map[string]string{"kept": nil, "made": nil, "empty": nil, "theirs": nil, "joined": nil})
	w.create("kept", 2, nil)
	plan := w.must(w.plan("run-1", options()))
	w.prepare(plan)
	if err := w.fill(plan, options()); err != nil {
		t.Fatal(err)
	}
	w.delete("empty")
	// Somebody replaces one that the restore made by another of the same name,
	// and writes into another one.
	w.delete("theirs")
	w.create("theirs", 2, nil)
	w.write("joined", 1)
	n, kept, err := DeleteCreated(t.Context(), w.cluster, w.repo, plan)
	if err != nil || n != 1 || len(kept) != 1 || kept[0].Topic != "joined" || !strings.Contains(kept[0].Why, "partition 1 ") {
		t.Errorf("deleted %d, kept %v, %v", n, kept, err)
	}
	for topic, want := range map[string]bool{"made": false, "kept": true, "theirs": true, "joined": true} {
		if w.exists(topic) != want {
			t.Errorf("topic %s is there: %v", topic, !want)
		}
	}
}

// write writes a record that is not the restore's.
func (w *world) write(topic string, partition int32) {
	w.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		w.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(w.Context(), &kgo.Record{Topic: topic, Partition: partition, Value: []byte("theirs")}).FirstErr(); err != nil {
		w.Fatal(err)
	}
}

// What a leader that lists producers says decides without reading.
func TestWhoWroteIsToldByTheLeader(t *testing.T) {
	w := newWorld(t, map[string]map[string]string{"a": nil})
	plan := w.must(w.plan("run-1", options()))
	targets := w.prepare(plan)
	if err := w.fill(plan, options()); err != nil {
		t.Fatal(err)
	}
	type producer = kmsg.DescribeProducersResponseTopicPartitionActiveProducer
	ours := func(last int32) producer { return producer{ProducerID: targets.ProducerID, LastSequence: last} }
	var listed []producer
	w.fake.ControlKey(int16(kmsg.DescribeProducers), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.fake.KeepControl()
		r := req.(*kmsg.DescribeProducersRequest)
		resp := r.ResponseKind().(*kmsg.DescribeProducersResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewDescribeProducersResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewDescribeProducersResponseTopicPartition()
				rp.Partition, rp.ActiveProducers = p, listed
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	const begin, last = 0, perPartition - 1
	for name, test := range map[string]struct {
		listed  []producer
		begin   int64
		foreign bool
	}{
		"ours alone":                         {[]producer{ours(last)}, begin, false},
		"a late attempt still writes":        {[]producer{ours(last + 2)}, begin, false},
		"one record of another":              {[]producer{ours(last - 1)}, begin, true},
		"another, whose records ours follow": {[]producer{ours(last), {ProducerID: targets.ProducerID + 1}}, begin, true},
		"after 2^31 records":                 {[]producer{ours(last)}, begin - 1<<31, false},
		"and one more":                       {[]producer{ours(last)}, begin - 1<<31 - 1, true},
		"forgotten, ours by the last batch":  {nil, begin, false},
		"forgotten, and another before":      {nil, begin - 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			listed = test.listed
			others, err := foreignRecords(t.Context(), w.cluster, targets.ProducerID, []targetLog{{tp: kafka.TopicPartition{Topic: "a"}, id: attemptID(targets), begin: test.begin}})
			if err != nil || len(others) > 0 != test.foreign {
				t.Errorf("%v, %v", others, err)
			}
		})
	}
}

func TestARunDoesNotGoOnWhereRecordsAreGone(t *testing.T) {
	w := newWorld(t, map[string]map[string]string{"a": nil})
	plan := w.must(w.plan("run-1", options()))
	w.prepare(plan)
	if err := w.fill(plan, options()); err != nil {
		t.Fatal(err)
	}
	if err := CheckFilled(t.Context(), w.cluster, w.repo, plan); err != nil {
		t.Fatal(err)
	}
	again := w.must(w.plan("run-2", options()))
	if again.Base != plan.Base {
		t.Fatal("it does not go on with a whole target")
	}
	// The run failed later, retention holds again and eats what was restored.
	w.deleteRecords("a", 4)
	var recreated *RecreatedError
	if err := CheckFilled(t.Context(), w.cluster, w.repo, plan); !errors.As(err, &recreated) {
		t.Errorf("got %v: records are missing", err)
	}
	var against *PlanError
	if _, err := w.plan("run-3", options()); !errors.As(err, &against) || !against.Filled() {
		t.Errorf("got %v, want a PlanError", err)
	}
	w.deleteRecords("a", perPartition)
}

func TestALostTailIsNoSuccess(t *testing.T) {
	w := newWorld(t, map[string]map[string]string{"a": nil})
	plan := w.must(w.plan("run-1", options()))
	w.prepare(plan)
	if err := w.fill(plan, options()); err != nil {
		t.Fatal(err)
	}
	w.fake.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.fake.KeepControl()
		r := req.(*kmsg.ListOffsetsRequest)
		if r.Topics[0].Partitions[0].Timestamp != -1 {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewListOffsetsResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewListOffsetsResponseTopicPartition()
				rp.Partition, rp.Offset = p.Partition, perPartition-1
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	var lost *LostError
	if err := CheckFilled(t.Context(), w.cluster, w.repo, plan); !errors.As(err, &lost) || lost.Want != perPartition {
		t.Errorf("got %v, want a LostError", err)
	}
}

// A record that somebody writes between the beginning of a restore and its own
// first record is not taken for one of its own.
func TestAForeignRecordBeforeTheFirstIsSeen(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		t.Run(fmt.Sprint("allowed ", allowed), func(t *testing.T) {
			w := newWorld(t, map[string]map[string]string{"a": nil})
			o := options()
			o.AllowForeignWrites = allowed
			plan := w.must(w.plan("run-1", o))
			w.prepare(plan)
			w.write("a", 0)
			err := w.fill(plan, o)
			if !allowed {
				var foreign *transfer.ForeignWriteError
				var notOurs *NotOursError
				if !errors.As(err, &foreign) && !errors.As(err, &notOurs) {
					t.Errorf("got %v: their record counts for one of the restore's", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			ends, err := w.cluster.EndOffsets(context.Background(), []kafka.TopicPartition{{Topic: "a"}, {Topic: "a", Partition: 1}})
			if err != nil || ends[kafka.TopicPartition{Topic: "a"}].Offset != perPartition+1 || ends[kafka.TopicPartition{Topic: "a", Partition: 1}].Offset != perPartition {
				t.Errorf("%v, %v", ends, err)
			}
		})
	}
}
