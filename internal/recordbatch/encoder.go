package recordbatch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
)

// DefaultMaxBatchBytes is Kafka's default max.message.bytes, which a broker
// compares with a batch's size: 1 MiB of records and overhead.
const DefaultMaxBatchBytes = 1048588

// EncoderConfig says how an [Encoder] makes batches.
type EncoderConfig struct {
	Codec Codec // of the batches
	Level int   // 0 is the codec's default; gzip and lz4 1 to 9, zstd 1 to 22

	// MaxBatchBytes is the largest batch made, header included, in bytes: the
	// target's max.message.bytes or less. 0 means DefaultMaxBatchBytes.
	MaxBatchBytes int

	// MaxRecords is the most records in one batch. 0 means no limit.
	MaxRecords int

	// MaxRawBytes bounds the records collected for one compressed batch
	// before compression, in bytes. 0 means 16 times MaxBatchBytes.
	MaxRawBytes int
}

func (c *EncoderConfig) normalize() error {
	if c.MaxBatchBytes == 0 {
		c.MaxBatchBytes = DefaultMaxBatchBytes
	}
	if c.MaxRecords == 0 {
		c.MaxRecords = math.MaxInt32
	}
	if c.MaxRawBytes == 0 {
		c.MaxRawBytes = 16 * c.MaxBatchBytes
	}
	if int(c.Codec) >= len(codecNames) {
		return fmt.Errorf("unknown codec %d", c.Codec)
	}
	if c.MaxBatchBytes <= HeaderLen || c.MaxRecords < 0 || c.MaxRawBytes < 0 {
		return fmt.Errorf("encoder limits: %d bytes a batch, %d records, %d bytes uncompressed", c.MaxBatchBytes, c.MaxRecords, c.MaxRawBytes)
	}
	return checkLevel(c.Codec, c.Level)
}

// ratioBytes is the least size of a batch before compression from which the
// encoder learns how well the data compresses.
const ratioBytes = 16 << 10

// Encoder collects records and makes them into dense batches with CreateTime
// timestamps, base offset 0 and no producer. It is reusable and allocates
// nothing per record. Not for concurrent use.
type Encoder struct {
	config  EncoderConfig
	draft   draft
	offsets []int64 // source offsets of the records collected, for errors
	ratio   float64 // raw bytes per compressed byte, expected
}

// NewEncoder makes an encoder; the error is about the configuration.
func NewEncoder(config EncoderConfig) (*Encoder, error) {
	if err := config.normalize(); err != nil {
		return nil, err
	}
	return &Encoder{config: config, ratio: 1}, nil
}

// Len is the number of records collected since the last Flush.
func (e *Encoder) Len() int { return e.draft.count }

// Size is how many bytes the records collected since the last Flush take,
// before compression.
func (e *Encoder) Size() int { return len(e.draft.records) }

// Reset forgets the records collected since the last Flush.
func (e *Encoder) Reset() { e.draft.reset(); e.offsets = e.offsets[:0] }

// Append adds a record and copies all it needs of it. It tells false, and has
// not taken the record, when the batch is full: Flush, then append again. Of
// the record's offset only errors make use.
func (e *Encoder) Append(r *Record) bool {
	if !e.fits(bodyLen(r)) {
		return false
	}
	e.offsets = append(e.offsets, r.Offset)
	e.draft.add(int32(e.draft.count), r)
	return true
}

func (e *Encoder) appendRaw(r *rawRecord) bool {
	if !e.fits(len(r.body)) {
		return false
	}
	e.offsets = append(e.offsets, r.offset)
	e.draft.addRaw(int32(e.draft.count), r.timestamp, r.body)
	return true
}

// fits tells whether a record with such a body may join. An empty encoder
// takes every record: whether it is too large shows when it is compressed.
func (e *Encoder) fits(body int) bool {
	d := &e.draft
	if d.count == 0 {
		return true
	}
	return d.count < e.config.MaxRecords && len(d.records)+body+maxRecordOverhead <= e.rawLimit()
}

// rawLimit is how many bytes of records are likely to make a batch of
// MaxBatchBytes.
func (e *Encoder) rawLimit() int {
	limit := e.config.MaxBatchBytes - HeaderLen
	if e.config.Codec == None {
		return limit
	}
	return min(int(float64(limit)*max(1, e.ratio*0.9)), e.config.MaxRawBytes)
}

// Flush appends a batch of the records collected to dst and forgets them.
// Where compression did less than expected it makes several batches, none
// larger than MaxBatchBytes, which [Next] cuts apart. Without records it
// returns dst as it is. A [*TooLargeError] says that one record alone exceeds
// MaxBatchBytes; dst is then unchanged and the records are forgotten.
func (e *Encoder) Flush(dst []byte) ([]byte, error) {
	if e.draft.count == 0 {
		return dst, nil
	}
	defer e.Reset()
	var c *compressor
	if e.config.Codec != None {
		c = takeCompressor(e.config.Level)
		defer c.putBack()
	}
	out, err := e.write(dst, &e.draft, e.offsets, c)
	if err != nil {
		return dst, err
	}
	return out, nil
}

func (e *Encoder) write(dst []byte, d *draft, offsets []int64, c *compressor) ([]byte, error) {
	out, err := d.appendBatch(dst, 0, e.config.Codec, c)
	if err != nil {
		return dst, err
	}
	size := len(out) - len(dst)
	if len(d.records) >= ratioBytes {
		e.ratio = float64(len(d.records)) / float64(size)
	}
	if size <= e.config.MaxBatchBytes {
		return out, nil
	}
	if d.count == 1 {
		return dst, &TooLargeError{Offset: offsets[0], What: "record", Size: size, Limit: e.config.MaxBatchBytes,
			Hint: "raise max.message.bytes of the target topic"}
	}
	left, right := d.split()
	if out, err = e.write(out[:len(dst)], &left, offsets[:left.count], c); err != nil {
		return dst, err
	}
	return e.write(out, &right, offsets[left.count:], c)
}

// split cuts a dense draft of two or more records near the middle of its
// bytes.
func (d *draft) split() (left, right draft) {
	var r rawRecord
	for i := 0; i < len(d.records); {
		half := &left
		if left.count > 0 && (i >= len(d.records)/2 || left.count == d.count-1) {
			half = &right
		}
		i = nextRaw(d.records, i, &r)
		half.addRaw(int32(half.count), d.baseTimestamp+r.timestamp, r.body)
	}
	return left, right
}

// appendBatch writes the draft as a batch, with a compressor unless codec is
// None. The draft has records.
func (d *draft) appendBatch(dst []byte, baseOffset int64, codec Codec, c *compressor) ([]byte, error) {
	at := len(dst)
	if codec == None {
		dst = slices.Grow(dst, HeaderLen+len(d.records))
	}
	dst = append(dst, make([]byte, HeaderLen)...)
	if codec == None {
		dst = append(dst, d.records...)
	} else {
		var err error
		if dst, err = c.append(dst, codec, d.records); err != nil {
			return dst[:at], fmt.Errorf("compress a record batch with %s: %w", codec, err)
		}
	}
	b := dst[at:]
	if len(b) > math.MaxInt32 {
		return dst[:at], &TooLargeError{Offset: baseOffset, What: "record batch", Size: len(b), Limit: math.MaxInt32, Hint: "make smaller batches"}
	}
	binary.BigEndian.PutUint64(b, uint64(baseOffset))
	binary.BigEndian.PutUint32(b[posLength:], uint32(len(b)-logOverhead))
	binary.BigEndian.PutUint32(b[posLeaderEpoch:], 0xffffffff)
	b[posMagic] = 2
	binary.BigEndian.PutUint16(b[posAttributes:], uint16(codec))
	binary.BigEndian.PutUint32(b[posLastOffsetDelta:], uint32(d.lastOffsetDelta))
	binary.BigEndian.PutUint64(b[posBaseTimestamp:], uint64(d.baseTimestamp))
	binary.BigEndian.PutUint64(b[posMaxTimestamp:], uint64(d.maxTimestamp))
	binary.BigEndian.PutUint64(b[posProducerID:], math.MaxUint64)
	binary.BigEndian.PutUint16(b[posProducerEpoch:], math.MaxUint16)
	binary.BigEndian.PutUint32(b[posBaseSequence:], math.MaxUint32)
	binary.BigEndian.PutUint32(b[posNumRecords:], uint32(d.count))
	binary.BigEndian.PutUint32(b[posCRC:], crc32.Checksum(b[posAttributes:], castagnoli))
	return dst, nil
}
