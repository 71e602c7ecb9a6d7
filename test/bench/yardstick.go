package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/test/dataset"
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "zstd": kgo.ZstdCompression(), "lz4": kgo.Lz4Compression(),
	"snappy": kgo.SnappyCompression(), "gzip": kgo.GzipCompression(),
}

// source is a topic that is backed up.
type source struct {
	topic   string
	codec   string
	id      [16]byte
	leaders []int32
	ends    []int64
	records int64
	wire    int64 // bytes of record batches
	// batches are some of each partition's, for raw produce: no producer id,
	// so that they can be sent any number of times.
	batches [][]recordbatch.Batch
}

func (b *bed) load(ctx context.Context, codec string, o options) (*source, error) {
	s := &source{topic: "bench-" + codec, codec: codec}
	var err error
	s.records, err = dataset.Load(ctx, dataset.Bulk{
		Client: b.opts(), Topic: s.topic, Partitions: int32(o.partitions), Bytes: o.bytes, Codec: codecs[codec],
	})
	if err != nil {
		return nil, err
	}
	if s.id, s.leaders, err = b.place(ctx, s.topic); err != nil {
		return nil, err
	}
	ends, err := b.admin.ListEndOffsets(ctx, s.topic)
	if err != nil {
		return nil, err
	}
	for p := range s.leaders {
		e, _ := ends.Lookup(s.topic, int32(p))
		s.ends = append(s.ends, e.Offset)
	}
	s.batches = make([][]recordbatch.Batch, len(s.leaders))
	held := make([]int, len(s.leaders))
	err = b.rawFetch(ctx, s, 1, func(_ int, p int32, records []byte) error {
		for {
			batch, rest, err := recordbatch.Next(records)
			if err != nil {
				return nil // cut short: it comes again whole
			}
			s.wire += int64(len(batch))
			if held[p] < (64<<20)/len(s.leaders) {
				own := recordbatch.Batch(append([]byte(nil), batch...))
				own.Stamp(recordbatch.Stamp{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1})
				s.batches[p] = append(s.batches[p], own)
				held[p] += len(batch)
			}
			records = rest
		}
	})
	return s, err
}

// place gives a topic's id and its partitions' leaders.
func (b *bed) place(ctx context.Context, topic string) (id [16]byte, leaders []int32, err error) {
	deadline := time.Now().Add(time.Minute)
	for {
		topics, err := b.admin.ListTopics(ctx, topic)
		if err != nil {
			return id, nil, err
		}
		t := topics[topic]
		ready := t.Err == nil && len(t.Partitions) > 0
		leaders = nil
		for _, p := range t.Partitions.Sorted() {
			ready = ready && p.Err == nil && p.Leader >= 0
			leaders = append(leaders, p.Leader)
		}
		if ready { // and the leaders know that they are
			ends, err := b.admin.ListEndOffsets(ctx, topic)
			if err == nil && ends.Error() == nil {
				return t.ID, leaders, nil
			}
		}
		if time.Now().After(deadline) {
			return id, nil, fmt.Errorf("topic %s is not ready: %w", topic, errors.Join(t.Err, errors.New("a minute has passed")))
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return id, nil, context.Cause(ctx)
		}
	}
}

// Of the raw yardsticks: requests under way at once, and the most bytes of one
// answer and of one partition in it.
const (
	lanes             = 2
	rawFetchBytes     = 16 << 20
	rawPartitionBytes = 2 << 20
)

// rawFetch fetches a topic with fetch requests, n under way at a time, and
// does nothing with what comes; take, when not nil, is given the bytes.
func (b *bed) rawFetch(ctx context.Context, s *source, n int, take func(lane int, partition int32, records []byte) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for lane := range n {
		g.Go(func() error {
			next := map[int32]int64{}
			for p := lane; p < len(s.ends); p += n {
				next[int32(p)] = 0
			}
			for len(next) > 0 {
				req := kmsg.NewPtrFetchRequest()
				req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 500, 1, rawFetchBytes
				t := kmsg.NewFetchRequestTopic()
				t.Topic, t.TopicID = s.topic, s.id
				for p, offset := range next {
					rp := kmsg.NewFetchRequestTopicPartition()
					rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p, offset, rawPartitionBytes
					t.Partitions = append(t.Partitions, rp)
				}
				req.Topics = append(req.Topics, t)
				r, err := b.client.Broker(int(s.leaders[0])).Request(ctx, req)
				if err != nil {
					return err
				}
				for _, t := range r.(*kmsg.FetchResponse).Topics {
					for _, p := range t.Partitions {
						if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
							return err
						}
						if take != nil {
							if err := take(lane, p.Partition, p.RecordBatches); err != nil {
								return err
							}
						}
						for rest := p.RecordBatches; ; { // only the headers are looked at
							batch, after, err := recordbatch.Next(rest)
							if err != nil {
								break
							}
							next[p.Partition], rest = batch.LastOffset()+1, after
						}
						if next[p.Partition] >= s.ends[p.Partition] {
							delete(next, p.Partition)
						}
					}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// bareCopy is raw fetch and the least that a backup must do beside it: batches
// are verified, hashed and written, one file for each lane, which is synced at
// the end. No more can be had of a machine whose cores are all busy with it.
func (b *bed) bareCopy(ctx context.Context, s *source) error {
	dir, err := os.MkdirTemp(b.dir, "copy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var files [lanes]*os.File
	for i := range files {
		if files[i], err = os.Create(filepath.Join(dir, strconv.Itoa(i))); err != nil {
			return err
		}
		defer files[i].Close()
	}
	err = b.rawFetch(ctx, s, lanes, func(lane int, _ int32, records []byte) error {
		rest := records
		for {
			batch, after, err := recordbatch.Next(rest)
			if err != nil {
				break // cut short: it comes again whole
			}
			if err := batch.Verify(); err != nil {
				return err
			}
			rest = after
		}
		whole := records[:len(records)-len(rest)]
		sum := sha256.Sum256(whole)
		if _, err := files[lane].Write(whole); err != nil {
			return err
		}
		_, err := files[lane].Write(sum[:])
		return err
	})
	for _, f := range files {
		err = errors.Join(err, f.Sync())
	}
	return err
}

// encode makes blocks out of as many batches as the source has, in one
// goroutine, and does nothing with them: what compressing and hashing take of
// a backup's processor time, on this machine as busy as it is now.
func (b *bed) encode(s *source) error {
	for n := int64(0); n < s.wire; {
		for _, batches := range s.batches {
			for _, batch := range batches {
				e, err := repository.EncodeBlock(repository.CodecZstd, 1, batch)
				if err != nil {
					return err
				}
				e.Release()
				if n += int64(len(batch)); n >= s.wire {
					return nil
				}
			}
		}
	}
	return nil
}

// consume reads a topic with franz-go's ordinary consumer.
func (b *bed) consume(ctx context.Context, s *source) error {
	cl, err := kgo.NewClient(append(b.opts(), kgo.ConsumeTopics(s.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	var n int64
	for n < s.records {
		f := cl.PollFetches(ctx)
		if err := f.Err(); err != nil {
			return err
		}
		n += int64(f.NumRecords())
	}
	return nil
}

// rawProduce sends batches that are ready to a new topic with produce
// requests, as many records as the source has.
func (b *bed) rawProduce(ctx context.Context, s *source, topic string) error {
	if _, err := b.admin.CreateTopic(ctx, int32(len(s.leaders)), 1, nil, topic); err != nil {
		return err
	}
	id, leaders, err := b.place(ctx, topic)
	if err != nil {
		return err
	}
	var sent atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for lane := range lanes {
		g.Go(func() error {
			for i := 0; sent.Load() < s.records; i++ {
				req := kmsg.NewPtrProduceRequest()
				req.Acks, req.TimeoutMillis = -1, 30_000
				t := kmsg.NewProduceRequestTopic()
				t.Topic, t.TopicID = topic, id
				for p := lane; p < len(leaders); p += lanes {
					rp := kmsg.NewProduceRequestTopicPartition()
					batch := s.batches[p][i%len(s.batches[p])]
					rp.Partition, rp.Records = int32(p), batch
					t.Partitions = append(t.Partitions, rp)
					sent.Add(int64(batch.NumRecords()))
				}
				req.Topics = append(req.Topics, t)
				r, err := b.client.Broker(int(leaders[0])).Request(ctx, req)
				if err != nil {
					return err
				}
				for _, t := range r.(*kmsg.ProduceResponse).Topics {
					for _, p := range t.Partitions {
						if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
							return err
						}
					}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// produce fills a new topic with franz-go's ordinary producer.
func (b *bed) produce(ctx context.Context, s *source, topic string, bytes int64) error {
	_, err := dataset.Load(ctx, dataset.Bulk{Client: b.opts(), Topic: topic, Partitions: int32(len(s.leaders)), Bytes: bytes, Codec: codecs[s.codec]})
	return err
}

// holds checks how many records a topic has.
func (b *bed) holds(ctx context.Context, topic string, want int64) error {
	ends, err := b.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	var n int64
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	if ends.Error() != nil || n != want {
		return fmt.Errorf("topic %s holds %d records instead of %d (%v)", topic, n, want, ends.Error())
	}
	return nil
}
