package transfer

import (
	"encoding/binary"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
)

// cut returns the records of b at the offsets [from, to), offsets, times,
// producer and sequence numbers kept, as one dense batch for each run of offsets
// without a gap. It is needed where a log starts in the middle of a batch
// (DeleteRecords), and where single records are asked for.
func cut(b recordbatch.Batch, from, to int64) ([]recordbatch.Batch, error) {
	if err := b.Verify(); err != nil {
		return nil, err
	}
	enc, err := recordbatch.NewEncoder(recordbatch.EncoderConfig{Codec: b.Codec(), MaxBatchBytes: 1 << 30})
	if err != nil {
		return nil, err
	}
	var (
		out  []recordbatch.Batch
		dec  recordbatch.Decoder
		base int64 // of the run being collected
		next int64 = -1
	)
	flush := func() error {
		made, err := enc.Flush(nil)
		if err != nil {
			return err
		}
		for len(made) > 0 {
			one, rest, err := recordbatch.Next(made)
			if err != nil {
				return err
			}
			if b.ProducerID() >= 0 {
				one.Stamp(recordbatch.Stamp{
					ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(),
					BaseSequence: recordbatch.Sequence(int64(b.BaseSequence()) + base - b.BaseOffset()),
				})
			}
			// Neither field is covered by the CRC.
			binary.BigEndian.PutUint64(one, uint64(base))
			binary.BigEndian.PutUint32(one[12:], uint32(b.LeaderEpoch()))
			base += int64(one.NumRecords())
			out, made = append(out, one), rest
		}
		return nil
	}
	err = dec.Records(b, func(r *recordbatch.Record) error {
		if r.Offset < from || r.Offset >= to {
			return nil
		}
		if r.Offset != next {
			if err := flush(); err != nil {
				return err
			}
			base = r.Offset
		}
		for !enc.Append(r) {
			if err := flush(); err != nil {
				return err
			}
		}
		next = r.Offset + 1
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, flush()
}
