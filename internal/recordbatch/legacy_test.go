package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// oracleMessage writes a v0 or v1 message with franz-go's types.
func oracleMessage(magic int8, attributes int8, r Record) []byte {
	var p []byte
	if magic == 0 {
		m := kmsg.MessageV0{Offset: r.Offset, Magic: 0, Attributes: attributes, Key: r.Key, Value: r.Value}
		p = m.AppendTo(nil)
	} else {
		m := kmsg.MessageV1{Offset: r.Offset, Magic: 1, Attributes: attributes, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
		p = m.AppendTo(nil)
	}
	return fixMessage(p)
}

// fixMessage makes length and CRC fit.
func fixMessage(p []byte) []byte {
	binary.BigEndian.PutUint32(p[posLength:], uint32(len(p)-logOverhead))
	binary.BigEndian.PutUint32(p[posMessageCRC:], crc32.ChecksumIEEE(p[posMagic:]))
	return p
}

func oracleSet(magic, attributes int8, codec Codec, wrapper Record, inner ...[]byte) []byte {
	var c compressor
	wrapper.Value, _ = c.append(nil, codec, bytes.Join(inner, nil))
	return oracleMessage(magic, attributes|int8(codec), wrapper)
}

func convert(p []byte) (records []Record, rest []byte, err error) {
	var u Upconverter
	out, rest, err := u.Convert(nil, p)
	records, decodeErr := decode(out)
	if err == nil {
		err = decodeErr
	}
	return records, rest, err
}

func TestUpconverterAgreesWithTheOracle(t *testing.T) {
	timestamp := rapid.Int64Range(-1, 4_102_444_800_000) // franz-go's timestamps end at 2262
	rapid.Check(t, func(t *rapid.T) {
		var p []byte
		offset := rapid.Int64Range(0, 1<<40).Draw(t, "offset")
		next := func() int64 {
			offset += rapid.SampledFrom([]int64{0, 0, 0, 3, 1 << 33}).Draw(t, "gap")
			offset++
			return offset - 1
		}
		for range rapid.IntRange(1, 12).Draw(t, "messages") {
			magic := rapid.Int8Range(0, 1).Draw(t, "magic")
			message := func(offset int64) []byte {
				return oracleMessage(magic, 0, Record{Offset: offset, Timestamp: timestamp.Draw(t, "timestamp"), Key: nullable.Draw(t, "key"), Value: nullable.Draw(t, "value")})
			}
			codec := rapid.SampledFrom([]Codec{None, None, Gzip, Snappy, LZ4}).Draw(t, "codec")
			if codec == None {
				p = append(p, message(next())...)
				continue
			}
			var inner [][]byte
			first, last := int64(-1), int64(0)
			for range rapid.IntRange(1, 5).Draw(t, "inner") {
				last = next()
				if first < 0 {
					first = last
				}
				if magic == 1 {
					inner = append(inner, message(last-first))
				} else {
					inner = append(inner, message(last))
				}
			}
			p = append(p, oracleSet(magic, 0, codec, Record{Offset: last, Timestamp: timestamp.Draw(t, "wrapper timestamp")}, inner...)...)
		}
		cut := rapid.IntRange(0, len(p)).Draw(t, "cut")
		if rapid.Bool().Draw(t, "whole") {
			cut = len(p)
		}
		got, rest, err := convert(p[:cut])
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Next(rest); err != ErrShort {
			t.Fatalf("the rest begins with %v", err)
		}
		fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{}, &kmsg.FetchResponseTopicPartition{RecordBatches: p[:cut]}, kgo.DefaultDecompressor(), nil)
		if fp.Err != nil {
			t.Fatal(fp.Err)
		}
		var want []Record
		for _, r := range fp.Records {
			// franz-go gives v0 messages, which have no timestamp, time zero.
			timestamp := int64(noTimestamp)
			if r.Attrs.TimestampType() >= 0 {
				timestamp = r.Timestamp.UnixMilli()
			}
			want = append(want, Record{Offset: r.Offset, Timestamp: timestamp, Key: r.Key, Value: r.Value})
		}
		mustEqual(t, got, want)
	})
}

func TestUpconverterOddCases(t *testing.T) {
	m := func(magic int8, offset, timestamp int64) []byte {
		return oracleMessage(magic, 0, Record{Offset: offset, Timestamp: timestamp, Value: []byte("v")})
	}
	type want struct{ offset, timestamp int64 }
	good := m(1, 5, 50)
	damaged := bytes.Clone(good)
	damaged[len(damaged)-1] ^= 1
	long := fixMessage(append(bytes.Clone(good), 0))
	for name, c := range map[string]struct {
		p    []byte
		want []want
		rest int
		bad  bool
	}{
		"nothing":                       {nil, nil, 0, false},
		"wrapper with gaps":             {oracleSet(1, 0, Gzip, Record{Offset: 20}, m(1, 0, 1), m(1, 2, 2), m(1, 10, 3)), []want{{10, 1}, {12, 2}, {20, 3}}, 0, false},
		"wrapper offset 0":              {oracleSet(1, 0, Gzip, Record{Offset: 0}, m(1, 7, 1), m(1, 8, 2)), []want{{7, 1}, {8, 2}}, 0, false},
		"v0 wrapper":                    {oracleSet(0, 0, Snappy, Record{Offset: 21}, m(0, 10, 0), m(0, 21, 0)), []want{{10, -1}, {21, -1}}, 0, false},
		"LogAppendTime wrapper":         {oracleSet(1, 8, LZ4, Record{Offset: 4, Timestamp: 99}, m(1, 0, 1), m(1, 1, 2)), []want{{3, 99}, {4, 99}}, 0, false},
		"LogAppendTime message":         {oracleMessage(1, 8, Record{Offset: 4, Timestamp: 99}), []want{{4, 99}}, 0, false},
		"offsets that go back":          {append(m(1, 9, 1), m(1, 3, 2)...), []want{{9, 1}, {3, 2}}, 0, false},
		"cut short":                     {append(m(1, 9, 1), good[:20]...), []want{{9, 1}}, 20, false},
		"then a v2 batch":               {append(m(1, 9, 1), sample(None)...), []want{{9, 1}}, len(sample(None)), false},
		"damaged":                       {append(m(1, 4, 1), damaged...), []want{{4, 1}}, len(damaged), true},
		"byte after the value":          {append(m(1, 4, 1), long...), []want{{4, 1}}, len(long), true},
		"length too short":              {append(append(m(1, 4, 1), good[:8]...), append([]byte{0, 0, 0, 13}, good[12:]...)...), []want{{4, 1}}, len(good), true},
		"wrapper below its last offset": {oracleSet(1, 0, Gzip, Record{Offset: 5}, m(1, 0, 1), m(1, 10, 1)), nil, -1, true},
		"wrapper without messages":      {oracleSet(1, 0, Gzip, Record{Offset: 5}), nil, -1, true},
		"wrapper in a wrapper":          {oracleSet(1, 0, Gzip, Record{Offset: 5}, oracleSet(1, 0, Gzip, Record{}, good)), nil, -1, true},
		"wrapper with half a message":   {oracleSet(1, 0, Gzip, Record{Offset: 5}, good, good[:30]), nil, -1, true},
		"wrapper with a damaged one":    {oracleSet(1, 0, Gzip, Record{Offset: 5}, damaged), nil, -1, true},
		"wrapper with a null value":     {oracleMessage(1, 2, Record{Offset: 3}), nil, -1, true},
		"unknown codec":                 {oracleMessage(1, 7, Record{Offset: 3, Value: []byte{1}}), nil, -1, true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.rest < 0 {
				c.rest = len(c.p)
			}
			got, rest, err := convert(c.p)
			if errors.Is(err, ErrCorrupt) != c.bad || !c.bad && err != nil || len(rest) != c.rest {
				t.Fatalf("error %v, %d bytes left, want %d", err, len(rest), c.rest)
			}
			if len(got) != len(c.want) {
				t.Fatalf("%d records, want %d", len(got), len(c.want))
			}
			for i, w := range c.want {
				if got[i].Offset != w.offset || got[i].Timestamp != w.timestamp {
					t.Errorf("record %d: offset %d at %d, want %+v", i, got[i].Offset, got[i].Timestamp, w)
				}
			}
		})
	}
}

func TestUpconverterCutsLongRuns(t *testing.T) {
	var p []byte
	for i := range int64(40) {
		p = append(p, oracleMessage(1, 0, Record{Offset: i, Value: make([]byte, 100_000)})...)
	}
	var u Upconverter
	out, rest, err := u.Convert(nil, p)
	if err != nil || len(rest) > 0 {
		t.Fatal(len(rest), err)
	}
	if batches, records := SumRecords(out); batches != 4 || records != 40 {
		t.Fatalf("%d batches, %d records", batches, records)
	}
}
