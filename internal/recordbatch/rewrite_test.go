package recordbatch

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever the source batches look like, the rewriter's output holds the same
// records in order, dense and within the limits; the oracle reads it.
func TestRewriterKeepsRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		config := RewriterConfig{
			MaxBatchBytes: rapid.SampledFrom([]int{200_000, 1 << 20}).Draw(t, "max bytes"),
			MaxRecords:    rapid.SampledFrom([]int{0, 7}).Draw(t, "max records"),
		}
		if rapid.Bool().Draw(t, "other codec") {
			codec := anyCodec.Draw(t, "codec")
			config.Codec = &codec
		}
		w, err := NewRewriter(config)
		if err != nil {
			t.Fatal(err)
		}
		mark := Header{Key: []byte("mark"), Value: nil}
		var out []byte
		var want []Record
		var codecs []Codec
		base := rapid.Int64Range(0, 1<<40).Draw(t, "base")
		for range rapid.IntRange(1, 5).Draw(t, "batches") {
			records := anyRecords(true).Draw(t, "records")
			codec := anyCodec.Draw(t, "source codec")
			codecs = append(codecs, codec)
			attributes := rapid.SampledFrom([]int16{0, attrLogAppendTime, attrTransactional, attrDeleteHorizon}).Draw(t, "attributes")
			b := oracleBatch(nil, attributes, codec, base, anyTimestamp.Draw(t, "base timestamp"), records)
			before := bytes.Clone(b)
			base = b.LastOffset() + 1
			if attributes == attrLogAppendTime {
				for i := range records {
					records[i].Timestamp = b.MaxTimestamp()
				}
			}
			if rapid.Bool().Draw(t, "concat") {
				skip := rapid.IntRange(0, len(records)+1).Draw(t, "skip")
				out, err = w.Concat(out, b, skip)
				want = append(want, records[min(skip, len(records)):]...)
			} else {
				change := rapid.IntRange(0, 3).Draw(t, "change")
				n := 0
				out, err = w.Rewrite(out, b, func(r *Record) (bool, error) {
					n++
					switch change {
					case 1:
						return n%2 == 0, nil
					case 2:
						r.Headers = append(r.Headers, mark)
					case 3:
						r.Timestamp, r.Key, r.Value = 42, nil, []byte{}
					}
					return true, nil
				})
				for i, r := range records {
					switch change {
					case 1:
						if i%2 == 0 {
							continue
						}
					case 2:
						r.Headers = append(r.Headers[:len(r.Headers):len(r.Headers)], mark)
					case 3:
						r.Timestamp, r.Key, r.Value = 42, nil, []byte{}
					}
					want = append(want, r)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b, before) {
				t.Fatal("the source batch was written to")
			}
		}
		if out, err = w.Flush(out); err != nil || w.Pending() != 0 {
			t.Fatal(w.Pending(), err)
		}
		got, err := oracle(out)
		if err != nil {
			t.Fatal(err)
		}
		for i := range min(len(got), len(want)) {
			got[i].Offset, want[i].Offset = 0, 0
		}
		mustEqual(t, got, want)
		for p := out; len(p) > 0; {
			b, rest, err := Next(p)
			if err != nil {
				t.Fatal(err)
			}
			if !b.Dense() || b.BaseOffset() != 0 || b.Attributes() != int16(b.Codec()) || len(b) > config.MaxBatchBytes {
				t.Fatalf("%d bytes, header %x", len(b), b[:HeaderLen])
			}
			if config.MaxRecords > 0 && int(b.NumRecords()) > config.MaxRecords {
				t.Fatalf("%d records", b.NumRecords())
			}
			if config.Codec != nil && b.Codec() != *config.Codec || config.Codec == nil && !bytes.ContainsRune(codecBytes(codecs), rune(b.Codec())) {
				t.Fatalf("codec %s", b.Codec())
			}
			p = rest
		}
	})
}

func codecBytes(codecs []Codec) (p []byte) {
	for _, c := range codecs {
		p = append(p, byte(c))
	}
	return p
}

func TestRewriterJoinsSmallBatches(t *testing.T) {
	w, err := NewRewriter(RewriterConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for i := range 100 {
		if out, err = w.Concat(out, sample(Zstd), i%2); err != nil {
			t.Fatal(err)
		}
	}
	if len(out) != 0 || w.Pending() != 150 {
		t.Fatalf("%d bytes, %d pending", len(out), w.Pending())
	}
	out, err = w.Flush(out)
	if b, rest, nextErr := Next(out); err != nil || nextErr != nil || len(rest) > 0 || b.NumRecords() != 150 || b.Codec() != Zstd {
		t.Fatal(err, nextErr, len(rest))
	}
}

func TestRewriteErrors(t *testing.T) {
	w, err := NewRewriter(RewriterConfig{MaxBatchBytes: 200})
	if err != nil {
		t.Fatal(err)
	}
	own := errors.New("own error")
	calls := 0
	_, err = w.Rewrite(nil, sample(Gzip), func(*Record) (bool, error) { calls++; return true, own })
	if err != own || calls != 1 || w.Pending() != 0 {
		t.Fatal(err, calls, w.Pending())
	}
	if _, err = w.Rewrite(nil, sample(Gzip), func(*Record) (bool, error) { return true, Stop }); err != nil || w.Pending() != 0 {
		t.Fatal(err, w.Pending())
	}

	// A record too large for the target is named by its source offset, also
	// when others come before it.
	for codec := None; codec <= Zstd; codec++ {
		b := oracleBatch(t, 0, codec, 5000, 0, []Record{{Value: []byte("small")}, {Offset: 9, Value: noise(1000)}, {Offset: 10}})
		out, err := w.Concat(nil, b, 0)
		if err == nil {
			_, err = w.Flush(out)
		}
		var e *TooLargeError
		if !errors.As(err, &e) || !errors.Is(err, ErrTooLarge) || e.Offset != 5009 || e.Size < 1000 || e.Limit != 200 || !strings.Contains(err.Error(), "5009") {
			t.Errorf("%s: %v", codec, err)
		}
		if _, err = w.Flush(nil); err != nil {
			t.Errorf("%s: after the error: %v", codec, err)
		}
	}
}

func TestConfigurationsRefused(t *testing.T) {
	for _, c := range []EncoderConfig{{Codec: 5}, {Codec: None, Level: 1}, {Codec: Snappy, Level: 1}, {Codec: Gzip, Level: 10}, {Codec: Zstd, Level: -1}, {MaxBatchBytes: 61}, {MaxRecords: -1}, {MaxRawBytes: -1}} {
		if _, err := NewEncoder(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	if _, err := NewRewriter(RewriterConfig{Level: 3}); err == nil {
		t.Error("a level without a codec is accepted")
	}
}

// noise does not compress.
func noise(n int) []byte {
	p := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x)
	}
	return p
}

// When compressible data turns incompressible, an encoder that collected more
// than fits must still keep to the limit.
func TestEncoderSplitsWhatCompressedLessThanExpected(t *testing.T) {
	for _, codec := range []Codec{Gzip, Snappy, LZ4, Zstd} {
		const limit = 100_000
		var records []Record
		for i := range 2000 {
			records = append(records, Record{Offset: int64(i), Timestamp: math.MaxInt64 - int64(i), Value: bytes.Repeat([]byte{'a'}, 1000)})
		}
		random := noise(2_000_000)
		for i := range 2000 {
			records = append(records, Record{Offset: int64(2000 + i), Timestamp: int64(i), Value: random[i*1000 : (i+1)*1000]})
		}
		out := encodeAll(t, EncoderConfig{Codec: codec, MaxBatchBytes: limit}, records)
		got, err := oracle(out)
		if err != nil {
			t.Fatal(err)
		}
		batches := 0
		eachBatch(t, out, func(b Batch) error {
			if batches++; len(b) > limit {
				t.Errorf("%s: batch of %d bytes", codec, len(b))
			}
			return nil
		})
		for i := range got {
			got[i].Offset = int64(i)
		}
		mustEqual(t, got, records)
		if most := 2 * len(out) / limit; batches > most+20 {
			t.Errorf("%s: %d batches for %d bytes", codec, batches, len(out))
		}
	}
}
