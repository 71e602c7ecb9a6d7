package offsets

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"gocloud.dev/blob/memblob"
	"pgregory.net/rapid"

	"github.com/kafka-backup/kafka-backup/internal/backup"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/restore"
)

// side is one of two clusters.
type side struct {
	*kafka.Cluster
	fake    *kfake.Cluster
	adm     *kadm.Client
	plain   *kgo.Client
	servers kgo.Opt
	txn     [2]*kgo.Client
}

func newSide(t *testing.T) *side {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	s := &side{fake: fake, servers: kgo.SeedBrokers(fake.ListenAddrs()...)}
	if s.Cluster, err = kafka.Connect(t.Context(), config.Cluster{BootstrapServers: fake.ListenAddrs()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	client := func(opts ...kgo.Opt) *kgo.Client {
		cl, err := kgo.NewClient(append(opts, s.servers, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	s.plain = client()
	s.adm = kadm.NewClient(s.plain)
	for i := range s.txn {
		s.txn[i] = client(kgo.TransactionalID(fmt.Sprint("txn-", i)))
	}
	return s
}

// read is all that a consumer of committed records reads of a partition.
func (s *side) read(t *rapid.T, ctx context.Context, topic string, partition int32) []*kgo.Record {
	tp := kafka.TopicPartition{Topic: topic, Partition: partition}
	starts, err := s.StartOffsets(ctx, []kafka.TopicPartition{tp})
	if err != nil {
		t.Fatal(err)
	}
	ends, err := s.EndOffsets(ctx, []kafka.TopicPartition{tp})
	if err != nil {
		t.Fatal(err)
	}
	if starts[tp].Offset == ends[tp].Offset {
		return nil
	}
	cl, err := kgo.NewClient(s.servers, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(10*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(starts[tp].Offset)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var all []*kgo.Record
	for last := int64(-1); last < ends[tp].Offset-1; { // a record, or the marker of a transaction
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if last = r.Offset; !r.Attrs.IsControl() {
				all = append(all, r)
			}
		})
	}
	return all
}

// writeLog writes a random log into a partition: plain records, and transactions,
// some of them aborted and some of them interleaved. Keys come again and again,
// so that compaction leaves gaps, in batches and between them. It returns how many
// records are not of aborted transactions.
func (s *side) writeLog(t *rapid.T, ctx context.Context, topic string, partition int32) (valid int) {
	at := time.Now().Add(-time.Hour).UnixMilli()
	n := 0
	put := func(cl *kgo.Client) int {
		var rs []*kgo.Record
		for range rapid.IntRange(1, 4).Draw(t, "records") {
			at += rapid.Int64Range(-2000, 3000).Draw(t, "time")
			rs = append(rs, &kgo.Record{Topic: topic, Partition: partition, Timestamp: time.UnixMilli(at),
				Key: fmt.Append(nil, rapid.IntRange(0, 5).Draw(t, "key")), Value: fmt.Appendf(nil, "%d-%d", partition, n)})
			n++
		}
		if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		return len(rs)
	}
	for range rapid.IntRange(0, 6).Draw(t, "steps") {
		open := rapid.IntRange(0, 2).Draw(t, "transactions")
		var in [len(s.txn)]int
		for i := range open {
			if err := s.txn[i].BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			in[i] = put(s.txn[i])
		}
		valid += put(s.plain)
		for i := range open {
			commit := rapid.Bool().Draw(t, "commit")
			if err := s.txn[i].EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
				t.Fatal(err)
			}
			if commit {
				valid += in[i]
			}
		}
	}
	return valid
}

// Logs with transactions, gaps of compaction and moved starts are backed up,
// restored within a time window, and the groups reset: each resumes with exactly
// the records that it would have read next on the source, as far as they were
// restored.
func TestAResetGroupReadsOnWhereItWouldHave(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	was := checks.Value.String()
	if was == checks.DefValue {
		_ = flag.Set("rapid.checks", "20") // each has several partitions and groups
		defer func() { _ = flag.Set("rapid.checks", was) }()
	}
	source, target := newSide(t), newSide(t)
	repo, err := repository.Create(t.Context(), memblob.OpenBucket(nil))
	if err != nil {
		t.Fatal(err)
	}
	const partitions, groups = 4, 3
	round, gone := 0, 0 // gone: by compaction
	rapid.Check(t, func(t *rapid.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		check := func(err error) {
			if err != nil {
				t.Helper()
				t.Fatal(err)
			}
		}
		round++
		topic, id := fmt.Sprint("log-", round), fmt.Sprint("b", round)
		policy := rapid.SampledFrom([]string{"delete", "compact"}).Draw(t, "cleanup.policy")
		_, err := source.adm.CreateTopic(ctx, partitions, 1, map[string]*string{"cleanup.policy": &policy}, topic)
		check(err)
		committed := make([]map[int32]int64, groups)
		names := make([]string, groups)
		for i := range committed {
			committed[i], names[i] = map[int32]int64{}, fmt.Sprintf("%s-group-%d", topic, i)
		}
		logs := make([][]*kgo.Record, partitions)
		var times []int64
		for p := range int32(partitions) {
			gone += source.writeLog(t, ctx, topic, p)
		}
		source.fake.Compact()
		for p := range int32(partitions) {
			gone -= len(source.read(t, ctx, topic, p))
		}
		for p := range int32(partitions) {
			tp := kafka.TopicPartition{Topic: topic, Partition: p}
			ends, err := source.EndOffsets(ctx, []kafka.TopicPartition{tp})
			check(err)
			end := ends[tp].Offset
			starts, err := source.StartOffsets(ctx, []kafka.TopicPartition{tp})
			check(err)
			if rapid.Bool().Draw(t, "the start moves") {
				_, err := source.adm.DeleteRecords(ctx, kadm.Offsets{topic: {p: {Topic: topic, Partition: p, At: rapid.Int64Range(starts[tp].Offset, end).Draw(t, "start")}}})
				check(err)
			}
			logs[p] = source.read(t, ctx, topic, p)
			for _, r := range logs[p] {
				times = append(times, r.Timestamp.UnixMilli())
			}
			for i := range committed {
				if rapid.IntRange(0, 5).Draw(t, "committed") > 0 {
					committed[i][p] = rapid.Int64Range(0, end).Draw(t, "at")
				}
			}
		}
		for i, at := range committed {
			var os kadm.Offsets
			for p, o := range at {
				os.AddOffset(topic, p, o, -1)
			}
			if len(os) > 0 {
				check(source.adm.CommitAllOffsets(ctx, names[i], os))
			}
		}

		// Back up.
		options := config.New().Backup
		made, _, err := backup.MakePlan(ctx, source.Cluster, repo, backup.Request{BackupID: id, Topics: config.TopicFilter{Include: []string{topic}}, Options: options})
		check(err)
		for part := range made.Parts {
			c := backup.Copier{Cluster: source.Cluster, Repository: repo, Options: options, Share: 1}
			_, err := c.Copy(ctx, made, part)
			check(err)
		}
		_, err = backup.Complete(ctx, source.Cluster, repo, made, config.GroupFilter{Include: names}, true)
		check(err)

		// Restore.
		var into config.Restore
		config.SetDefaults(&into)
		bound := func(what string) *config.Timestamp {
			if len(times) == 0 || rapid.Bool().Draw(t, "no "+what) {
				return nil
			}
			at := config.Timestamp(rapid.SampledFrom(times).Draw(t, what))
			return &at
		}
		into.TimeWindowStart, into.TimeWindowEnd = bound("window start"), bound("window end")
		if s, e := into.TimeWindowStart, into.TimeWindowEnd; s != nil && e != nil && *s > *e {
			into.TimeWindowStart, into.TimeWindowEnd = e, s
		}
		into.TopicMapping = map[string]string{topic: "to-" + topic}
		plan, ref, err := restore.MakePlan(ctx, target.Cluster, repo, restore.Request{WorkflowID: "restore/" + id, RunID: "run", BackupID: id, Options: into}, true)
		check(err)
		_, err = restore.Prepare(ctx, target.Cluster, repo, plan)
		check(err)
		for part := range plan.Parts {
			f := restore.Filler{Cluster: target.Cluster, Repository: repo, Options: into, Share: 1}
			_, err := f.Fill(ctx, plan, part)
			check(err)
		}
		_, _, err = restore.MakeMapping(ctx, repo, plan, ref)
		check(err)

		// Reset, by way of the mapping that is found.
		request := Request{BackupID: id, Groups: Selection{All: true}}
		var shard Shard
		p, err := request.Plan(ctx, target.Cluster, repo, func(s *Shard) error {
			shard.Groups = append(shard.Groups, s.Groups...)
			return nil
		})
		if committedAny := slices.ContainsFunc(committed, func(m map[int32]int64) bool { return len(m) > 0 }); !committedAny {
			return // and so there is nothing to plan
		}
		check(err)
		if p.Totals.Changes() != p.Totals.Partitions {
			t.Fatalf("not all are set: %+v", p.Totals)
		}
		a := Applier{Cluster: target.Cluster}
		o, err := a.Apply(ctx, shard.Forward())
		check(err)
		if len(o.Failed)+len(o.Open) > 0 {
			t.Fatalf("%+v", o)
		}

		// Resume.
		after, err := target.CommittedOffsets(ctx, names)
		check(err)
		for p := range int32(partitions) {
			there := target.read(t, ctx, "to-"+topic, p)
			for i, name := range names {
				at, had := committed[i][p]
				n := slices.IndexFunc(after[name], func(o kafka.CommittedOffset) bool { return o.Topic == "to-"+topic && o.Partition == p })
				if had != (n >= 0) {
					t.Fatalf("%s partition %d: committed before %v, after %v", name, p, had, n >= 0)
				}
				if !had {
					continue
				}
				var want, got []string
				for _, r := range logs[p] {
					ms := config.Timestamp(r.Timestamp.UnixMilli())
					if r.Offset >= at && (into.TimeWindowStart == nil || ms >= *into.TimeWindowStart) && (into.TimeWindowEnd == nil || ms <= *into.TimeWindowEnd) {
						want = append(want, string(r.Value))
					}
				}
				for _, r := range there {
					if r.Offset >= after[name][n].Offset {
						got = append(got, string(r.Value))
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%s partition %d, committed %d, now %d: reads %q, and would have read %q", name, p, at, after[name][n].Offset, got, want)
				}
			}
		}
	})
	if round >= 20 && gone == 0 {
		t.Error("compaction has taken nothing out of any log")
	}
}
