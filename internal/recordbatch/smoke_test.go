package recordbatch

import "testing"

func TestSmoke(t *testing.T) {
	for c := None; c <= Zstd; c++ {
		e, err := NewEncoder(EncoderConfig{Codec: c})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			e.Append(&Record{Timestamp: int64(i), Key: []byte{1}, Value: []byte("hello"), Headers: []Header{{Key: []byte("a")}}})
		}
		out, err := e.Flush(nil)
		if err != nil {
			t.Fatal(err)
		}
		b, rest, err := Next(out)
		if err != nil || len(rest) > 0 {
			t.Fatal(err)
		}
		b.Stamp(Stamp{ProducerID: 5, ProducerEpoch: 1, BaseSequence: 77})
		if err := b.Verify(); err != nil {
			t.Fatal(err)
		}
		b[len(b)-1] ^= 1
		b.Stamp(Stamp{ProducerID: 6, ProducerEpoch: 1, BaseSequence: 78})
		if err := b.Verify(); err == nil {
			t.Fatal("no error")
		}
		b[len(b)-1] ^= 1
		var d Decoder
		n := 0
		if err := d.Records(b, func(r *Record) error { n++; return nil }); err != nil || n != 1000 {
			t.Fatal(c, n, err)
		}
	}
}
