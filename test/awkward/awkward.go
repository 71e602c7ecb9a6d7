// Package awkward fills topics with what backup tools get wrong, and knows of
// each topic exactly what a read_committed consumer must see of it.
//
// Invariants:
//   - What a topic must show (Topic.Want) comes from what was produced and
//     acknowledged, and never from reading the topic back.
//   - A topic is finished when its function returns: no transaction is open, no
//     cleaner is still to run, unless its comment says so.
//   - The shape is made for real Kafka. kfake ignores some of it (compaction,
//     LogAppendTime, broker-side checks).
package awkward

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Topic is a topic that was filled, and what must be seen of it.
type Topic struct {
	Name string
	// Want holds, for each partition, the records that a read_committed consumer
	// sees from log start on, in offset order, with Partition and Offset set.
	Want [][]*kgo.Record
	// BrokerTime tells that the broker set the timestamps (LogAppendTime), so
	// that those in Want mean nothing.
	BrokerTime bool
}

// Records counts the records that must be seen.
func (t *Topic) Records() int {
	n := 0
	for _, p := range t.Want {
		n += len(p)
	}
	return n
}

// Maker makes awkward topics on one cluster.
type Maker struct {
	// Prefix is put before the topics' names, those of OddNames excepted.
	Prefix string

	opts     []kgo.Opt
	cl       *kgo.Client
	adm      *kadm.Client
	replicas int16
}

// NewMaker connects to a cluster with opts (addresses and credentials). Topics
// are made with three replicas where there are as many brokers, else with one.
func NewMaker(ctx context.Context, opts ...kgo.Opt) (*Maker, error) {
	m := &Maker{opts: append(slices.Clone(opts), kgo.MetadataMinAge(100*time.Millisecond))}
	var err error
	if m.cl, err = kgo.NewClient(m.opts...); err != nil {
		return nil, fmt.Errorf("awkward: %w", err)
	}
	m.adm = kadm.NewClient(m.cl)
	brokers, err := m.adm.ListBrokers(ctx)
	if err != nil {
		m.cl.Close()
		return nil, fmt.Errorf("awkward: list brokers: %w", err)
	}
	m.replicas = 1
	if len(brokers) >= 3 {
		m.replicas = 3
	}
	return m, nil
}

// Close ends the connections. The topics stay.
func (m *Maker) Close() { m.cl.Close() }

// Brokers is how many replicas, and so at least how many brokers, topics have.
func (m *Maker) Brokers() int { return int(m.replicas) }

// create makes a topic (config as key, value, key, value) and waits until each
// of its partitions has a leader.
func (m *Maker) create(ctx context.Context, name string, partitions int32, config ...string) (*Topic, error) {
	values := map[string]*string{}
	for i := 0; i < len(config); i += 2 {
		values[config[i]] = &config[i+1]
	}
	if _, err := m.adm.CreateTopic(ctx, partitions, m.replicas, values, name); err != nil {
		return nil, fmt.Errorf("awkward: create topic %s: %w", name, err)
	}
	err := poll(ctx, "leaders of "+name, func() (bool, error) {
		topics, err := m.adm.ListTopics(ctx, name)
		if err != nil {
			return false, err
		}
		t := topics[name]
		if t.Err != nil || len(t.Partitions) != int(partitions) {
			return false, t.Err
		}
		for _, p := range t.Partitions {
			if p.Err != nil || p.Leader < 0 {
				return false, p.Err
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return &Topic{Name: name, Want: make([][]*kgo.Record, partitions)}, nil
}

// producer is a client that puts each record into the partition it names and
// sends only when flushed, so that what is produced between two flushes is one
// batch a partition.
func (m *Maker) producer(opts ...kgo.Opt) (*kgo.Client, error) {
	all := append(slices.Clone(m.opts),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ManualFlushing(),
		kgo.ProducerBatchMaxBytes(32<<20),
		kgo.BrokerMaxWriteBytes(64<<20),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	)
	cl, err := kgo.NewClient(append(all, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("awkward: %w", err)
	}
	return cl, nil
}

// send produces the records of t as one batch a partition and waits for the
// acknowledgement, which sets their offsets. It does not add them to t.Want.
func (t *Topic) send(ctx context.Context, cl *kgo.Client, records ...*kgo.Record) error {
	errs := make([]error, len(records))
	for i, r := range records {
		r.Topic = t.Name
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) { errs[i] = err })
	}
	if err := cl.Flush(ctx); err != nil {
		return fmt.Errorf("awkward: produce to %s: %w", t.Name, err)
	}
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("awkward: produce to %s-%d: %w", t.Name, records[i].Partition, err)
		}
	}
	return nil
}

// add sends the records and expects them to be seen.
func (t *Topic) add(ctx context.Context, cl *kgo.Client, records ...*kgo.Record) error {
	if err := t.send(ctx, cl, records...); err != nil {
		return err
	}
	t.want(records...)
	return nil
}

// want expects records, whose offsets are known, to be seen.
func (t *Topic) want(records ...*kgo.Record) {
	for _, r := range records {
		t.Want[r.Partition] = append(t.Want[r.Partition], r)
	}
	for _, p := range t.Want {
		slices.SortFunc(p, func(a, b *kgo.Record) int { return cmp.Compare(a.Offset, b.Offset) })
	}
}

// epoch is the timestamp of most records: fixed, so that a run resembles the
// next, and recent enough for every default of a broker.
var epoch = time.Now().Truncate(time.Hour).Add(-2 * time.Hour)

// plain makes n records for a partition that differ in key, value and timestamp.
func plain(partition int32, label string, n int) []*kgo.Record {
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{
			Partition: partition,
			Key:       []byte(label + "-key-" + strconv.Itoa(i)),
			Value:     fmt.Appendf(nil, `{"from":%q,"number":%d,"text":"the quick brown fox jumps over the lazy dog"}`, label, i),
			Timestamp: epoch.Add(time.Duration(i) * time.Second),
		}
	}
	return records
}

// poll calls ready every 50 ms until it says true, for two minutes at most. A
// topic that is not known yet is not an error.
func poll(ctx context.Context, what string, ready func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := ready()
		if ok {
			return nil
		}
		if err != nil && !kerr.IsRetriable(err) {
			return fmt.Errorf("awkward: wait for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("awkward: waited in vain for %s: %w (last: %v)", what, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// All makes every topic of this package that stays as it is once made.
// restartBroker restarts the only broker, for several leader epochs where
// leadership cannot move; nil leaves Epochs out on a single broker.
func (m *Maker) All(ctx context.Context, restartBroker func(context.Context) error) ([]*Topic, error) {
	var makers []func(context.Context) ([]*Topic, error)
	if restartBroker != nil || m.replicas > 1 { // first, for the sake of MovedStart
		makers = append(makers, one(func(ctx context.Context) (*Topic, error) { return m.Epochs(ctx, restartBroker) }))
	}
	makers = append(makers,
		m.Codecs,
		m.OddNames,
		one(m.MixedCodecs), one(m.OddFrames), one(m.Nulls), one(m.Headers),
		one(m.Large), one(m.LargerThanDefault), one(m.Inflated),
		one(m.BrokerTime), one(m.Decades), one(m.Future),
		one(m.Sparse), one(m.Empty), one(m.MovedStart), one(m.TinyBatches),
		one(m.Transactions), one(m.Compacted),
	)
	var topics []*Topic
	for _, make := range makers {
		made, err := make(ctx)
		if err != nil {
			return nil, err
		}
		topics = append(topics, made...)
	}
	return topics, nil
}

func one(make func(context.Context) (*Topic, error)) func(context.Context) ([]*Topic, error) {
	return func(ctx context.Context) ([]*Topic, error) {
		t, err := make(ctx)
		return []*Topic{t}, err
	}
}
