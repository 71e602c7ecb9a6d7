package awkward

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Sparse makes five partitions of which only the third has records.
func (m *Maker) Sparse(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"sparse", 5)
	if err != nil {
		return nil, err
	}
	cl, err := m.producer()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	return t, t.add(ctx, cl, plain(2, "sparse", 20)...)
}

// Empty makes three partitions without any record.
func (m *Maker) Empty(ctx context.Context) (*Topic, error) {
	return m.create(ctx, m.Prefix+"empty", 3)
}

// MovedStart makes a topic whose log starts were moved by DeleteRecords:
//
//	0  to a batch boundary
//	1  into the middle of a batch
//	2  to the end: nothing is left, and the next offset is not 0
//	3  to the end, and records came after it
//
// A broker writes log starts to disk once a minute
// (log.flush.start.offset.checkpoint.interval.ms) and when it stops: one that is
// killed before that comes back with the earlier start, and the records.
func (m *Maker) MovedStart(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"moved-start", 4)
	if err != nil {
		return nil, err
	}
	cl, err := m.producer(kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	for p := range int32(4) {
		for batch := range 5 {
			if err := t.add(ctx, cl, plain(p, "batch-"+strconv.Itoa(batch), 20)...); err != nil {
				return nil, err
			}
		}
	}
	starts := []int64{40, 47, 100, 100}
	cut := make(kadm.Offsets)
	for p, start := range starts {
		cut.Add(kadm.Offset{Topic: t.Name, Partition: int32(p), At: start})
		t.Want[p] = t.Want[p][start:]
	}
	deleted, err := m.adm.DeleteRecords(ctx, cut)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("awkward: delete records of %s: %w", t.Name, err)
	}
	return t, t.add(ctx, cl, plain(3, "after", 10)...)
}

// Epochs makes two partitions whose batches carry four leader epochs. With three
// replicas leadership is moved from broker to broker; a single broker is
// restarted by restart.
func (m *Maker) Epochs(ctx context.Context, restart func(context.Context) error) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"leader-epochs", 2)
	if err != nil {
		return nil, err
	}
	for epoch := range 4 {
		if epoch > 0 {
			if m.replicas > 1 {
				err = m.moveLeaders(ctx, t)
			} else {
				err = restart(ctx)
			}
			if err != nil {
				return nil, fmt.Errorf("awkward: new leader epoch for %s: %w", t.Name, err)
			}
		}
		if err := m.batches(ctx, t, "epoch-"+strconv.Itoa(epoch), 2); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// moveLeaders makes the second replica of each partition its leader.
func (m *Maker) moveLeaders(ctx context.Context, t *Topic) error {
	topics, err := m.adm.ListTopics(ctx, t.Name)
	if err != nil {
		return err
	}
	var req kadm.AlterPartitionAssignmentsReq
	leaders := map[int32]int32{}
	var set kadm.TopicsSet
	for _, p := range topics[t.Name].Partitions {
		order := append(p.Replicas[1:len(p.Replicas):len(p.Replicas)], p.Replicas[0])
		req.Assign(t.Name, p.Partition, order)
		leaders[p.Partition] = order[0]
		set.Add(t.Name, p.Partition)
	}
	altered, err := m.adm.AlterPartitionAssignments(ctx, req)
	if err == nil {
		err = altered.Error()
	}
	if err != nil {
		return err
	}
	return poll(ctx, "new leaders of "+t.Name, func() (bool, error) {
		// The results are looked up below, in the metadata.
		if _, err := m.adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, set); err != nil {
			return false, err
		}
		topics, err := m.adm.ListTopics(ctx, t.Name)
		if err != nil {
			return false, err
		}
		for _, p := range topics[t.Name].Partitions {
			if p.Leader != leaders[p.Partition] {
				return false, nil
			}
		}
		return true, nil
	})
}

// Compacted makes two partitions that the log cleaner has been over: most
// records are gone, so offsets have gaps within and between batches, whole
// batches are empty, tombstones remain, and log start is still 0. The second
// partition is written in transactions, some of which are aborted: an aborted
// record must not have displaced the committed one before it.
func (m *Maker) Compacted(ctx context.Context) (*Topic, error) {
	// A segment's age is told by the records' timestamps, and a transaction's
	// markers carry the broker's time: so all is of now, and what rolls the
	// segment is of as far ahead as a broker takes without being told to.
	const segment = 10 * time.Minute
	now := time.Now().Truncate(time.Millisecond)
	t, err := m.create(ctx, m.Prefix+"compacted", 2,
		"cleanup.policy", "compact",
		"min.cleanable.dirty.ratio", "0.001",
		"segment.ms", strconv.FormatInt(segment.Milliseconds(), 10))
	if err != nil {
		return nil, err
	}
	plainly, err := m.producer(kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		return nil, err
	}
	defer plainly.Close()
	inTurns, err := m.transactional(t.Name)
	if err != nil {
		return nil, err
	}
	defer inTurns.Close()

	random := rand.New(rand.NewPCG(1, 2))
	latest := make([]map[string]*kgo.Record, 2)
	for p := range latest {
		latest[p] = map[string]*kgo.Record{}
	}
	batch := func(p int32, round int) []*kgo.Record {
		records := plain(p, "round-"+strconv.Itoa(round), 25)
		for i, r := range records {
			r.Key = []byte("key-" + strconv.Itoa(random.IntN(60)))
			r.Timestamp = now.Add(time.Duration(round*25+i) * time.Millisecond)
			if random.IntN(10) == 0 {
				r.Value = nil
			}
		}
		return records
	}
	for round := range 30 {
		records := batch(0, round)
		if err := t.send(ctx, plainly, records...); err != nil {
			return nil, err
		}
		keepLatest(latest[0], records)

		records = batch(1, round)
		commit := round%3 != 0
		if err := transaction(ctx, inTurns, t, commit, records); err != nil {
			return nil, err
		}
		if commit {
			keepLatest(latest[1], records)
		}
	}
	for p := range int32(2) {
		for _, r := range latest[p] {
			t.want(r)
		}
		// The cleaner leaves the last segment alone.
		last := plain(p, "rolls", 3)
		for _, r := range last {
			r.Timestamp = now.Add(3 * segment)
		}
		if err := t.add(ctx, plainly, last...); err != nil {
			return nil, err
		}
	}
	if err := m.awaitStable(ctx, t); err != nil {
		return nil, err
	}
	return t, m.awaitWant(ctx, t)
}

func keepLatest(latest map[string]*kgo.Record, records []*kgo.Record) {
	for _, r := range records {
		latest[string(r.Key)] = r
	}
}

// awaitWant reads t until each partition shows exactly the offsets wanted.
func (m *Maker) awaitWant(ctx context.Context, t *Topic) error {
	return poll(ctx, "the cleaner of "+t.Name, func() (bool, error) {
		for p, want := range t.Want {
			offsets, err := m.offsets(ctx, t.Name, int32(p), want[len(want)-1].Offset)
			if err != nil {
				return false, err
			}
			if len(offsets) != len(want) {
				return false, nil
			}
			for i, r := range want {
				if offsets[i] != r.Offset {
					return false, nil
				}
			}
		}
		return true, nil
	})
}

// offsets reads the offsets of a partition's records, up to the given last one.
func (m *Maker) offsets(ctx context.Context, topic string, partition int32, last int64) ([]int64, error) {
	cl, err := kgo.NewClient(append(m.opts[:len(m.opts):len(m.opts)],
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var offsets []int64
	for len(offsets) == 0 || offsets[len(offsets)-1] < last {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) { offsets = append(offsets, r.Offset) })
	}
	return offsets, nil
}
