package recordbatch

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// FuzzRecords: whatever payload the decoder accepts, the oracle reads the same
// from it, and rewriting keeps it.
func FuzzRecords(f *testing.F) {
	for codec := None; codec <= Zstd; codec++ {
		b := sample(codec)
		f.Add(uint8(codec), b.NumRecords(), b.BaseTimestamp(), []byte(b.Payload()))
	}
	f.Add(uint8(Snappy), int32(1), int64(0), []byte(xerialHeader+"\x00\x00\x00\x02\x01\x00"))
	f.Fuzz(func(t *testing.T, attributes uint8, count int32, baseTimestamp int64, payload []byte) {
		b := withPayload(0, count, payload)
		b[posAttributes+1] = attributes & 0x0f
		binary.BigEndian.PutUint64(b[posBaseTimestamp:], uint64(baseTimestamp))
		binary.BigEndian.PutUint32(b[posLastOffsetDelta:], 1<<31-1)
		reCRC(b)
		d := Decoder{MaxBytes: 1 << 20}
		var got []Record
		if d.Records(b, func(r *Record) error { got = append(got, clone(r)); return nil }) != nil {
			return
		}
		want, err := oracle(b)
		if err != nil {
			// franz-go refuses some compressed forms that the libraries allow.
			if b.Codec() != None || strings.Contains(err.Error(), "bytes left") {
				t.Skip(err)
			}
			t.Fatalf("accepted what the oracle refuses: %v", err)
		}
		mustEqual(t, got, want)

		w, err := NewRewriter(RewriterConfig{MaxBatchBytes: 4 << 20, MaxSourceBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		out, err := w.Concat(nil, b, 0)
		if err == nil {
			out, err = w.Flush(out)
		}
		if err == nil {
			out, err = w.Rewrite(out, b, func(*Record) (bool, error) { return true, nil })
		}
		if err == nil {
			out, err = w.Flush(out)
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(out)
		if err != nil {
			t.Fatal(err)
		}
		want = slices.Concat(want, want)
		for i := range want {
			want[i].Offset = 0
		}
		for i := range again {
			again[i].Offset = 0
		}
		mustEqual(t, again, want)
	})
}

// FuzzWalk: any bytes can be walked, judged and stamped without harm, and
// progress is made.
func FuzzWalk(f *testing.F) {
	f.Add([]byte(append(sample(None), sample(Gzip)...)), false)
	f.Add(oracleMessage(1, 0, Record{Offset: 4, Timestamp: 99}), true)
	f.Add(oracleSet(0, 0, LZ4, Record{Offset: 3}, oracleMessage(0, 0, Record{Offset: 3})), true)
	f.Fuzz(func(t *testing.T, p []byte, fix bool) {
		if fix && len(p) >= HeaderLen {
			// Make length and CRC of the first entry fit, to get past them.
			if p[posMagic] < 2 {
				fixMessage(p)
			} else {
				p[posMagic] = 2
				binary.BigEndian.PutUint32(p[posLength:], uint32(len(p)-logOverhead))
				reCRC(p)
			}
		}
		u := Upconverter{MaxBytes: 1 << 20}
		d := Decoder{MaxBytes: 1 << 20}
		var a Aborted
		a.Reset([]AbortedTransaction{{ProducerID: 1, FirstOffset: 0}})
		for len(p) > 0 {
			b, rest, err := Next(p)
			if err == ErrMagic {
				var out []byte
				if out, rest, err = u.Convert(nil, p); err == nil && len(rest) == len(p) {
					t.Fatal("no progress")
				}
				if _, readErr := decode(out); readErr != nil {
					t.Fatalf("converted into %v", readErr)
				}
			}
			if err != nil {
				return
			}
			if len(rest) >= len(p) {
				t.Fatal("no progress")
			}
			p = rest
			if b == nil {
				continue
			}
			sound := b.Verify() == nil
			_, _ = a.Judge(b)
			_ = d.Records(b, func(*Record) error { return nil })
			b.Stamp(Stamp{ProducerID: 9, BaseSequence: 5})
			if sound && b.Verify() != nil {
				t.Fatal("a sound batch is damaged after stamping")
			}
		}
	})
}
