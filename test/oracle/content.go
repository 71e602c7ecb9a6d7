// Package oracle tells whether one cluster's topics hold exactly what another's
// do, record by record, and whether consumer groups stand at the same record.
//
// Invariants:
//   - It knows nothing of the product: it reads with franz-go's ordinary consumer
//     in read_committed, and takes Kafka's own tools as witnesses.
//   - A record is its key, value, headers (in order, null and empty apart) and
//     timestamp. Two records that agree in all of these are the same one.
//   - Memory is 48 bytes a record, whatever the records' size.
package oracle

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Content is what a read_committed consumer sees of some topics, by topic name.
type Content map[string]*Topic

// Topic is the partitions of a topic, by partition number.
type Topic struct {
	Partitions []Partition
}

// Partition is what is to be seen of a partition.
type Partition struct {
	// LogStart is the first offset of the log, End the last stable offset when
	// reading began: the offset after the last one that was looked at.
	LogStart, End int64
	// Entries are the records in offset order.
	Entries []Entry

	origins []origin // beside Entries when the original-offset headers were read
}

// Entry stands for a record.
type Entry struct {
	Offset    int64
	Timestamp int64    // milliseconds since 1970
	Sum       [16]byte // of key, value and headers
	key       uint64   // a hash of the key
	murmur    int32    // Kafka's murmur2 of the key, made positive; -1 for a null key
}

// origin is what the headers of a restored record say of where it was.
type origin struct {
	offset, timestamp int64
	partition         int32
	present           bool
}

// Records counts the records of all topics.
func (c Content) Records() int64 {
	var n int64
	for _, t := range c {
		for _, p := range t.Partitions {
			n += int64(len(p.Entries))
		}
	}
	return n
}

// Expect makes a topic's content from records that were produced to it: by
// partition, in offset order, with their offsets set.
func Expect(records [][]*kgo.Record) *Topic {
	t := &Topic{Partitions: make([]Partition, len(records))}
	var h hasher
	for i, list := range records {
		p := &t.Partitions[i]
		for _, r := range list {
			p.Entries = append(p.Entries, h.entry(r))
			p.End = r.Offset + 1
		}
		if len(list) > 0 {
			p.LogStart = list[0].Offset
		}
	}
	return t
}

// Reading says what to read.
type Reading struct {
	// Client are the cluster's addresses and credentials.
	Client []kgo.Opt
	// Topics are the topics to read; each must exist.
	Topics []string
	// Original takes the headers x-kafka-backup-offset, -timestamp and -partition
	// (the last three of a record) for the restore's and not for the record's own.
	// Compare then checks them against the source.
	Original bool
}

// Read reads topics from log start to the last stable offset of now.
func Read(ctx context.Context, what Reading) (Content, error) {
	opts := append(slices.Clone(what.Client),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // they tell how far the log was read
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxBytes(16<<20),
		kgo.MaxConcurrentFetches(2),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	defer cl.Close()
	content, err := bounds(ctx, kadm.NewClient(cl), what.Topics)
	if err != nil {
		return nil, err
	}
	r := &reader{cl: cl, content: content, original: what.Original, next: map[place]int64{}}
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	return content, nil
}

// bounds finds the log start and the last stable offset of every partition.
func bounds(ctx context.Context, adm *kadm.Client, topics []string) (Content, error) {
	content := Content{}
	if len(topics) == 0 {
		return content, nil
	}
	ends, err := adm.ListCommittedOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("oracle: last stable offsets: %w", err)
	}
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("oracle: log starts: %w", err)
	}
	for _, name := range topics {
		if len(ends[name]) == 0 {
			return nil, fmt.Errorf("oracle: topic %q has no partitions or does not exist", name)
		}
		t := &Topic{Partitions: make([]Partition, len(ends[name]))}
		for p := range t.Partitions {
			start, okStart := starts.Lookup(name, int32(p))
			end, okEnd := ends.Lookup(name, int32(p))
			if !okStart || !okEnd {
				return nil, fmt.Errorf("oracle: no offsets for %s-%d", name, p)
			}
			t.Partitions[p].LogStart, t.Partitions[p].End = start.Offset, end.Offset
		}
		content[name] = t
	}
	return content, nil
}

// place is a topic partition.
type place struct {
	topic     string
	partition int32
}

// reader fills content; next holds the unfinished partitions.
type reader struct {
	cl       *kgo.Client
	content  Content
	original bool
	next     map[place]int64
	hash     hasher
}

func (r *reader) run(ctx context.Context) error {
	from := map[string]map[int32]kgo.Offset{}
	for name, t := range r.content {
		for i, p := range t.Partitions {
			if p.LogStart >= p.End {
				continue
			}
			if from[name] == nil {
				from[name] = map[int32]kgo.Offset{}
			}
			from[name][int32(i)] = kgo.NewOffset().At(p.LogStart)
			r.next[place{name, int32(i)}] = p.LogStart
		}
	}
	r.cl.AddConsumePartitions(from)
	for len(r.next) > 0 {
		turn, cancel := context.WithTimeout(ctx, time.Second)
		fetches := r.cl.PollFetches(turn)
		cancel()
		if ctx.Err() != nil {
			return fmt.Errorf("oracle: %d partitions not read to their end: %w", len(r.next), context.Cause(ctx))
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				return fmt.Errorf("oracle: read %s-%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		if fetches.NumRecords() == 0 {
			if err := r.dropFinished(ctx); err != nil {
				return err
			}
			continue
		}
		if err := r.take(fetches); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) take(fetches kgo.Fetches) error {
	var failed error
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		at := place{f.Topic, f.Partition}
		p := &r.content[f.Topic].Partitions[f.Partition]
		for _, record := range f.Records {
			next, unfinished := r.next[at]
			if !unfinished || record.Offset >= p.End {
				break
			}
			if record.Offset < next {
				failed = fmt.Errorf("oracle: %s-%d: the consumer gave offset %d after %d", f.Topic, f.Partition, record.Offset, next-1)
				return
			}
			if !record.Attrs.IsControl() {
				if r.original {
					p.origins = append(p.origins, takeOrigin(record))
				}
				p.Entries = append(p.Entries, r.hash.entry(record))
			}
			r.next[at] = record.Offset + 1
		}
		if next, unfinished := r.next[at]; unfinished && next >= p.End {
			delete(r.next, at)
		}
	})
	return failed
}

// dropFinished is called when the consumer has nothing more to give: where a
// log ends in offsets that hold no record any more, only a fetch can tell.
func (r *reader) dropFinished(ctx context.Context) error {
	topics, err := kadm.NewClient(r.cl).ListTopics(ctx, topicsOf(r.next)...)
	if err != nil {
		return fmt.Errorf("oracle: metadata: %w", err)
	}
	for at, next := range r.next {
		t := topics[at.topic]
		empty, err := r.nothingBetween(ctx, at, t.ID, t.Partitions[at.partition].Leader, next, r.content[at.topic].Partitions[at.partition].End)
		if err != nil {
			return err
		}
		if empty {
			delete(r.next, at)
		}
	}
	return nil
}

// nothingBetween tells whether no visible record lies in [from, end). A leader
// that is away, or answers nothing, proves nothing.
func (r *reader) nothingBetween(ctx context.Context, at place, id [16]byte, leader int32, from, end int64) (bool, error) {
	for silent := 0; from < end; {
		req := kmsg.NewPtrFetchRequest()
		req.MaxWaitMillis, req.MaxBytes, req.IsolationLevel = 500, 16<<20, 1
		req.SessionEpoch = -1
		partition := kmsg.NewFetchRequestTopicPartition()
		partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes = at.partition, from, 16<<20
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic, topic.TopicID = at.topic, id
		topic.Partitions = append(topic.Partitions, partition)
		req.Topics = append(req.Topics, topic)
		resp, err := req.RequestWith(ctx, r.cl.Broker(int(leader)))
		if err != nil {
			return false, fmt.Errorf("oracle: fetch %s-%d: %w", at.topic, at.partition, err)
		}
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].ErrorCode != 0 {
			return false, nil
		}
		answer := &resp.Topics[0].Partitions[0]
		got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
			Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: at.topic, Partition: at.partition,
		}, answer, kgo.DefaultDecompressor(), nil)
		if len(got.Records) > 0 && got.Records[0].Offset < end {
			return false, nil
		}
		if next > from {
			from = next
			continue
		}
		if silent++; silent == 3 {
			return answer.HighWatermark >= end, nil
		}
	}
	return true, nil
}

func topicsOf(places map[place]int64) []string {
	var names []string
	for at := range places {
		names = append(names, at.topic)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// takeOrigin cuts the three original-offset headers off a record, if it has them.
func takeOrigin(r *kgo.Record) origin {
	const offset, timestamp, partition = "x-kafka-backup-offset", "x-kafka-backup-timestamp", "x-kafka-backup-partition"
	if len(r.Headers) < 3 {
		return origin{}
	}
	own := len(r.Headers) - 3
	o := origin{present: true}
	seen := map[string]bool{}
	for _, h := range r.Headers[own:] {
		n, err := strconv.ParseInt(string(h.Value), 10, 64)
		if err != nil {
			return origin{}
		}
		switch seen[h.Key] = true; h.Key {
		case offset:
			o.offset = n
		case timestamp:
			o.timestamp = n
		case partition:
			o.partition = int32(n)
		}
	}
	if !seen[offset] || !seen[timestamp] || !seen[partition] {
		return origin{}
	}
	r.Headers = r.Headers[:own]
	return o
}

// hasher makes entries and keeps its buffer.
type hasher struct{ buf []byte }

func (h *hasher) entry(r *kgo.Record) Entry {
	h.buf = appendBytes(h.buf[:0], r.Key)
	h.buf = appendBytes(h.buf, r.Value)
	for _, header := range r.Headers {
		h.buf = binary.AppendVarint(h.buf, int64(len(header.Key)))
		h.buf = append(h.buf, header.Key...)
		h.buf = appendBytes(h.buf, header.Value)
	}
	sum := sha256.Sum256(h.buf)
	e := Entry{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Sum: [16]byte(sum[:16]), murmur: -1}
	if r.Key != nil {
		e.murmur = murmur2(r.Key)
		key := sha256.Sum256(r.Key)
		e.key = binary.BigEndian.Uint64(key[:8])
	}
	return e
}

// appendBytes writes a length, -1 for null, and the bytes.
func appendBytes(dst, p []byte) []byte {
	if p == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(p))), p...)
}

// murmur2 is org.apache.kafka.common.utils.Utils.toPositive(murmur2(key)),
// written anew here so as not to share a mistake with the product.
func murmur2(key []byte) int32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := binary.LittleEndian.Uint32(key) * m
		h = h*m ^ (k^k>>24)*m
	}
	for i := len(key) - 1; i >= 0; i-- {
		h ^= uint32(key[i]) << (8 * i)
	}
	if len(key) > 0 {
		h *= m
	}
	h = (h ^ h>>13) * m
	return int32((h ^ h>>15) & 0x7fffffff)
}
