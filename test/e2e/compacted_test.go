package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"gocloud.dev/blob/memblob"

	"github.com/kafka-backup/kafka-backup/internal/backup"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/test/kafkabed"
)

// TestCompactionIsSeen shows that Kafka tells what an incremental backup of a
// compacted topic goes by: as long as the cleaner has not come by, all that was
// written since the backup before is there; once it has, the batches with
// tombstones say until when these stay, even where nothing was removed.
func TestCompactionIsSeen(t *testing.T) {
	c := small(t)
	ctx := kafkabed.Context(t, 2*time.Minute)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const topic = "compaction-is-seen"
	retention, configs := 24*time.Hour, map[string]*string{}
	for k, v := range map[string]string{
		"cleanup.policy": "compact", "delete.retention.ms": "86400000", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0.001",
		"min.compaction.lag.ms": "3600000", // until it is let loose
	} {
		configs[k] = &v
	}
	_, err := c.adm.CreateTopic(ctx, 1, 1, configs, topic)
	must(err)
	cluster, err := kafka.Connect(ctx, config.Cluster{BootstrapServers: strings.Split(c.Bootstrap, ",")})
	must(err)
	defer cluster.Close()
	repo, err := repository.Create(ctx, memblob.OpenBucket(nil))
	must(err)
	client := c.Client(t, kafkabed.Login{})
	now := time.Now()
	put := func(at time.Time, keys ...string) {
		t.Helper()
		var records []*kgo.Record
		for _, k := range keys {
			r := &kgo.Record{Topic: topic, Key: []byte(k), Value: []byte("is"), Timestamp: at}
			if k == "deleted" && len(keys) > 2 {
				r.Value = nil
			}
			records = append(records, r)
		}
		must(client.ProduceSync(ctx, records...).FirstErr())
	}
	options := config.New().Backup
	plan := func(id string) (*backup.Plan, backup.PlanPartition) {
		t.Helper()
		p, _, err := backup.MakePlan(ctx, cluster, repo, backup.Request{BackupID: id, Topics: config.TopicFilter{Include: []string{topic}}, Options: options})
		must(err)
		var part backup.PlanPart
		must(repo.GetDocument(ctx, p.Parts[0], &part))
		return p, part.Topics[0].Partitions[0]
	}
	put(now, "deleted", "stays")
	first, _ := plan("first")
	copier := backup.Copier{Cluster: cluster, Repository: repo, Options: options, Share: 1}
	_, err = copier.Copy(ctx, first, 0)
	must(err)
	_, err = backup.Complete(ctx, cluster, repo, first, options.ConsumerGroups, false)
	must(err)

	put(now.Add(5*time.Second), "new", "deleted", "newer") // one batch, all of which the cleaner keeps
	defer func(was func() time.Time) { backup.Clock = was }(backup.Clock)
	backup.Clock = func() time.Time { return time.Now().Add(20 * time.Hour) }
	before, p := plan("before")
	if p.From != 2 || len(before.Warnings) > 0 || p.ReadBy.Sub(before.CreatedAt.Add(retention)).Abs() > time.Minute {
		t.Errorf("nothing was compacted: it is read from %d on, by %v, warnings %v", p.From, p.ReadBy, before.Warnings)
	}

	put(now.Add(10*time.Second), "rolls") // the cleaner leaves the last segment alone
	none := "0"
	_, err = c.adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "min.compaction.lag.ms", Value: &none}}, topic)
	must(err)
	for {
		offsets := offsetsOf(ctx, t, c, topic, 5)
		if offsets[0] == 1 {
			if len(offsets) != 5 {
				t.Fatalf("the cleaner left %v, it was to take offset 0 only", offsets)
			}
			break
		}
	}
	after, p := plan("after")
	if p.From != 0 || len(p.Slices) > 0 || len(after.Warnings) != 1 {
		t.Errorf("the tombstone may go in four hours: it is read from %d on, with %d slices of before, warnings %v", p.From, len(p.Slices), after.Warnings)
	}
}

// offsetsOf reads the offsets of partition 0 from its start up to the last one given.
func offsetsOf(ctx context.Context, t *testing.T, c *cluster, topic string, last int64) (offsets []int64) {
	t.Helper()
	cl, err := kgo.NewClient(append(c.opts[:len(c.opts):len(c.opts)], kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for len(offsets) == 0 || offsets[len(offsets)-1] < last {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { offsets = append(offsets, r.Offset) })
	}
	return offsets
}
