package awkward

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Nulls makes two partitions, one of which is compressed, with every
// combination of null and empty key, value and header value, one batch.
func (m *Maker) Nulls(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"nulls", 2)
	if err != nil {
		return nil, err
	}
	choices := [][]byte{nil, {}, []byte("x")}
	for p := range int32(2) {
		cl, err := m.producer(kgo.ProducerBatchCompression(codecs[p*4].Codec))
		if err != nil {
			return nil, err
		}
		defer cl.Close()
		var records []*kgo.Record
		for _, key := range choices {
			for _, value := range choices {
				records = append(records, &kgo.Record{Partition: p, Key: key, Value: value, Timestamp: epoch})
				for _, name := range []string{"", "h"} {
					for _, header := range choices {
						records = append(records, &kgo.Record{
							Partition: p, Key: key, Value: value, Timestamp: epoch,
							Headers: []kgo.RecordHeader{{Key: name, Value: header}},
						})
					}
				}
			}
		}
		if err := t.add(ctx, cl, records...); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Headers makes a partition of records whose headers repeat a name, in orders
// that matter, are many, are long, or are named like the product's own.
func (m *Maker) Headers(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"headers", 1)
	if err != nil {
		return nil, err
	}
	cl, err := m.producer(kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	header := func(name, value string) kgo.RecordHeader {
		return kgo.RecordHeader{Key: name, Value: []byte(value)}
	}
	many := make([]kgo.RecordHeader, 300)
	for i := range many {
		many[i] = header(fmt.Sprintf("h%d", i%7), fmt.Sprint(i))
	}
	sets := [][]kgo.RecordHeader{
		{header("a", "1"), header("a", "2"), header("a", "1")},
		{header("a", "2"), header("a", "1"), header("a", "1")},
		{header("b", "1"), header("a", "1"), header("b", "1")},
		{header("a", ""), {Key: "a"}, header("a", "")},
		{{Key: "a"}, header("a", ""), {Key: "a"}},
		many,
		{header(strings.Repeat("n", 3000), strings.Repeat("v", 20000))},
		{header("ünï-☃\x00 \n", "\xff\xfe\x00")},
		{header("x-kafka-backup-offset", "not a number"), header("x-kafka-backup-partition", "7")},
	}
	for i, set := range sets {
		r := &kgo.Record{Key: fmt.Appendf(nil, "set-%d", i), Value: []byte("same"), Headers: set, Timestamp: epoch}
		if err := t.add(ctx, cl, r); err != nil {
			return nil, err
		}
	}
	// And all of them in one batch.
	var together []*kgo.Record
	for _, set := range sets {
		together = append(together, &kgo.Record{Value: []byte("same"), Headers: set, Timestamp: epoch})
	}
	return t, t.add(ctx, cl, together...)
}

// BrokerTime makes two partitions of a LogAppendTime topic: the timestamps that
// the producer gave are replaced in the batch's header, for all its records.
func (m *Maker) BrokerTime(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"log-append-time", 2, "message.timestamp.type", "LogAppendTime")
	if err != nil {
		return nil, err
	}
	t.BrokerTime = true
	for i, c := range codecs {
		if err := m.batches(ctx, t, c.Name, int32(1+i%2), kgo.ProducerBatchCompression(c.Codec)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Decades makes a partition in which single batches hold timestamps decades
// apart, in no order, negative and zero ones among them.
func (m *Maker) Decades(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"decades", 1)
	if err != nil {
		return nil, err
	}
	times := []time.Time{
		epoch,
		time.UnixMilli(0),
		time.UnixMilli(-1),
		time.UnixMilli(1),
		time.Date(1950, 1, 1, 0, 0, 0, 1e6, time.UTC),
		time.Date(2001, 9, 9, 1, 46, 40, 0, time.UTC),
		time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(2015, 6, 30, 23, 59, 59, 999e6, time.UTC),
		epoch.Add(time.Hour),
	}
	return t, m.stamped(ctx, t, times)
}

// Future makes a partition with records of the year 2100, which a broker takes
// only because the topic's message.timestamp.after.max.ms says so.
func (m *Maker) Future(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"future", 1, "message.timestamp.after.max.ms", "9223372036854775807")
	if err != nil {
		return nil, err
	}
	return t, m.stamped(ctx, t, []time.Time{epoch, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), epoch})
}

// stamped adds records with the given times, as batches that begin with each of
// them in turn, by several codecs.
func (m *Maker) stamped(ctx context.Context, t *Topic, times []time.Time) error {
	for _, c := range codecs {
		cl, err := m.producer(kgo.ProducerBatchCompression(c.Codec))
		if err != nil {
			return err
		}
		defer cl.Close()
		for first := range times {
			records := plain(0, c.Name, len(times))
			for i, r := range records {
				r.Timestamp = times[(first+i)%len(times)]
			}
			if err := t.add(ctx, cl, records...); err != nil {
				return err
			}
		}
	}
	return nil
}

// OddNames makes topics with names that are legal and look like something else.
func (m *Maker) OddNames(ctx context.Context) ([]*Topic, error) {
	names := []string{
		"orders", "Orders", "ORDERS", // three topics, and one file name on some file systems
		"...", "_", "-", "-dash", "--option",
		"looks-like-a-partition-0", "con", "nul.txt", ".hidden", "a..b",
		"manifest.json", "0",
		strings.Repeat("n", 249), // the longest that Kafka takes
	}
	var topics []*Topic
	for _, name := range names {
		t, err := m.create(ctx, name, 1)
		if err != nil {
			return nil, err
		}
		if err := m.batches(ctx, t, name[:min(len(name), 20)], 1); err != nil {
			return nil, err
		}
		topics = append(topics, t)
	}
	return topics, nil
}

// TinyBatches makes four partitions of 250 batches of one record each.
func (m *Maker) TinyBatches(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"tiny-batches", 4)
	if err != nil {
		return nil, err
	}
	cl, err := m.producer()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var made []*kgo.Record
	for i := range 250 {
		var round []*kgo.Record
		for p := range int32(4) {
			round = append(round, plain(p, fmt.Sprintf("tiny-%d", i), 1)...)
		}
		if err := t.send(ctx, cl, round...); err != nil {
			return nil, err
		}
		made = append(made, round...)
	}
	t.want(made...)
	return t, nil
}
