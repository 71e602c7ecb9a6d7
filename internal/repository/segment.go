package repository

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
)

// A segment (docs/FORMAT.md, "Segments"; integers are big-endian):
//
//	header   16 bytes: "KBSEGMNT", uint32 version, uint32 zero
//	blocks   one after the other, without anything between them
//	index    one zstd frame: JSON, SegmentIndex
//	trailer  64 bytes: uint64 position of the index, uint64 length of the index, uint64 zero,
//	         SHA-256 of header || index || the 24 bytes before, "KBSEGEND"
const (
	segmentMagic   = "KBSEGMNT"
	trailerMagic   = "KBSEGEND"
	headerLength   = 16
	trailerLength  = 64
	trailerNumbers = 24
)

// segmentHeader is the header of every segment of this version.
var segmentHeader = func() []byte {
	h := append([]byte(segmentMagic), make([]byte, headerLength-len(segmentMagic))...)
	binary.BigEndian.PutUint32(h[8:], FormatVersion)
	return h
}()

// SegmentRef names a segment and fixes every byte of it: SHA256 is the hash in the trailer, which
// covers the index, which holds the hash of each block. It is not the SHA-256 of the whole object.
type SegmentRef struct {
	Key string `json:"key"`
	// Size of the object in bytes.
	Size   int64  `json:"size"`
	SHA256 Digest `json:"sha256"`
}

// TopicPartition tells topic partitions apart. A topic that was deleted and created again under its
// old name is another one.
type TopicPartition struct {
	// Topic is the name, TopicID the id in Kafka's text form, empty when the cluster has none.
	Topic     string `json:"topic"`
	TopicID   string `json:"topic_id"`
	Partition int32  `json:"partition"`
}

// SegmentIndex says what is in a segment.
type SegmentIndex struct {
	// BackupID, Part and Sequence are those of the segment's key.
	BackupID string `json:"backup_id"`
	Part     int    `json:"part"`
	Sequence int    `json:"sequence"`
	// Partitions of the part that this segment brought forward, in the order given to the writer.
	Partitions []SegmentPartition `json:"partitions"`
}

// SegmentPartition says what a segment holds of one topic partition, and how far the run is on it
// after this segment.
type SegmentPartition struct {
	TopicPartition
	// NextOffset is the offset to go on at after this segment.
	NextOffset int64 `json:"next_offset"`
	// LeaderEpoch of the last batch read up to NextOffset, -1 when none was read.
	LeaderEpoch int32 `json:"leader_epoch"`
	// LeftOut counts what was read for this segment but not kept.
	LeftOut LeftOut `json:"left_out,omitzero"`
	// Gaps met while reading for this segment.
	Gaps []Gap `json:"gaps,omitempty"`
	// Blocks in ascending order of offsets, without overlap. The writer sets it.
	Blocks []Block `json:"blocks,omitempty"`
}

// Block describes one independently readable piece of a segment: whole record batches of one topic
// partition, in the order of the log.
type Block struct {
	// FirstOffset is the base offset of the first batch, LastOffset the last offset of the last one.
	FirstOffset int64 `json:"first_offset"`
	LastOffset  int64 `json:"last_offset"`
	// Records is the sum of the batches' record counts.
	Records int64 `json:"records"`
	// MinBaseTimestamp is the smallest of the batches' base timestamps, ms since 1970; of a batch with
	// LogAppendTime its max timestamp counts. A base timestamp is that of the batch's first record:
	// later records of the batch may be older. So this is no lower bound; only MaxTimestamp is a bound.
	MinBaseTimestamp int64 `json:"min_base_timestamp"`
	// MaxTimestamp is the largest of the batches' max timestamps: no record has a later one.
	MaxTimestamp int64 `json:"max_timestamp"`
	// Position in the segment, in bytes from its beginning. The writer sets it.
	Position int64 `json:"position"`
	// Length as stored, RawLength of the record batches, in bytes.
	Length    int64 `json:"length"`
	RawLength int64 `json:"raw_length"`
	// Codec says how it is stored.
	Codec Codec `json:"codec"`
	// SHA256 of the stored bytes.
	SHA256 Digest `json:"sha256"`
}

// Dense reports whether there is a record at each offset of the block.
func (b *Block) Dense() bool { return b.LastOffset-b.FirstOffset+1 == b.Records }

// AddBatch makes the block longer by a record batch, which follows it in offset order: offsets,
// records, timestamps and RawLength. The zero Block is empty.
func (b *Block) AddBatch(batch recordbatch.Batch) {
	base, last := batch.BaseTimestamp(), batch.MaxTimestamp()
	if batch.IsLogAppendTime() {
		base = last
	}
	if b.RawLength == 0 {
		b.FirstOffset, b.MinBaseTimestamp, b.MaxTimestamp = batch.BaseOffset(), base, last
	}
	b.LastOffset = batch.LastOffset()
	b.Records += int64(batch.NumRecords())
	b.MinBaseTimestamp = min(b.MinBaseTimestamp, base)
	b.MaxTimestamp = max(b.MaxTimestamp, last)
	b.RawLength += int64(len(batch))
}

// SetEncoded fills in what EncodeBlock found out.
func (b *Block) SetEncoded(e *EncodedBlock) {
	b.Length, b.RawLength, b.Codec, b.SHA256 = e.Length, e.RawLength, e.Codec, e.SHA256
}

// check refuses entries that make no sense.
func (b *Block) check() error {
	switch {
	case b.FirstOffset < 0 || b.FirstOffset > b.LastOffset:
		return fmt.Errorf("offsets %d to %d", b.FirstOffset, b.LastOffset)
	case b.Records < 0 || b.Records > b.LastOffset-b.FirstOffset+1:
		return fmt.Errorf("%d records at offsets %d to %d", b.Records, b.FirstOffset, b.LastOffset)
	case b.RawLength < 1 || b.RawLength > MaxBlockLength || b.Length < 1 || b.Length > b.RawLength:
		return fmt.Errorf("%d bytes stored as %d", b.RawLength, b.Length)
	case b.Codec == CodecNone && b.Length != b.RawLength:
		return fmt.Errorf("%d bytes stored uncompressed as %d", b.RawLength, b.Length)
	case b.Codec != CodecNone && b.Codec != CodecZstd:
		return fmt.Errorf("codec %q", b.Codec)
	}
	return nil
}

// encodeTrailer makes the trailer of a segment with this stored index.
func encodeTrailer(position int64, index []byte) (trailer []byte, sum Digest) {
	trailer = make([]byte, trailerNumbers, trailerLength)
	binary.BigEndian.PutUint64(trailer, uint64(position))
	binary.BigEndian.PutUint64(trailer[8:], uint64(len(index)))
	sum = segmentSum(segmentHeader, index, trailer)
	trailer = append(trailer, sum[:]...)
	return append(trailer, trailerMagic...), sum
}

func segmentSum(header, index, numbers []byte) (sum Digest) {
	hash := sha256.New()
	hash.Write(header)
	hash.Write(index)
	hash.Write(numbers)
	hash.Sum(sum[:0])
	return sum
}

// decodeTrailer checks all of the trailer that can be checked without the index.
func decodeTrailer(key string, size int64, trailer []byte) (position, length int64, sum Digest, err error) {
	bad := func(detail string) error {
		return &CorruptError{Key: key, Detail: "trailer: " + detail}
	}
	if string(trailer[trailerLength-len(trailerMagic):]) != trailerMagic {
		return 0, 0, sum, bad("it is not that of a segment; the segment is truncated or damaged")
	}
	p, n := binary.BigEndian.Uint64(trailer), binary.BigEndian.Uint64(trailer[8:])
	if p < headerLength || p > uint64(size) || n == 0 || n != uint64(size)-trailerLength-p {
		return 0, 0, sum, bad(fmt.Sprintf("index at %d of length %d in a segment of %d bytes", p, n, size))
	}
	return int64(p), int64(n), Digest(trailer[trailerNumbers : trailerNumbers+sha256.Size]), nil
}

// checkHeader refuses what is not the header of a segment of this version.
func checkHeader(key string, header []byte) error {
	if !bytes.Equal(header, segmentHeader) {
		if bytes.HasPrefix(header, []byte(segmentMagic)) {
			return &CorruptError{Key: key, Detail: "header", Want: fmt.Sprintf("%x", segmentHeader), Got: fmt.Sprintf("%x", header)}
		}
		return &CorruptError{Key: key, Detail: "it does not begin like a segment"}
	}
	return nil
}

// check refuses an index that contradicts itself or does not account for every byte of the segment.
func (x *SegmentIndex) check(key string, indexPosition int64) error {
	bad := func(p *SegmentPartition, format string, args ...any) error {
		return &CorruptError{Key: key, Detail: fmt.Sprintf("index: topic %q partition %d: ", p.Topic, p.Partition) + fmt.Sprintf(format, args...)}
	}
	if want := SegmentKey(x.BackupID, x.Part, x.Sequence); want != key {
		return &CorruptError{Key: key, Detail: "it is another segment", Want: key, Got: want}
	}
	seen := make(map[TopicPartition]bool, len(x.Partitions))
	for i := range x.Partitions {
		p := &x.Partitions[i]
		if seen[p.TopicPartition] {
			return bad(p, "it appears twice")
		}
		seen[p.TopicPartition] = true
		for j := range p.Blocks {
			b := &p.Blocks[j]
			if err := b.check(); err != nil {
				return bad(p, "block %d: %v", j, err)
			}
			if j > 0 && p.Blocks[j-1].LastOffset >= b.FirstOffset {
				return bad(p, "blocks %d and %d overlap", j-1, j)
			}
		}
		if n := len(p.Blocks); n > 0 && p.Blocks[n-1].LastOffset >= p.NextOffset {
			return bad(p, "next offset %d is not after the last block, which ends at %d", p.NextOffset, p.Blocks[n-1].LastOffset)
		}
	}
	// The blocks must tile the space between header and index.
	at := int64(headerLength)
	for _, b := range x.InOrder() {
		if b.Block.Position != at {
			return &CorruptError{Key: key, Detail: fmt.Sprintf("index: the block at %d should be at %d", b.Block.Position, at)}
		}
		at += b.Block.Length
	}
	if at != indexPosition {
		return &CorruptError{Key: key, Detail: fmt.Sprintf("index: the blocks end at %d, the index begins at %d", at, indexPosition)}
	}
	return nil
}
