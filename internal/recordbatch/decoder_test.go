package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/klauspost/compress/snappy"
)

// withPayload makes a batch of the given bytes as they are.
func withPayload(codec Codec, count int32, payload []byte) Batch {
	b := append(make(Batch, HeaderLen), payload...)
	binary.BigEndian.PutUint64(b, 500)
	binary.BigEndian.PutUint32(b[posLength:], uint32(len(b)-logOverhead))
	b[posMagic] = 2
	b[posAttributes+1] = byte(codec)
	binary.BigEndian.PutUint32(b[posLastOffsetDelta:], uint32(max(count-1, 0)))
	binary.BigEndian.PutUint32(b[posNumRecords:], uint32(count))
	return reCRC(b)
}

func count(d *Decoder, b Batch) (n int, err error) {
	err = d.Records(b, func(*Record) error { n++; return nil })
	return n, err
}

func TestDecoderRefusesNonsense(t *testing.T) {
	good := []byte{7 << 1, 0, 0, 0, 1, 1, 0, 0} // one byte too long, see below
	good = good[:7]
	good[0] = 6 << 1
	if n, err := count(new(Decoder), withPayload(None, 1, good)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for name, b := range map[string]Batch{
		"count too low":              withPayload(None, 0, good),
		"count too high":             withPayload(None, 2, good),
		"negative count":             withPayload(None, -1, good),
		"huge count":                 withPayload(None, 1<<31-1, good),
		"byte after the end":         withPayload(None, 1, append(bytes.Clone(good), 0)),
		"record length too short":    withPayload(None, 1, []byte{5 << 1, 0, 0, 0, 1, 1, 0}),
		"record length too long":     withPayload(None, 1, []byte{7 << 1, 0, 0, 0, 1, 1, 0}),
		"record length zero":         withPayload(None, 1, []byte{0}),
		"record length negative":     withPayload(None, 1, []byte{1, 0, 0, 0, 1, 1, 0}),
		"record length never ends":   withPayload(None, 1, bytes.Repeat([]byte{0xff}, 20)),
		"offset delta negative":      withPayload(None, 1, []byte{12, 0, 0, 1, 1, 1, 0}),
		"offset delta beyond int32":  withPayload(None, 1, []byte{20, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 1, 0}),
		"key beyond the record":      withPayload(None, 1, []byte{12, 0, 0, 0, 8, 1, 0}),
		"value beyond the record":    withPayload(None, 1, []byte{12, 0, 0, 0, 1, 4, 0}),
		"negative header count":      withPayload(None, 1, []byte{12, 0, 0, 0, 1, 1, 1}),
		"header count beyond":        withPayload(None, 1, []byte{16, 0, 0, 0, 1, 1, 4, 0, 1}),
		"null header key":            withPayload(None, 1, []byte{16, 0, 0, 0, 1, 1, 2, 1, 1}),
		"header key beyond":          withPayload(None, 1, []byte{16, 0, 0, 0, 1, 1, 2, 8, 1}),
		"unknown codec":              withPayload(5, 1, good),
		"gzip that is none":          withPayload(Gzip, 1, good),
		"snappy that is none":        withPayload(Snappy, 1, good),
		"lz4 that is none":           withPayload(LZ4, 1, good),
		"zstd that is none":          withPayload(Zstd, 1, good),
		"gzip without bytes":         withPayload(Gzip, 1, nil),
		"zstd without bytes":         withPayload(Zstd, 1, nil),
		"lz4 without bytes":          withPayload(LZ4, 1, nil),
		"snappy framing cut short":   withPayload(Snappy, 1, []byte(xerialHeader)[:12]),
		"snappy block cut short":     withPayload(Snappy, 1, []byte(xerialHeader+"\x00\x00\x00\x09\x00")),
		"snappy block length at end": withPayload(Snappy, 1, []byte(xerialHeader+"\x00\x00")),
	} {
		var e *CorruptError
		if n, err := count(new(Decoder), b); !errors.As(err, &e) || e.Offset != 500 {
			t.Errorf("%s: %d records, error %v", name, n, err)
		}
	}
}

func TestDecoderReadsBatchesEmptiedByCompaction(t *testing.T) {
	for codec := None; codec <= Zstd; codec++ {
		if n, err := count(new(Decoder), withPayload(codec, 0, nil)); n != 0 || err != nil {
			t.Errorf("%s: %d, %v", codec, n, err)
		}
	}
}

func TestDecoderReadsRawAndConcatenatedSnappy(t *testing.T) {
	raw := sample(None).Payload()
	framed := appendXerial(nil, raw[:5])
	for name, payload := range map[string][]byte{
		"raw":          snappy.Encode(nil, raw),
		"framed":       appendXerial(nil, raw),
		"two streams":  append(framed, appendXerial(nil, raw[5:])...),
		"two blocks":   append(bytes.Clone(framed), appendXerial(nil, raw[5:])[len(xerialHeader):]...),
		"empty stream": append(appendXerial(nil, nil), appendXerial(nil, raw)...),
	} {
		if n, err := count(new(Decoder), withPayload(Snappy, 2, payload)); n != 2 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

func TestDecoderBoundsTheDecompressedSize(t *testing.T) {
	bomb := make([]Record, 64)
	for i := range bomb {
		bomb[i] = Record{Offset: int64(i), Value: make([]byte, 1<<20)}
	}
	for _, codec := range []Codec{Gzip, Snappy, LZ4, Zstd} {
		b := oracleBatch(t, 0, codec, 900, 0, bomb)
		d := Decoder{MaxBytes: 1 << 20}
		var e *TooLargeError
		if n, err := count(&d, b); !errors.As(err, &e) || e.Offset != 900 || e.Limit != 1<<20 || n != 0 {
			t.Errorf("%s: %d records, %v", codec, n, err)
		}
		if grown := cap(d.decompressor.buf); grown > 8<<20 {
			t.Errorf("%s: took %d bytes for a limit of 1 MiB", codec, grown)
		}
		if n, err := count(&d, sample(codec)); n != 2 || err != nil { // and goes on working
			t.Errorf("%s: %d, %v", codec, n, err)
		}
		d.MaxBytes = 65 << 20
		if n, err := count(&d, b); n != 64 || err != nil {
			t.Errorf("%s: %d, %v", codec, n, err)
		}
	}
}

func TestNoAllocationPerRecord(t *testing.T) {
	records := jsonRecords(1000)
	for codec := None; codec <= Zstd; codec++ {
		p := encodeAll(t, EncoderConfig{Codec: codec, MaxBatchBytes: 4 << 20, MaxRawBytes: 8 << 20}, records)
		var d Decoder
		e, err := NewEncoder(EncoderConfig{Codec: codec, MaxBatchBytes: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		w, err := NewRewriter(RewriterConfig{MaxBatchBytes: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		header := Header{Key: []byte("k"), Value: []byte("v")}
		var out []byte
		for name, run := range map[string]func(){
			"decode": func() {
				eachBatch(t, p, func(b Batch) error { return d.Records(b, func(*Record) error { return nil }) })
			},
			"encode": func() {
				for i := range records {
					if !e.Append(&records[i]) {
						out, _ = e.Flush(out)
						e.Append(&records[i])
					}
				}
				out, _ = e.Flush(out[:0])
			},
			"rewrite": func() {
				out = out[:0]
				eachBatch(t, p, func(b Batch) (err error) {
					out, err = w.Rewrite(out, b, func(r *Record) (bool, error) {
						r.Headers = append(r.Headers, header)
						return true, nil
					})
					return err
				})
				out, _ = w.Flush(out)
			},
		} {
			if n := testing.AllocsPerRun(3, run); n > 100 {
				t.Errorf("%s %s: %.0f allocations for 1000 records", name, codec, n)
			}
		}
	}
}
