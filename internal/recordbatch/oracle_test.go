package recordbatch

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// clone copies a record out of the decoder's memory; null stays null and empty
// stays empty.
func clone(r *Record) Record {
	c := Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, Header{Key: append([]byte{}, h.Key...), Value: bytes.Clone(h.Value)})
	}
	return c
}

// decode reads all records of all batches in p with this package.
func decode(p []byte) (records []Record, err error) {
	var d Decoder
	for len(p) > 0 {
		b, rest, err := Next(p)
		if err == nil {
			err = b.Verify()
		}
		if err == nil {
			err = d.Records(b, func(r *Record) error { records = append(records, clone(r)); return nil })
		}
		if err != nil {
			return records, err
		}
		p = rest
	}
	return records, nil
}

// oracle reads all records of all batches in p with franz-go's types and
// decompressor and none of this package's code.
func oracle(p []byte) (records []Record, err error) {
	for len(p) > 0 {
		var rb kmsg.RecordBatch
		if err := rb.ReadFrom(p); err != nil {
			return records, err
		}
		size := 12 + int(rb.Length)
		if size < 61 || size > len(p) || rb.Magic != 2 || rb.NumRecords < 0 {
			return records, fmt.Errorf("bad header %+v", rb)
		}
		if crc := crc32.Checksum(p[21:size], crc32.MakeTable(crc32.Castagnoli)); crc != uint32(rb.CRC) {
			return records, fmt.Errorf("bad CRC")
		}
		p = p[size:]
		raw, err := kgo.DefaultDecompressor().Decompress(rb.Records, kgo.CompressionCodecType(rb.Attributes&7))
		if err != nil {
			return records, err
		}
		for range rb.NumRecords {
			var kr kmsg.Record
			if err := kr.ReadFrom(raw); err != nil {
				return records, err
			}
			raw = raw[len(appendVarint(nil, int64(kr.Length)))+int(kr.Length):]
			r := Record{Offset: rb.FirstOffset + int64(kr.OffsetDelta), Timestamp: rb.FirstTimestamp + kr.TimestampDelta64, Key: kr.Key, Value: kr.Value}
			if rb.Attributes&8 != 0 {
				r.Timestamp = rb.MaxTimestamp
			}
			for _, h := range kr.Headers {
				r.Headers = append(r.Headers, Header{Key: []byte(h.Key), Value: h.Value})
			}
			records = append(records, r)
		}
		if len(raw) > 0 {
			return records, fmt.Errorf("%d bytes left", len(raw))
		}
	}
	return records, nil
}

// oracleBatch writes a batch with franz-go's types. Attributes and codec as
// given; each record's Offset is its delta.
func oracleBatch(t testing.TB, attributes int16, codec Codec, base int64, baseTimestamp int64, records []Record) Batch {
	var raw []byte
	rb := kmsg.RecordBatch{
		FirstOffset: base, PartitionLeaderEpoch: 7, Magic: 2, Attributes: attributes | int16(codec),
		FirstTimestamp: baseTimestamp, MaxTimestamp: math.MinInt64,
		ProducerID: 4711, ProducerEpoch: 3, FirstSequence: 99, NumRecords: int32(len(records)),
	}
	for _, r := range records {
		kr := kmsg.Record{TimestampDelta64: r.Timestamp - baseTimestamp, OffsetDelta: int32(r.Offset), Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			kr.Headers = append(kr.Headers, kmsg.Header{Key: string(h.Key), Value: h.Value})
		}
		kr.Length = int32(len(kr.AppendTo(nil)) - 1) // the zero length takes one byte
		raw = kr.AppendTo(raw)
		rb.MaxTimestamp = max(rb.MaxTimestamp, r.Timestamp)
		rb.LastOffsetDelta = int32(r.Offset)
	}
	rb.Records = raw
	if codec != None {
		c, err := kgo.DefaultCompressor([]kgo.CompressionCodec{{}, kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}[codec])
		if err != nil {
			t.Fatal(err)
		}
		rb.Records, _ = c.Compress(new(bytes.Buffer), raw)
	}
	rb.Length = int32(61 - 12 + len(rb.Records))
	p := rb.AppendTo(nil)
	rb.CRC = int32(crc32.Checksum(p[21:], crc32.MakeTable(crc32.Castagnoli)))
	return rb.AppendTo(nil)
}

func mustEqual(t interface{ Fatalf(string, ...any) }, got, want []Record) {
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("record %d of %d:\n got %+v\nwant %+v", i, len(want), got[i], want[i])
		}
	}
}

// Generators.

var (
	anyCodec = rapid.SampledFrom([]Codec{None, Gzip, Snappy, LZ4, Zstd})

	anyTimestamp = rapid.OneOf(
		rapid.Int64Range(1_600_000_000_000, 1_800_000_000_000),
		rapid.SampledFrom([]int64{0, -1, -2, 1, math.MinInt64, math.MaxInt64, math.MinInt64 + 1, 946_684_800_000, 4_102_444_800_000}),
		rapid.Int64(),
	)

	nullable = rapid.Custom(func(t *rapid.T) []byte {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0, 1:
			return nil
		case 2, 3:
			return []byte{}
		case 4:
			n := rapid.SampledFrom([]int{63, 64, 127, 128, 8191, 8192, 70_000}).Draw(t, "length")
			return bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill"), 'x'}, n)[:n]
		default:
			return rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "bytes")
		}
	})

	anyHeader = rapid.Custom(func(t *rapid.T) Header {
		key := rapid.SampledFrom([]string{"", "a", "a", "trace-id", "\u00e4\u0000", "\xff"}).Draw(t, "header")
		return Header{Key: []byte(key), Value: rapid.SampledFrom([][]byte{nil, {}, {0}, []byte("value")}).Draw(t, "value")}
	})

	// anyRecords are records in offset order; Offset is the delta, with gaps
	// or without.
	anyRecords = func(gaps bool) *rapid.Generator[[]Record] {
		return rapid.Custom(func(t *rapid.T) []Record {
			records := make([]Record, rapid.IntRange(1, 30).Draw(t, "records"))
			offset := int64(0)
			for i := range records {
				if gaps {
					offset += rapid.SampledFrom([]int64{0, 0, 1, 5, 1_000_000}).Draw(t, "gap")
				}
				records[i] = Record{Offset: offset, Timestamp: anyTimestamp.Draw(t, "timestamp"), Key: nullable.Draw(t, "key"), Value: nullable.Draw(t, "value")}
				if n := rapid.SampledFrom([]int{0, 0, 1, 4, 70}).Draw(t, "headers"); n > 0 {
					records[i].Headers = rapid.SliceOfN(anyHeader, n, n).Draw(t, "list")
				}
				offset++
			}
			return records
		})
	}
)

func shifted(records []Record, base int64) []Record {
	out := slices.Clone(records)
	for i := range out {
		out[i].Offset += base
	}
	return out
}

func TestEncoderIsReadByTheOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		config := EncoderConfig{
			Codec:         anyCodec.Draw(t, "codec"),
			MaxBatchBytes: rapid.SampledFrom([]int{200, 5000, 1 << 20}).Draw(t, "max bytes"),
			MaxRecords:    rapid.SampledFrom([]int{0, 1, 3}).Draw(t, "max records"),
		}
		e, err := NewEncoder(config)
		if err != nil {
			t.Fatal(err)
		}
		records := anyRecords(false).Draw(t, "records")
		var out []byte
		var want []Record
		flush := func() bool {
			if out, err = e.Flush(out); err == nil {
				return true
			}
			if tooLarge := (*TooLargeError)(nil); !asError(err, &tooLarge) || tooLarge.Size <= config.MaxBatchBytes {
				t.Fatal(err)
			}
			return false
		}
		pending := 0
		for i := range records {
			if !e.Append(&records[i]) {
				if !flush() {
					want = want[:len(want)-pending]
				}
				pending = 0
				if !e.Append(&records[i]) {
					t.Fatal("an empty encoder refused a record")
				}
			}
			want = append(want, records[i])
			pending++
		}
		if !flush() {
			want = want[:len(want)-pending]
		}

		got, err := oracle(out)
		if err != nil {
			t.Fatal(err)
		}
		offset, i := int64(0), 0
		for p := out; len(p) > 0; i++ {
			b, rest, err := Next(p)
			if err != nil {
				t.Fatal(err)
			}
			if !b.Dense() || b.BaseOffset() != 0 || b.ProducerID() != -1 || b.ProducerEpoch() != -1 || b.BaseSequence() != -1 || b.LeaderEpoch() != -1 || b.Attributes() != int16(config.Codec) {
				t.Fatalf("header %x", b[:HeaderLen])
			}
			if len(b) > config.MaxBatchBytes || config.MaxRecords > 0 && int(b.NumRecords()) > config.MaxRecords {
				t.Fatalf("a batch of %d bytes and %d records", len(b), b.NumRecords())
			}
			highest := int64(math.MinInt64)
			for k := range int(b.NumRecords()) {
				r := &got[int(offset)+k]
				if r.Offset != int64(k) {
					t.Fatalf("offset %d at place %d", r.Offset, k)
				}
				highest = max(highest, r.Timestamp)
				r.Offset = want[int(offset)+k].Offset
			}
			if highest != b.MaxTimestamp() {
				t.Fatalf("max timestamp %d, want %d", b.MaxTimestamp(), highest)
			}
			offset += int64(b.NumRecords())
			p = rest
		}
		mustEqual(t, got, want)
	})
}

func TestDecoderReadsTheOraclesBatches(t *testing.T) {
	var d Decoder // one for all: state must not leak from batch to batch
	rapid.Check(t, func(t *rapid.T) {
		records := anyRecords(true).Draw(t, "records")
		base := rapid.Int64Range(0, math.MaxInt64-math.MaxInt32).Draw(t, "base")
		logAppendTime := rapid.Bool().Draw(t, "log append time")
		attributes := rapid.SampledFrom([]int16{0, 0x10, 0x20, 0x30, 0x40}).Draw(t, "attributes")
		if logAppendTime {
			attributes |= 8
		}
		b := oracleBatch(nil, attributes, anyCodec.Draw(t, "codec"), base, anyTimestamp.Draw(t, "base timestamp"), records)
		if err := b.Verify(); err != nil {
			t.Fatal(err)
		}
		var got []Record
		if err := d.Records(b, func(r *Record) error { got = append(got, clone(r)); return nil }); err != nil {
			t.Fatal(err)
		}
		want := shifted(records, base)
		if logAppendTime {
			for i := range want {
				want[i].Timestamp = b.MaxTimestamp()
			}
		}
		mustEqual(t, got, want)
	})
}
