package awkward_test

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/test/awkward"
	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var shared = kafkabed.Share(kafkabed.Options{})

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

func maker(t *testing.T, ctx context.Context, bed *kafkabed.Bed) (*awkward.Maker, []kgo.Opt) {
	t.Helper()
	opts, err := bed.ClientOptions(kafkabed.Login{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := awkward.NewMaker(ctx, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, opts
}

// check reads topics back and compares them with what they say is to be seen.
func check(t *testing.T, ctx context.Context, opts []kgo.Opt, topics ...*awkward.Topic) {
	t.Helper()
	want := oracle.Content{}
	plan := oracle.Plan{BrokerTime: map[string]bool{}}
	var names []string
	for _, topic := range topics {
		want[topic.Name] = oracle.Expect(topic.Want)
		plan.BrokerTime[topic.Name] = topic.BrokerTime
		names = append(names, topic.Name)
	}
	got, err := oracle.Read(ctx, oracle.Reading{Client: opts, Topics: names})
	if err != nil {
		t.Fatal(err)
	}
	if err := oracle.Compare(want, got, plan).Err(); err != nil {
		t.Error(err)
	}
	for name, topic := range want {
		for p := range topic.Partitions {
			is, should := offsets(got[name].Partitions[p]), offsets(topic.Partitions[p])
			if !slices.Equal(is, should) {
				t.Errorf("%s-%d is seen at other offsets than it was acknowledged at:\n%v\n%v", name, p, is, should)
			}
		}
	}
}

func offsets(p oracle.Partition) []int64 {
	list := make([]int64, len(p.Entries))
	for i, e := range p.Entries {
		list[i] = e.Offset
	}
	return list
}

func TestAllTopicsShowExactlyWhatTheySay(t *testing.T) {
	bed := shared.Bed(t)
	ctx := kafkabed.Context(t, 5*time.Minute)
	m, opts := maker(t, ctx, bed)
	topics, err := m.All(ctx, func(ctx context.Context) error {
		if err := bed.Kill(1); err != nil {
			return err
		}
		return bed.StartBroker(ctx, 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for _, topic := range topics {
		records += topic.Records()
	}
	t.Logf("%d topics, %d records", len(topics), records)
	check(t, ctx, opts, topics...)
	for _, topic := range topics {
		if expect, ok := awkwardness[topic.Name]; ok {
			t.Run(topic.Name, func(t *testing.T) { expect(t, survey(t, ctx, opts, topic.Name)) })
		}
	}
}

// awkwardness tells, for topics where it is not plain from Want, that the log
// really is as it should be.
var awkwardness = map[string]func(*testing.T, surveyed){
	"codecs-mixed": func(t *testing.T, s surveyed) {
		if len(s.codecs) != 5 || len(s.producers) < 10 {
			t.Errorf("codecs %v, %d producer ids", s.codecs, len(s.producers))
		}
	},
	"codec-none":   onlyCodec(0),
	"codec-gzip":   onlyCodec(1),
	"codec-snappy": onlyCodec(2),
	"codec-lz4":    onlyCodec(3),
	"codec-zstd":   onlyCodec(4),
	"odd-frames": func(t *testing.T, s surveyed) {
		if !s.codecs[1] || !s.codecs[2] || !s.codecs[4] {
			t.Errorf("codecs %v", s.codecs)
		}
	},
	"leader-epochs": func(t *testing.T, s surveyed) {
		if len(s.epochs) < 4 {
			t.Errorf("leader epochs %v, want at least four", s.epochs)
		}
	},
	"log-append-time": func(t *testing.T, s surveyed) {
		if !s.brokerTime {
			t.Error("the timestamps are the producer's")
		}
	},
	"transactions": func(t *testing.T, s surveyed) {
		if s.control == 0 || s.uncommitted <= s.committed {
			t.Errorf("%d control records, %d records uncommitted, %d committed", s.control, s.uncommitted, s.committed)
		}
	},
	"compacted": func(t *testing.T, s surveyed) {
		if s.gaps < 20 || s.logStart != 0 {
			t.Errorf("%d gaps, log start %d", s.gaps, s.logStart)
		}
	},
	"large": func(t *testing.T, s surveyed) {
		if s.largest < 1<<20-100 {
			t.Errorf("the largest value has %d bytes", s.largest)
		}
	},
}

func onlyCodec(codec uint8) func(*testing.T, surveyed) {
	return func(t *testing.T, s surveyed) {
		for other := range s.codecs {
			if other != codec && other != 0 { // franz-go leaves alone what does not get smaller
				t.Errorf("codec %d beside %d", other, codec)
			}
		}
		if !s.codecs[codec] {
			t.Errorf("codecs %v, want %d", s.codecs, codec)
		}
	}
}

// surveyed is what a topic's log looks like in read_uncommitted.
type surveyed struct {
	codecs                          map[uint8]bool
	producers                       map[int64]bool
	epochs                          map[int32]bool
	brokerTime                      bool
	control, uncommitted, committed int
	gaps                            int // of the first partition
	logStart                        int64
	largest                         int
}

func survey(t *testing.T, ctx context.Context, opts []kgo.Opt, topic string) surveyed {
	t.Helper()
	seen, err := oracle.Read(ctx, oracle.Reading{Client: opts, Topics: []string{topic}})
	if err != nil {
		t.Fatal(err)
	}
	s := surveyed{
		codecs: map[uint8]bool{}, producers: map[int64]bool{}, epochs: map[int32]bool{},
		committed: int(seen.Records()), logStart: seen[topic].Partitions[0].LogStart,
	}
	cl, err := kgo.NewClient(append(slices.Clone(opts), kgo.ConsumeTopics(topic), kgo.KeepControlRecords())...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	next := map[int32]int64{0: s.logStart}
	for {
		finished := true
		for p, part := range seen[topic].Partitions {
			finished = finished && (len(part.Entries) == 0 || next[int32(p)] > part.Entries[len(part.Entries)-1].Offset)
		}
		if finished {
			return s
		}
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Partition == 0 && r.Offset > next[0] {
				s.gaps++
			}
			next[r.Partition] = r.Offset + 1
			if r.Attrs.IsControl() {
				s.control++
				return
			}
			s.uncommitted++
			s.codecs[r.Attrs.CompressionType()] = true
			s.producers[r.ProducerID] = true
			s.epochs[r.LeaderEpoch] = true
			s.brokerTime = s.brokerTime || r.Attrs.TimestampType() == 1
			s.largest = max(s.largest, len(r.Value))
		})
	}
}

func TestAnOpenTransactionHidesWhatFollowsIt(t *testing.T) {
	bed := shared.Bed(t)
	for name, commit := range map[string]bool{"committed": true, "aborted": false} {
		t.Run(name, func(t *testing.T) {
			ctx := kafkabed.Context(t, 2*time.Minute)
			m, opts := maker(t, ctx, bed)
			m.Prefix = name + "-"
			open, err := m.OpenTransaction(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if open.Records() != 10 {
				t.Errorf("%d records are to be seen, want the 10 before the transaction", open.Records())
			}
			check(t, ctx, opts, open.Topic)
			if err := open.End(ctx, commit); err != nil {
				t.Fatal(err)
			}
			check(t, ctx, opts, open.Topic)
		})
	}
}

func TestTheOracleReadsToTheEndOfALogThatEndsInNothing(t *testing.T) {
	bed := shared.Bed(t)
	ctx := kafkabed.Context(t, time.Minute)
	m, opts := maker(t, ctx, bed)
	m.Prefix = "tail-"
	topic, err := m.Transactions(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// Partition 1 holds aborted records alone; cut all but its last marker off.
	cl := bed.Client(t, kafkabed.Login{})
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic.Name)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic.Name, 1)
	cut := kadm.Offsets{}
	cut.Add(kadm.Offset{Topic: topic.Name, Partition: 1, At: end.Offset - 1})
	if _, err := kadm.NewClient(cl).DeleteRecords(ctx, cut); err != nil {
		t.Fatal(err)
	}
	check(t, ctx, opts, topic)
}

func TestLeaderEpochsByMovingLeadership(t *testing.T) {
	bed := kafkabed.Start(t, kafkabed.Options{Brokers: 3, HeapMiB: 384})
	ctx := kafkabed.Context(t, 3*time.Minute)
	m, opts := maker(t, ctx, bed)
	topic, err := m.Epochs(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	check(t, ctx, opts, topic)
	awkwardness["leader-epochs"](t, survey(t, ctx, opts, topic.Name))
}
