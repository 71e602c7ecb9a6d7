package recordbatch

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// jsonRecords are n records that look like events: a short key, about 1 KB of
// JSON, one header.
func jsonRecords(n int) []Record {
	rng := rand.New(rand.NewPCG(1, 2))
	records := make([]Record, n)
	for i := range records {
		value := fmt.Appendf(nil, `{"id":%d,"user":"user-%d","amount":%d.%02d,"items":[`, i, rng.IntN(5000), rng.IntN(1000), rng.IntN(100))
		for len(value) < 950 {
			value = fmt.Appendf(value, `{"sku":"%08x","count":%d,"name":"article %d"},`, rng.Uint32(), rng.IntN(9), rng.IntN(300))
		}
		records[i] = Record{
			Timestamp: 1_700_000_000_000 + int64(i)*3,
			Key:       fmt.Appendf(nil, "user-%d", rng.IntN(5000)),
			Value:     append(value, "null]}"...),
			Headers:   []Header{{Key: []byte("trace"), Value: []byte("0123456789abcdef")}},
		}
	}
	return records
}

func encodeAll(tb testing.TB, config EncoderConfig, records []Record) []byte {
	tb.Helper()
	e, err := NewEncoder(config)
	if err != nil {
		tb.Fatal(err)
	}
	var out []byte
	for i := range records {
		if !e.Append(&records[i]) {
			if out, err = e.Flush(out); err != nil {
				tb.Fatal(err)
			}
			e.Append(&records[i])
		}
	}
	if out, err = e.Flush(out); err != nil {
		tb.Fatal(err)
	}
	return out
}

func BenchmarkWalkVerify(b *testing.B) {
	for _, size := range []int{16 << 10, 1 << 20} {
		p := encodeAll(b, EncoderConfig{MaxBatchBytes: size}, jsonRecords(8000))
		b.Run(fmt.Sprintf("batch=%dK", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				for q := p; len(q) > 0; {
					batch, rest, err := Next(q)
					if err == nil {
						err = batch.Verify()
					}
					if err != nil {
						b.Fatal(err)
					}
					q = rest
				}
			}
		})
	}
}

func BenchmarkStamp(b *testing.B) {
	for _, n := range []int{1, 15, 1000} {
		p := Batch(encodeAll(b, EncoderConfig{MaxBatchBytes: 8 << 20}, jsonRecords(n)))
		b.Run(fmt.Sprintf("bytes=%d", len(p)), func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for i := int32(0); b.Loop(); i++ {
				p.Stamp(Stamp{ProducerID: 1000, BaseSequence: i})
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	records := jsonRecords(4000)
	for codec := None; codec <= Zstd; codec++ {
		p := encodeAll(b, EncoderConfig{Codec: codec}, records)
		raw := rawSize(b, p)
		b.Run(codec.String(), func(b *testing.B) {
			var d Decoder
			b.SetBytes(raw)
			b.ReportAllocs()
			for b.Loop() {
				eachBatch(b, p, func(batch Batch) error {
					return d.Records(batch, func(*Record) error { return nil })
				})
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	records := jsonRecords(4000)
	for codec := None; codec <= Zstd; codec++ {
		raw := rawSize(b, encodeAll(b, EncoderConfig{}, records))
		b.Run(codec.String(), func(b *testing.B) {
			e, err := NewEncoder(EncoderConfig{Codec: codec})
			if err != nil {
				b.Fatal(err)
			}
			var out []byte
			b.SetBytes(raw)
			b.ReportAllocs()
			for b.Loop() {
				out = out[:0]
				for i := range records {
					if !e.Append(&records[i]) {
						out, _ = e.Flush(out)
						e.Append(&records[i])
					}
				}
				out, _ = e.Flush(out)
			}
		})
	}
}

func BenchmarkRewrite(b *testing.B) {
	records := jsonRecords(4000)
	p := encodeAll(b, EncoderConfig{MaxBatchBytes: 16 << 10}, records)
	header := Header{Key: []byte("x-kafka-backup-offset"), Value: []byte("123")}
	for name, step := range map[string]func(*Rewriter, []byte, Batch) ([]byte, error){
		"concat": func(w *Rewriter, dst []byte, batch Batch) ([]byte, error) { return w.Concat(dst, batch, 0) },
		"header": func(w *Rewriter, dst []byte, batch Batch) ([]byte, error) {
			return w.Rewrite(dst, batch, func(r *Record) (bool, error) {
				r.Headers = append(r.Headers, header)
				return true, nil
			})
		},
	} {
		b.Run(name, func(b *testing.B) {
			w, err := NewRewriter(RewriterConfig{})
			if err != nil {
				b.Fatal(err)
			}
			var out []byte
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				out = out[:0]
				eachBatch(b, p, func(batch Batch) (err error) {
					out, err = step(w, out, batch)
					return err
				})
				out, _ = w.Flush(out)
			}
		})
	}
}

func eachBatch(tb testing.TB, p []byte, fn func(Batch) error) {
	tb.Helper()
	for len(p) > 0 {
		b, rest, err := Next(p)
		if err == nil {
			err = fn(b)
		}
		if err != nil {
			tb.Fatal(err)
		}
		p = rest
	}
}

func rawSize(tb testing.TB, p []byte) (n int64) {
	var d Decoder
	eachBatch(tb, p, func(b Batch) error {
		raw, err := d.payload(b)
		n += int64(len(raw))
		return err
	})
	return n
}
