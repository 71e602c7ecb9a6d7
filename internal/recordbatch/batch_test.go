package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

func asError[E error](err error, target *E) bool { return errors.As(err, target) }

func sample(codec Codec) Batch {
	return oracleBatch(nil, 0x50, codec, 1000, 5, []Record{
		{Offset: 0, Timestamp: 9, Key: []byte("k"), Value: []byte("v")},
		{Offset: 1, Timestamp: 7, Value: []byte{}},
	})
}

func TestAccessorsAgreeWithTheOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SliceOfN(rapid.Byte(), HeaderLen, HeaderLen).Draw(t, "header")
		binary.BigEndian.PutUint32(p[posLength:], HeaderLen-logOverhead)
		p[posMagic] = 2
		b, rest, err := Next(p)
		var rb kmsg.RecordBatch
		if err != nil || len(rest) != 0 || rb.ReadFrom(p) != nil {
			t.Fatal(err)
		}
		got := kmsg.RecordBatch{
			FirstOffset: b.BaseOffset(), Length: int32(len(b) - 12), PartitionLeaderEpoch: b.LeaderEpoch(), Magic: 2, CRC: int32(b.CRC()),
			Attributes: b.Attributes(), LastOffsetDelta: b.LastOffsetDelta(), FirstTimestamp: b.BaseTimestamp(), MaxTimestamp: b.MaxTimestamp(),
			ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(), FirstSequence: b.BaseSequence(), NumRecords: b.NumRecords(),
		}
		if !bytes.Equal(got.AppendTo(nil), p) || !bytes.Equal(rb.AppendTo(nil), p) {
			t.Fatalf("got %+v\nwant %+v", got, rb)
		}
		a := rb.Attributes
		if b.Codec() != Codec(a&7) || b.IsLogAppendTime() != (a&8 != 0) || b.IsTransactional() != (a&16 != 0) || b.IsControl() != (a&32 != 0) {
			t.Fatalf("attributes %b", a)
		}
	})
}

func TestNext(t *testing.T) {
	whole := sample(None)
	set := func(at int, p ...byte) []byte { c := bytes.Clone(whole); copy(c[at:], p); return c }
	for name, c := range map[string]struct {
		p    []byte
		want error
	}{
		"nothing":                   {nil, ErrShort},
		"half a header":             {whole[:16], ErrShort},
		"header only":               {whole[:HeaderLen], ErrShort},
		"one byte missing":          {whole[:len(whole)-1], ErrShort},
		"whole":                     {whole, nil},
		"magic 0":                   {set(posMagic, 0), ErrMagic},
		"magic 1":                   {set(posMagic, 1), ErrMagic},
		"magic 1 cut short":         {set(posMagic, 1)[:60], ErrShort},
		"magic 3":                   {set(posMagic, 3), ErrCorrupt},
		"magic -1":                  {set(posMagic, 255), ErrCorrupt},
		"length 48":                 {set(posLength, 0, 0, 0, 48), ErrCorrupt},
		"length 0":                  {set(posLength, 0, 0, 0, 0), ErrCorrupt},
		"length -1":                 {set(posLength, 255, 255, 255, 255), ErrCorrupt},
		"length 2^31-1":             {set(posLength, 127, 255, 255, 255), ErrShort},
		"length 2^31-1 and magic 9": {append(set(posLength, 127, 255, 255, 255)[:posMagic], 9), ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			b, rest, err := Next(c.p)
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if err != nil {
				if b != nil || len(rest) != len(c.p) {
					t.Fatalf("batch of %d bytes, %d left", len(b), len(rest))
				}
				if e := (*CorruptError)(nil); errors.Is(err, ErrCorrupt) && (!errors.As(err, &e) || e.Offset != 1000) {
					t.Fatalf("error without the offset: %v", err)
				}
			}
		})
	}
}

func TestNextWalksAllBatches(t *testing.T) {
	var p []byte
	for codec := None; codec <= Zstd; codec++ {
		p = append(p, sample(codec)...)
	}
	tail := sample(None)[:70]
	p = append(p, tail...)
	for codec := None; codec <= Zstd; codec++ {
		b, rest, err := Next(p)
		if err != nil || !bytes.Equal(b, sample(codec)) || cap(b) != len(b) {
			t.Fatalf("%s: %v", codec, err)
		}
		p = rest
	}
	if !bytes.Equal(p, tail) {
		t.Fatalf("%d bytes left", len(p))
	}
	if batches, records := SumRecords(append(sample(None), sample(Zstd)...)); batches != 2 || records != 4 {
		t.Fatalf("%d batches, %d records", batches, records)
	}
}

// reCRC makes the CRC fit again after a header field was changed.
func reCRC(b Batch) Batch {
	binary.BigEndian.PutUint32(b[posCRC:], crc32.Checksum(b[posAttributes:], castagnoli))
	return b
}

func TestVerify(t *testing.T) {
	whole := sample(Zstd)
	if err := whole.Verify(); err != nil {
		t.Fatal(err)
	}
	for i := posCRC; i < len(whole); i++ {
		b := Batch(bytes.Clone(whole))
		b[i] ^= 0x10
		if e := (*CorruptError)(nil); !errors.As(b.Verify(), &e) || e.Offset != 1000 {
			t.Fatalf("damage at byte %d: %v", i, b.Verify())
		}
	}
	for name, change := range map[string]func(Batch){
		"negative record count":        func(b Batch) { b[posNumRecords] = 0x80 },
		"negative last offset delta":   func(b Batch) { b[posLastOffsetDelta] = 0x80 },
		"more records than offsets":    func(b Batch) { b[posNumRecords+3] = 3 },
		"negative base offset":         func(b Batch) { b[0] = 0x80 },
		"last offset beyond the range": func(b Batch) { copy(b, "\x7f\xff\xff\xff\xff\xff\xff\xff") },
	} {
		b := Batch(bytes.Clone(whole))
		change(b)
		if err := reCRC(b).Verify(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDense(t *testing.T) {
	for name, c := range map[string]struct {
		count, delta int32
		want         bool
	}{"one": {1, 0, true}, "gap": {2, 2, false}, "full": {3, 2, true}, "emptied by compaction": {0, 4, false}, "nonsense": {0, -1, false}} {
		b := Batch(make([]byte, HeaderLen))
		binary.BigEndian.PutUint32(b[posNumRecords:], uint32(c.count))
		binary.BigEndian.PutUint32(b[posLastOffsetDelta:], uint32(c.delta))
		if b.Dense() != c.want {
			t.Errorf("%s: %v", name, b.Dense())
		}
	}
}

// Stamping must give what writing the header anew and computing the CRC over
// everything gives, keep a sound batch sound and a damaged one damaged.
func TestStamp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload")
		repeat := rapid.SampledFrom([]int{1, 1, 1, 7, 900, 70_000}).Draw(t, "repeat")
		header := rapid.SliceOfN(rapid.Byte(), HeaderLen, HeaderLen).Draw(t, "header")
		b := reCRC(append(header, bytes.Repeat(payload, repeat)...))
		want := Batch(bytes.Clone(b))
		s := Stamp{ProducerID: rapid.Int64().Draw(t, "id"), ProducerEpoch: rapid.Int16().Draw(t, "epoch"), BaseSequence: rapid.Int32().Draw(t, "sequence")}
		b.Stamp(s)

		copy(want, make([]byte, 8))
		copy(want[posLeaderEpoch:], "\xff\xff\xff\xff")
		want[posAttributes+1] &= 0b1010_1111
		binary.BigEndian.PutUint64(want[posProducerID:], uint64(s.ProducerID))
		binary.BigEndian.PutUint16(want[posProducerEpoch:], uint16(s.ProducerEpoch))
		binary.BigEndian.PutUint32(want[posBaseSequence:], uint32(s.BaseSequence))
		if !bytes.Equal(b, reCRC(want)) {
			t.Fatalf("got  %x\nwant %x", b[:HeaderLen], want[:HeaderLen])
		}

		damaged := Batch(bytes.Clone(b))
		damaged[rapid.IntRange(posAttributes, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		damaged.Stamp(Stamp{ProducerID: 1})
		if crc32.Checksum(damaged[posAttributes:], castagnoli) == damaged.CRC() {
			t.Fatal("a damaged batch looks sound after stamping")
		}
	})
}

func TestSequenceWraps(t *testing.T) {
	for rank, want := range map[int64]int32{0: 0, 5: 5, 1<<31 - 1: 1<<31 - 1, 1 << 31: 0, 1<<31 + 7: 7, 5 << 31: 0, 1<<62 + 3: 3} {
		if got := Sequence(rank); got != want {
			t.Errorf("rank %d: %d, want %d", rank, got, want)
		}
	}
}
