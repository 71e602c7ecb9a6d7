package recordbatch

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// HeaderLen is the length in bytes of a v2 batch's header; the records, or
// their compressed form, follow it.
const HeaderLen = 61

// Positions of the header fields. The CRC covers everything from attributes
// on, so base offset and leader epoch can change without it.
const (
	posLength          = 8
	posLeaderEpoch     = 12
	posMagic           = 16
	posCRC             = 17
	posAttributes      = 21
	posLastOffsetDelta = 23
	posBaseTimestamp   = 27
	posMaxTimestamp    = 35
	posProducerID      = 43
	posProducerEpoch   = 51
	posBaseSequence    = 53
	posNumRecords      = 57

	logOverhead = 12 // base offset and length, which the length does not count
)

const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40 // KIP-534: the base timestamp is a delete horizon; deltas still refer to it
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is one whole v2 record batch: [HeaderLen] bytes and the records.
// Accessors read the header in place and must not be called on fewer bytes
// than HeaderLen; get a Batch from [Next].
type Batch []byte

// Next cuts the first batch off p. It looks at length and magic only; the
// batch aliases p and has no capacity beyond its end. At the end of p (p
// empty or cut short) the error is [ErrShort], before a v0 or v1 message that
// is wholly there [ErrMagic], and before nonsense a [*CorruptError]. On an
// error rest is p.
func Next(p []byte) (b Batch, rest []byte, err error) {
	if len(p) <= posMagic {
		return nil, p, ErrShort
	}
	length := int(int32(binary.BigEndian.Uint32(p[posLength:])))
	magic := p[posMagic]
	size := length + logOverhead
	if magic == 2 && length >= HeaderLen-logOverhead && size <= len(p) {
		return Batch(p[:size:size]), p[size:], nil
	}
	return nil, p, nextError(p, length, magic)
}

func nextError(p []byte, length int, magic byte) error {
	offset := int64(binary.BigEndian.Uint64(p))
	smallest := HeaderLen - logOverhead
	if magic < 2 {
		smallest = legacyMinLen - logOverhead
	}
	switch {
	case magic > 2:
		return corrupt(offset, "unknown magic %d", magic)
	case length < smallest:
		return corrupt(offset, "length field %d is below the smallest possible %d", length, smallest)
	case length+logOverhead > len(p):
		return ErrShort
	default:
		return ErrMagic
	}
}

// BaseOffset is the offset that record offset deltas refer to. In a compacted
// log the first record may come after it.
func (b Batch) BaseOffset() int64 { return int64(binary.BigEndian.Uint64(b)) }

// LastOffset is the last offset the batch stands for; compaction keeps it even
// when it removes the last record.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// LeaderEpoch is the epoch of the leader that appended the batch, -1 when
// unknown.
func (b Batch) LeaderEpoch() int32 { return int32(binary.BigEndian.Uint32(b[posLeaderEpoch:])) }

// CRC is the stored CRC32C.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[posCRC:]) }

// Attributes are the batch's attribute bits.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[posAttributes:])) }

// LastOffsetDelta is LastOffset - BaseOffset.
func (b Batch) LastOffsetDelta() int32 {
	return int32(binary.BigEndian.Uint32(b[posLastOffsetDelta:]))
}

// DeleteHorizon is when tombstones of the batch may be removed, in ms since
// 1970; ok is false as long as compaction has not come across any (KIP-534,
// brokers from 3.1 on).
func (b Batch) DeleteHorizon() (ms int64, ok bool) {
	return b.BaseTimestamp(), b[posAttributes+1]&attrDeleteHorizon != 0
}

// BaseTimestamp is what record timestamp deltas refer to, in milliseconds
// since 1970; not necessarily the first record's (KIP-534).
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[posBaseTimestamp:])) }

// MaxTimestamp is the largest timestamp in the batch, or with LogAppendTime
// every record's, in milliseconds since 1970.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[posMaxTimestamp:])) }

// ProducerID is the producer that wrote the batch, -1 for none.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[posProducerID:])) }

// ProducerEpoch is the producer's epoch, -1 for none.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[posProducerEpoch:])) }

// BaseSequence is the sequence number of the first record, -1 for none.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[posBaseSequence:])) }

// NumRecords is the number of records, 0 in a batch emptied by compaction.
func (b Batch) NumRecords() int32 { return int32(binary.BigEndian.Uint32(b[posNumRecords:])) }

// Codec is the compression of the records.
func (b Batch) Codec() Codec { return Codec(b[posAttributes+1] & attrCodec) }

// IsLogAppendTime tells whether the broker set the timestamps (all records
// have [Batch.MaxTimestamp]) and not the producer.
func (b Batch) IsLogAppendTime() bool { return b[posAttributes+1]&attrLogAppendTime != 0 }

// IsTransactional tells whether the batch is part of a transaction.
func (b Batch) IsTransactional() bool { return b[posAttributes+1]&attrTransactional != 0 }

// IsControl tells whether the batch holds a control record (a transaction
// marker) instead of data.
func (b Batch) IsControl() bool { return b[posAttributes+1]&attrControl != 0 }

// Payload is what follows the header: the records, compressed by
// [Batch.Codec].
func (b Batch) Payload() []byte { return b[HeaderLen:] }

// Dense tells whether each offset of the batch has a record: only then a
// broker takes the batch as it is.
func (b Batch) Dense() bool {
	return b.NumRecords() > 0 && int64(b.LastOffsetDelta())+1 == int64(b.NumRecords())
}

// Verify checks the CRC32C and that the header's counts make sense. It does
// not look into the records. The error is a [*CorruptError].
func (b Batch) Verify() error {
	if got, want := crc32.Checksum(b[posAttributes:], castagnoli), b.CRC(); got != want {
		return corrupt(b.BaseOffset(), "CRC32C is %08x, the header says %08x", got, want)
	}
	n, delta := b.NumRecords(), b.LastOffsetDelta()
	switch {
	case n < 0 || delta < 0 || int64(n) > int64(delta)+1:
		return corrupt(b.BaseOffset(), "%d records with a last offset delta of %d", n, delta)
	case b.BaseOffset() < 0 || b.BaseOffset() > math.MaxInt64-int64(delta):
		return corrupt(b.BaseOffset(), "offsets are out of range")
	}
	return nil
}

// SumRecords walks p and adds up batches and records up to the first entry
// that is no whole batch.
func SumRecords(p []byte) (batches, records int64) {
	for {
		b, rest, err := Next(p)
		if err != nil {
			return batches, records
		}
		batches++
		records += int64(b.NumRecords())
		p = rest
	}
}
