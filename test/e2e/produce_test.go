package e2e

import (
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// create makes a topic (config as key, value, key, value) and waits for it.
func (u *user) create(c *cluster, topic string, partitions int32, replicas int16, config ...string) {
	u.t.Helper()
	values := map[string]*string{}
	for i := 0; i < len(config); i += 2 {
		values[config[i]] = &config[i+1]
	}
	if _, err := c.adm.CreateTopic(u.ctx, partitions, replicas, values, topic); err != nil {
		u.t.Fatal(err)
	}
	u.await("leaders of "+topic, func() bool {
		m, err := c.adm.Metadata(u.ctx, topic)
		if err != nil || m.Topics[topic].Err != nil || len(m.Topics[topic].Partitions) != int(partitions) {
			return false
		}
		for _, p := range m.Topics[topic].Partitions {
			if p.Leader < 0 {
				return false
			}
		}
		return true
	})
}

// remove deletes a topic and waits until it is gone.
func (u *user) remove(c *cluster, topic string) {
	u.t.Helper()
	if _, err := c.adm.DeleteTopic(u.ctx, topic); err != nil {
		u.t.Fatal(err)
	}
	u.await("the end of "+topic, func() bool {
		m, err := c.adm.Metadata(u.ctx, topic)
		return err == nil && m.Topics[topic].Err != nil
	})
}

// await waits until something is true, for as long as the test may run.
func (u *user) await(what string, is func() bool) {
	u.t.Helper()
	for !is() {
		select {
		case <-u.ctx.Done():
			u.t.Fatalf("waited in vain for %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// produce puts n records with keys and values of their own into each partition,
// timed one second apart from since on. from makes them differ from others.
func (u *user) produce(c *cluster, topic string, partitions, from, n int, since time.Time) {
	u.t.Helper()
	cl, err := kgo.NewClient(append(slices.Clone(c.opts), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(16<<10), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	if err != nil {
		u.t.Fatal(err)
	}
	defer cl.Close()
	var records []*kgo.Record
	for p := range partitions {
		for i := from; i < from+n; i++ {
			records = append(records, &kgo.Record{
				Topic: topic, Partition: int32(p), Key: fmt.Appendf(nil, "key-%d", i), Timestamp: since.Add(time.Duration(i) * time.Second),
				Value: fmt.Appendf(nil, "%s/%d record %d %0100d", topic, p, i, i*i), Headers: []kgo.RecordHeader{{Key: "n", Value: fmt.Append(nil, i)}},
			})
		}
	}
	if err := cl.ProduceSync(u.ctx, records...).FirstErr(); err != nil {
		u.t.Fatal(err)
	}
}

// commit sets a group's offset for every partition of a topic.
func (u *user) commit(c *cluster, group, topic string, offsets ...int64) {
	u.t.Helper()
	all := kadm.Offsets{}
	for p, at := range offsets {
		all.Add(kadm.Offset{Topic: topic, Partition: int32(p), At: at, LeaderEpoch: -1, Metadata: "of " + group})
	}
	if err := c.adm.CommitAllOffsets(u.ctx, group, all); err != nil {
		u.t.Fatal(err)
	}
}

// cut moves a partition's log start.
func (u *user) cut(c *cluster, topic string, partition int32, to int64) {
	u.t.Helper()
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: to})
	r, err := c.adm.DeleteRecords(u.ctx, offsets)
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		u.t.Fatal(err)
	}
}

// longAgo is when records were made that no retention spares.
var longAgo = time.Date(2001, 9, 9, 1, 46, 40, 0, time.UTC)
