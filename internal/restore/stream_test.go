package restore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"testing"

	"gocloud.dev/blob/memblob"
	"pgregory.net/rapid"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// logged is a record of a made-up log.
type logged struct {
	offset, timestamp int64
	key, value        []byte
}

// madeLog is a backup of a made-up partition.
type madeLog struct {
	records  []logged
	segments []repository.SegmentRef
	part     repository.Partition
}

// makeLog draws a log with everything a log can have (codecs, gaps inside and
// between batches, broker time, times out of order, null keys) and writes it
// into a repository, cut into blocks and segments at random.
func makeLog(t *rapid.T, repo *repository.Repository, tp repository.TopicPartition, run string) *madeLog {
	ctx := context.Background()
	m := &madeLog{part: repository.Partition{Partition: tp.Partition, FirstOffset: -1, LastOffset: -1}}
	offset := rapid.Int64Range(0, 50).Draw(t, "first offset")
	clock := int64(1_700_000_000_000)
	encoders := map[recordbatch.Codec]*recordbatch.Encoder{}
	batch := func() []byte {
		codec := rapid.SampledFrom([]recordbatch.Codec{recordbatch.None, recordbatch.Gzip, recordbatch.Snappy, recordbatch.LZ4, recordbatch.Zstd}).Draw(t, "codec")
		e := encoders[codec]
		if e == nil {
			var err error
			if e, err = recordbatch.NewEncoder(recordbatch.EncoderConfig{Codec: codec}); err != nil {
				t.Fatal(err)
			}
			encoders[codec] = e
		}
		offset += rapid.SampledFrom([]int64{0, 0, 0, 1, 7}).Draw(t, "gap before")
		brokerTime := rapid.IntRange(0, 9).Draw(t, "broker time") == 0
		n := rapid.IntRange(1, 12).Draw(t, "records")
		first, latest := len(m.records), int64(0)
		for i := range n {
			clock += rapid.Int64Range(-2000, 3000).Draw(t, "time")
			r := logged{offset: offset + int64(i), timestamp: clock, value: fmt.Appendf(nil, "%d-%d", tp.Partition, offset+int64(i))}
			if k := rapid.IntRange(-1, 8).Draw(t, "key"); k >= 0 {
				r.key = fmt.Append(nil, "key-", k)
			}
			if i == 0 || clock > latest {
				latest = clock
			}
			m.records = append(m.records, r)
			e.Append(&recordbatch.Record{Offset: r.offset, Timestamp: r.timestamp, Key: r.key, Value: r.value})
		}
		raw, err := e.Flush(nil)
		if err != nil {
			t.Fatal(err)
		}
		binary.BigEndian.PutUint64(raw, uint64(offset))
		last := int64(n) - 1
		if rapid.IntRange(0, 5).Draw(t, "compacted tail") == 0 {
			last += rapid.Int64Range(1, 4).Draw(t, "removed")
			binary.BigEndian.PutUint32(raw[23:], uint32(last)) // last offset delta
		}
		if brokerTime {
			raw[22] |= 8
			for i := first; i < len(m.records); i++ {
				m.records[i].timestamp = latest
			}
		}
		recrc(raw)
		offset += last + 1
		return raw
	}
	for seq := range rapid.IntRange(0, 4).Draw(t, "segments") {
		w, err := repo.NewSegment(ctx, run, 0, seq)
		if err != nil {
			t.Fatal(err)
		}
		slice := repository.Slice{Segment: seq}
		for range rapid.IntRange(1, 4).Draw(t, "blocks") {
			var b repository.Block
			var raws [][]byte
			for range rapid.IntRange(1, 4).Draw(t, "batches") {
				raw := batch()
				b.AddBatch(recordbatch.Batch(raw))
				raws = append(raws, raw)
			}
			enc, err := repository.EncodeBlock(rapid.SampledFrom([]repository.Codec{repository.CodecNone, repository.CodecZstd}).Draw(t, "block codec"), 1, raws...)
			if err != nil {
				t.Fatal(err)
			}
			b.SetEncoded(enc)
			if err := w.Append(tp, b, enc.Stored...); err != nil {
				t.Fatal(err)
			}
			slice.AddBlocks(b)
		}
		ref, err := w.Close([]repository.SegmentPartition{{TopicPartition: tp, NextOffset: offset}})
		if err != nil {
			t.Fatal(err)
		}
		m.segments = append(m.segments, ref)
		m.part.AddSlice(slice)
	}
	m.part.End = offset
	return m
}

// recrc makes a batch's checksum fit again.
func recrc(b []byte) { binary.BigEndian.PutUint32(b[17:], castagnoli(b[21:])) }

func drawRule(t *rapid.T, m *madeLog) Rule {
	r := Rule{From: rapid.Int64Range(0, m.part.End/3).Draw(t, "from")}
	at := func(what string) *int64 {
		if len(m.records) == 0 || rapid.Bool().Draw(t, "no "+what) {
			return nil
		}
		v := m.records[rapid.IntRange(0, len(m.records)-1).Draw(t, what)].timestamp
		return &v
	}
	r.Start, r.End = at("start"), at("end")
	return r
}

func (m *madeLog) expected(r Rule) (out []logged) {
	for _, rec := range m.records {
		if r.takes(&recordbatch.Record{Offset: rec.offset, Timestamp: rec.timestamp}) {
			out = append(out, rec)
		}
	}
	return out
}

func newRepo(t *rapid.T) *repository.Repository {
	repo, err := repository.Create(context.Background(), memblob.OpenBucket(nil))
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// drain reads a stream to its end.
func drain(t *rapid.T, s *stream, rank int64, maxBatch int) (out []logged) {
	ctx := context.Background()
	var dec recordbatch.Decoder
	for {
		load, err := s.Next(ctx)
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b := load.Batch
		if load.Rank != rank+int64(len(out)) {
			t.Fatalf("rank %d after %d records from rank %d", load.Rank, len(out), rank)
		}
		if !b.Dense() || b.IsLogAppendTime() || len(b) > maxBatch {
			t.Fatalf("a broker would refuse or change it: dense %v, broker time %v, %d bytes", b.Dense(), b.IsLogAppendTime(), len(b))
		}
		if err := b.Verify(); err != nil {
			t.Fatal(err)
		}
		if err := dec.Records(b, func(r *recordbatch.Record) error {
			l := logged{timestamp: r.Timestamp, value: bytes.Clone(r.Value)}
			if r.Key != nil {
				l.key = bytes.Clone(r.Key)
			}
			out = append(out, l)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if load.Release != nil {
			load.Release(true)
		}
	}
}

func compare(t *rapid.T, what string, got, want []logged) {
	if len(got) != len(want) {
		t.Fatalf("%s: %d records, want %d", what, len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i].value, want[i].value) || got[i].timestamp != want[i].timestamp || (got[i].key == nil) != (want[i].key == nil) || !bytes.Equal(got[i].key, want[i].key) {
			t.Fatalf("%s: record %d is %+v, want %+v", what, i, got[i], want[i])
		}
	}
}

func TestAStreamIsTheSameFromEveryRank(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		repo := newRepo(t)
		tp := repository.TopicPartition{Topic: "a", TopicID: "x", Partition: 3}
		m := makeLog(t, repo, tp, "run")
		rule := drawRule(t, m)
		want := m.expected(rule)
		src := source{repo: repo, segments: m.segments, tp: tp, slices: m.part.Slices, rule: rule}
		if rapid.Bool().Draw(t, "read together") {
			readTogether([]*source{&src})
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		n, err := src.total(ctx)
		if err != nil || n != int64(len(want)) {
			t.Fatalf("total %d, %v; want %d", n, err, len(want))
		}
		for range 3 {
			offset := rapid.Int64Range(0, m.part.End+5).Draw(t, "offset")
			at, err := src.rank(ctx, offset)
			below := int64(len(slices.DeleteFunc(slices.Clone(want), func(r logged) bool { return r.offset >= offset })))
			if err != nil || at != below {
				t.Fatalf("rank of offset %d is %d, %v; want %d", offset, at, err, below)
			}
		}
		sh := shape{
			headers:  rapid.Bool().Draw(t, "headers"),
			maxBatch: rapid.SampledFrom([]int{400, 2000, 1 << 20}).Draw(t, "max batch"),
			join:     rapid.SampledFrom([]int{1, 500, 1 << 20}).Draw(t, "join"),
		}
		mem := newMemory(rapid.SampledFrom([]int64{1, 1000, 1 << 20}).Draw(t, "memory"))
		s := copyStream(&src, sh, mem)
		s.ctx = ctx
		for range 3 {
			rank := rapid.Int64Range(0, n).Draw(t, "rank")
			if err := s.Seek(ctx, rank); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "leave at once") {
				continue
			}
			compare(t, fmt.Sprintf("from rank %d", rank), drain(t, s, rank, sh.maxBatch), want[rank:])
		}
		if err := s.Seek(ctx, n+1); err == nil {
			t.Fatal("a rank beyond the end is no error")
		}
		if !mem.budget.TryAcquire(mem.limit) {
			t.Fatal("memory was not given back")
		}
	})
}

func TestSeekingTakesMemoryOfTheSameBudget(t *testing.T) {
	mem := newMemory(100)
	if !mem.budget.TryAcquire(100) {
		t.Fatal("no memory")
	}
	s := copyStream(&source{}, shape{}, mem)
	s.ctx = t.Context()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Seek(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v: it did not wait", err)
	}
	mem.budget.Release(100)
	if err := s.Seek(t.Context(), 0); err != nil {
		t.Error(err)
	}
	s.halt()
	if !mem.budget.TryAcquire(100) {
		t.Error("memory was not given back")
	}
}

func TestADamagedBlockEndsAStreamWithItsName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		repo := newRepo(t)
		tp := repository.TopicPartition{Topic: "a", TopicID: "x"}
		m := makeLog(t, repo, tp, "run")
		if len(m.segments) == 0 {
			t.Skip()
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		key := m.segments[0].Key
		data, err := repo.Bucket().ReadAll(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		data[rapid.IntRange(16, len(data)-1).Draw(t, "byte")] ^= 0x55
		if err := repo.Bucket().WriteAll(ctx, key, data, nil); err != nil {
			t.Fatal(err)
		}
		s := copyStream(&source{repo: repo, segments: m.segments, tp: tp, slices: m.part.Slices}, shape{maxBatch: 1 << 20}, newMemory(1<<20))
		s.ctx = ctx
		err = s.Seek(ctx, 0)
		for err == nil {
			var load transfer.Load
			if load, err = s.Next(ctx); load.Release != nil {
				load.Release(true)
			}
		}
		var corrupt *repository.CorruptError
		if !errors.As(err, &corrupt) || corrupt.Key != key {
			t.Fatalf("got %v, want a CorruptError of %s", err, key)
		}
	})
}

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
