package repository

import (
	"bytes"
	"fmt"
	"strconv"
)

// Slice is the part of a topic partition that is in one segment: its blocks of that topic partition
// which lie within FirstOffset and LastOffset.
//
// In JSON it is an array of its fields in this order. There is a slice for each partition and each
// backup that found something new, so an index may hold millions, and this is a third of an object's
// size and time.
type Slice struct {
	// Segment is a position in Shard.Segments.
	Segment int
	// FirstOffset and LastOffset, both inclusive.
	FirstOffset int64
	LastOffset  int64
	Records     int64
	// Bytes of the batches, before, and StoredBytes after the repository's compression.
	Bytes       int64
	StoredBytes int64
	// MinBaseTimestamp and MaxTimestamp, see Block.
	MinBaseTimestamp int64
	MaxTimestamp     int64
}

// MarshalJSON implements json.Marshaler.
func (s Slice) MarshalJSON() ([]byte, error) {
	p := strconv.AppendInt(append(make([]byte, 0, 96), '['), int64(s.Segment), 10)
	for _, n := range [...]int64{s.FirstOffset, s.LastOffset, s.Records, s.Bytes, s.StoredBytes, s.MinBaseTimestamp, s.MaxTimestamp} {
		p = strconv.AppendInt(append(p, ','), n, 10)
	}
	return append(p, ']'), nil
}

// UnmarshalJSON implements json.Unmarshaler. Anything but eight integers is refused.
func (s *Slice) UnmarshalJSON(p []byte) error {
	var n [8]int64
	if len(p) < 2 || p[0] != '[' || p[len(p)-1] != ']' {
		return fmt.Errorf("a slice is an array of %d integers, got %.100s", len(n), p)
	}
	i := 0
	for field := range bytes.SplitSeq(p[1:len(p)-1], []byte(",")) {
		v, err := strconv.ParseInt(string(bytes.TrimSpace(field)), 10, 64)
		if err != nil || i == len(n) {
			return fmt.Errorf("a slice is an array of %d integers, got %.100s", len(n), p)
		}
		n[i] = v
		i++
	}
	if i < len(n) {
		return fmt.Errorf("a slice is an array of %d integers, got %.100s", len(n), p)
	}
	*s = Slice{int(n[0]), n[1], n[2], n[3], n[4], n[5], n[6], n[7]}
	return nil
}

// Dense reports whether there is a record at each offset of the slice.
func (s *Slice) Dense() bool { return s.LastOffset-s.FirstOffset+1 == s.Records }

// AddBlocks makes the slice longer by blocks, which follow it in offset order. The zero Slice is empty.
func (s *Slice) AddBlocks(blocks ...Block) {
	for i := range blocks {
		b := &blocks[i]
		if s.Bytes == 0 {
			s.FirstOffset, s.MinBaseTimestamp, s.MaxTimestamp = b.FirstOffset, b.MinBaseTimestamp, b.MaxTimestamp
		}
		s.LastOffset = b.LastOffset
		s.Records += b.Records
		s.Bytes += b.RawLength
		s.StoredBytes += b.Length
		s.MinBaseTimestamp = min(s.MinBaseTimestamp, b.MinBaseTimestamp)
		s.MaxTimestamp = max(s.MaxTimestamp, b.MaxTimestamp)
	}
}

// AddSlice appends a slice and brings the sums of the partition up to date. A new Partition must
// have FirstOffset and LastOffset -1.
func (p *Partition) AddSlice(s Slice) {
	if len(p.Slices) == 0 {
		p.FirstOffset, p.MinBaseTimestamp, p.MaxTimestamp = s.FirstOffset, s.MinBaseTimestamp, s.MaxTimestamp
	}
	p.LastOffset = s.LastOffset
	p.Records += s.Records
	p.Bytes += s.Bytes
	p.MinBaseTimestamp = min(p.MinBaseTimestamp, s.MinBaseTimestamp)
	p.MaxTimestamp = max(p.MaxTimestamp, s.MaxTimestamp)
	p.Slices = append(p.Slices, s)
}
