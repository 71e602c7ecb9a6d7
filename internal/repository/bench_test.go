package repository

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"gocloud.dev/blob/memblob"

	"github.com/kafka-backup/kafka-backup/internal/storage/file"
)

// jsonRecords is n bytes that look like batches of JSON records: half of it repeats itself.
func jsonRecords(n int) []byte {
	random := rand.New(rand.NewPCG(7, 7))
	var p []byte
	for i := 0; len(p) < n; i++ {
		p = fmt.Appendf(p, `{"id":%d,"customer":"%016x","amount":%d,"note":"%016x%016x","currency":"EUR","status":"paid"}`, i, random.Uint64(), random.IntN(100000), random.Uint64(), random.Uint64())
	}
	return p[:n]
}

func BenchmarkEncodeBlock(b *testing.B) {
	raw := jsonRecords(1 << 20)
	for _, codec := range []Codec{CodecNone, CodecZstd} {
		b.Run(string(codec), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				e, err := EncodeBlock(codec, 0, raw)
				if err != nil {
					b.Fatal(err)
				}
				e.Release()
			}
		})
	}
}

func benchRepository(b *testing.B) *Repository {
	bucket, err := file.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	return newRepository(b, bucket)
}

// One segment of 128 blocks of 1 MB, with one fsync.
func BenchmarkWriteSegment(b *testing.B) {
	r := benchRepository(b)
	raw := jsonRecords(1 << 20)
	e, err := EncodeBlock(CodecNone, 0, raw)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(128 << 20)
	b.ReportAllocs()
	sequence := 0
	for b.Loop() {
		writeBench(b, r, sequence, e)
		sequence++
	}
}

func writeBench(b *testing.B, r *Repository, sequence int, e *EncodedBlock) SegmentRef {
	w, err := r.NewSegment(context.Background(), "b", 0, sequence)
	if err != nil {
		b.Fatal(err)
	}
	for i := range int64(128) {
		block := Block{FirstOffset: i * 10, LastOffset: i*10 + 9, Records: 10}
		block.SetEncoded(e)
		if err := w.Append(tp0, block, e.Stored...); err != nil {
			b.Fatal(err)
		}
	}
	ref, err := w.Close([]SegmentPartition{{TopicPartition: tp0, NextOffset: 1280}})
	if err != nil {
		b.Fatal(err)
	}
	return ref
}

func BenchmarkReadSegment(b *testing.B) {
	r := benchRepository(b)
	raw := jsonRecords(1 << 20)
	for i, codec := range []Codec{CodecNone, CodecZstd} {
		b.Run(string(codec), func(b *testing.B) {
			e, err := EncodeBlock(codec, 0, raw)
			if err != nil {
				b.Fatal(err)
			}
			ref := writeBench(b, r, i, e)
			s, err := r.OpenSegment(context.Background(), ref)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(128 << 20)
			b.ReportAllocs()
			var buf Buffer
			for b.Loop() {
				if err := s.ReadBlocks(context.Background(), s.Blocks(tp0), &buf, func(*Block, []byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			r.bucket.Delete(context.Background(), ref.Key)
		})
	}
}

// An index shard of 100,000 partitions with three slices each.
func BenchmarkIndex(b *testing.B) {
	r := newRepository(b, memblob.OpenBucket(nil))
	s := &Shard{}
	for i := range 30 {
		s.Segments = append(s.Segments, SegmentRef{Key: SegmentKey("b", 0, i), Size: 1 << 27})
	}
	for t := range 1000 {
		topic := Topic{Name: fmt.Sprintf("some.topic.name-%d", t), ID: fmt.Sprintf("AAAAAAAAQACAAAAAAA%04d", t), PartitionCount: 100, Config: map[string]string{"retention.ms": "604800000"}}
		for p := range int32(100) {
			partition := Partition{Partition: p, FirstOffset: -1, LastOffset: -1, End: 3000, HighWatermark: 3001, LeaderEpoch: 4}
			for k := range int64(3) {
				partition.AddSlice(Slice{Segment: t % 30, FirstOffset: 1000 * k, LastOffset: 1000*k + 999, Records: 1000, Bytes: 123456 + rand.Int64N(100000), StoredBytes: 23456, MinBaseTimestamp: 1700000000000 + rand.Int64N(1e9), MaxTimestamp: 1700000000000 + rand.Int64N(1e9)})
			}
			topic.Partitions = append(topic.Partitions, partition)
		}
		s.Topics = append(s.Topics, topic)
	}
	ref, _, err := r.AdoptIndex(context.Background(), "b", 0, s)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.ReadIndex(context.Background(), ref); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(ref.Size)/1e6, "MB-stored")
	})
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := packJSON(s); err != nil {
				b.Fatal(err)
			}
		}
	})
}
