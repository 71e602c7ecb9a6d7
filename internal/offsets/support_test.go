package offsets

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"gocloud.dev/blob/memblob"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

func TestMain(m *testing.M) {
	kafka.LookAgain = 200 * time.Millisecond // the fake cluster has one view of its topics
	os.Exit(m.Run())
}

// bed is a fake cluster with a repository.
type bed struct {
	t    *testing.T
	fake *kfake.Cluster
	*kafka.Cluster
	repo *repository.Repository
}

func newBed(t *testing.T, opts ...kfake.Opt) *bed {
	t.Helper()
	fake, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	cluster, err := kafka.Connect(t.Context(), config.Cluster{BootstrapServers: fake.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	repo, err := repository.Create(t.Context(), memblob.OpenBucket(nil))
	if err != nil {
		t.Fatal(err)
	}
	return &bed{t, fake, cluster, repo}
}

// fill produces n records to each partition of a topic.
func (b *bed) fill(topic string, partitions, n int) {
	b.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	var rs []*kgo.Record
	for p := range partitions {
		for i := range n {
			rs = append(rs, &kgo.Record{Topic: topic, Partition: int32(p), Value: fmt.Append(nil, i)})
		}
	}
	if err := cl.ProduceSync(b.t.Context(), rs...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

// commit commits offsets, by partition from 0, that must be accepted.
func (b *bed) commit(group, topic string, offsets ...int64) {
	b.t.Helper()
	var list []kafka.CommittedOffset
	for p, o := range offsets {
		if o >= 0 {
			list = append(list, kafka.CommittedOffset{Topic: topic, Partition: int32(p), Offset: o, LeaderEpoch: -1, Metadata: fmt.Sprint("m", o)})
		}
	}
	results, err := b.CommitOffsets(b.t.Context(), group, list)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, err := range results {
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// committed is what a group has committed, as text: orders/0=5 orders/1=6.
func (b *bed) committed(group string) string {
	b.t.Helper()
	got, err := b.CommittedOffsets(b.t.Context(), []string{group})
	if err != nil {
		b.t.Fatal(err)
	}
	var parts []string
	for _, o := range got[group] {
		parts = append(parts, fmt.Sprintf("%s/%d=%d", o.Topic, o.Partition, o.Offset))
	}
	return strings.Join(parts, " ")
}

// plan makes the plan of a request.
func (b *bed) plan(r Request) (*Plan, []GroupPlan, error) {
	b.t.Helper()
	var groups []GroupPlan
	p, err := r.Plan(b.t.Context(), b.Cluster, b.repo, func(s *Shard) error {
		groups = append(groups, s.Groups...)
		return nil
	})
	return p, groups, err
}

// rows writes plans as text, one row a line.
func rows(groups []GroupPlan) string {
	var b strings.Builder
	for _, g := range groups {
		if g.Blocked != "" {
			fmt.Fprintf(&b, "%s: %s\n", g.Group, g.Kind)
		}
		for _, t := range g.Topics {
			for _, r := range t.Rows {
				fmt.Fprintf(&b, "%s %s/%d %d>%d %s\n", g.Group, t.Topic, r.Partition, r.Current, r.Target, r.Action)
			}
		}
	}
	return b.String()
}

// refuse makes the coordinator answer commits of some partitions with error
// codes, so many times each. It stands in for the partition's own trouble: the
// other partitions of the request are committed.
func (b *bed) refuse(times int, codes map[int32]*kerr.Error) {
	left := map[int32]int{}
	for p := range codes {
		left[p] = times
	}
	b.fake.ControlKey(int16(kmsg.OffsetCommit), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		req := kreq.(*kmsg.OffsetCommitRequest)
		refused := false
		for _, t := range req.Topics {
			for _, p := range t.Partitions {
				refused = refused || left[p.Partition] > 0
			}
		}
		if !refused {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		kept := *req
		kept.Topics = nil
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			kt := t
			kt.Partitions = nil
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition = p.Partition
				if left[p.Partition] > 0 {
					left[p.Partition]--
					rp.ErrorCode = codes[p.Partition].Code
				} else {
					kt.Partitions = append(kt.Partitions, p)
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
			if len(kt.Partitions) > 0 {
				kept.Topics = append(kept.Topics, kt)
			}
		}
		if len(kept.Topics) > 0 {
			done := make(chan error, 1)
			go func() { done <- b.direct(&kept) }()
			b.fake.SleepControl(func() {
				if err := <-done; err != nil {
					b.t.Error(err)
				}
			})
		}
		return resp, nil, true
	})
}

// direct commits by a connection of its own.
func (b *bed) direct(req *kmsg.OffsetCommitRequest) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.fake.ListenAddrs()...))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = req.RequestWith(context.Background(), cl)
	return err
}
