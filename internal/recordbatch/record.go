package recordbatch

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// Record is one record. From a [Decoder] its slices point into the batch or
// the decoder's buffer and are good only until the callback returns; who
// keeps them copies them.
type Record struct {
	Offset    int64    // absolute: base offset plus the record's delta
	Timestamp int64    // effective, ms since 1970; with LogAppendTime the batch's
	Key       []byte   // nil is null
	Value     []byte   // nil is null, a tombstone
	Headers   []Header // in order, duplicates kept; nil and empty are the same, as in Kafka
}

// Header is a record header (KIP-82).
type Header struct {
	Key   []byte // UTF-8 by convention, kept as it is; never null, nil counts as empty
	Value []byte // nil is null
}

// rawRecord is a record of which only the part that says where and when it is
// was read. body runs from the key's length to the record's end and does not
// depend on the batch, so it can be copied into another one.
type rawRecord struct {
	offset    int64
	timestamp int64
	body      []byte
}

// nextRaw reads the record at p[i:], offset and timestamp as the deltas they
// are stored as, and returns the position after it, or -1.
func nextRaw(p []byte, i int, r *rawRecord) int {
	length, i := varint32(p, i)
	if i < 0 || length < 1 || length > int64(len(p)-i) {
		return -1
	}
	end := i + int(length)
	p = p[:end]
	i++ // attributes: none are defined
	r.timestamp, i = varint(p, i)
	r.offset, i = varint32(p, i)
	if i < 0 || r.offset < 0 {
		return -1
	}
	r.body = p[i:end:end]
	return end
}

// rawRecords walks the uncompressed records of a batch.
type rawRecords struct {
	p                           []byte
	at, taken, count            int
	baseOffset                  int64
	baseTimestamp, maxTimestamp int64
	logAppendTime               bool
}

// next reads a record with its absolute offset and effective timestamp. After
// the last one it tells false and checks that the bytes end there.
func (w *rawRecords) next(r *rawRecord) (bool, error) {
	if w.taken == w.count {
		if w.at != len(w.p) {
			return false, corrupt(w.baseOffset, "%d bytes after the last of %d records", len(w.p)-w.at, w.count)
		}
		return false, nil
	}
	w.taken++
	if w.at = nextRaw(w.p, w.at, r); w.at < 0 {
		return false, corrupt(w.baseOffset, "record %d of %d cannot be read", w.taken, w.count)
	}
	r.offset += w.baseOffset
	if r.timestamp += w.baseTimestamp; w.logAppendTime {
		r.timestamp = w.maxTimestamp
	}
	return true, nil
}

// parseBody reads key, value and headers. It reuses headers' memory and tells
// whether the body is exactly that and no byte more.
func parseBody(p []byte, r *Record, headers []Header) (_ []Header, ok bool) {
	i := 0
	r.Key, i = bytesAt(p, i)
	r.Value, i = bytesAt(p, i)
	count, i := varint32(p, i)
	// A header takes at least two bytes: a count beyond that is a lie, not a
	// reason to loop.
	if i < 0 || count < 0 || count > int64(len(p)-i)/2 {
		return headers, false
	}
	// Some more room than needed, for callers that append headers.
	headers = slices.Grow(headers[:0], int(count)+8)
	for ; count > 0; count-- {
		var h Header
		h.Key, i = bytesAt(p, i)
		h.Value, i = bytesAt(p, i)
		if i < 0 || h.Key == nil {
			return headers, false
		}
		headers = append(headers, h)
	}
	r.Headers = headers
	return headers, i == len(p)
}

// bytesAt reads a nullable byte string with its varint length. Any negative
// length is null, as in the Java client. Position -1 in or out is an error.
func bytesAt(p []byte, i int) ([]byte, int) {
	n, i := varint32(p, i)
	if i < 0 || n < 0 {
		return nil, i
	}
	if n > int64(len(p)-i) {
		return nil, -1
	}
	end := i + int(n)
	return p[i:end:end], end
}

// varint reads the zigzag varint at p[i:] and returns the position after it,
// -1 when there is none. A negative i stays an error, so that a reader may
// check once after several calls.
func varint(p []byte, i int) (int64, int) {
	if uint(i) < uint(len(p)) && p[i] < 0x80 {
		u := uint64(p[i])
		return int64(u>>1) ^ -int64(u&1), i + 1
	}
	return longVarint(p, i)
}

// varint32 is varint for what the format calls an int32: at most five bytes and
// within its range.
func varint32(p []byte, i int) (int64, int) {
	if uint(i) < uint(len(p)) && p[i] < 0x80 {
		u := uint64(p[i])
		return int64(u>>1) ^ -int64(u&1), i + 1
	}
	v, end := longVarint(p, i)
	if end-i > 5 || v != int64(int32(v)) {
		return 0, -1
	}
	return v, end
}

func longVarint(p []byte, i int) (int64, int) {
	if i < 0 || i >= len(p) {
		return 0, -1
	}
	u, n := binary.Uvarint(p[i:])
	if n <= 0 {
		return 0, -1
	}
	return int64(u>>1) ^ -int64(u&1), i + n
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func appendVarint(p []byte, v int64) []byte {
	u := zigzag(v)
	for u >= 0x80 {
		p = append(p, byte(u)|0x80)
		u >>= 7
	}
	return append(p, byte(u))
}

// varintLen is the number of bytes appendVarint writes.
func varintLen(v int64) int { return (bits.Len64(zigzag(v)|1) + 6) / 7 }

func bytesLen(p []byte) int {
	if p == nil {
		return 1
	}
	return varintLen(int64(len(p))) + len(p)
}

func appendBytes(dst, p []byte) []byte {
	if p == nil {
		return append(dst, 1) // zigzag of -1
	}
	dst = appendVarint(dst, int64(len(p)))
	return append(dst, p...)
}

func bodyLen(r *Record) int {
	n := bytesLen(r.Key) + bytesLen(r.Value) + varintLen(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varintLen(int64(len(h.Key))) + len(h.Key) + bytesLen(h.Value)
	}
	return n
}

func appendBody(dst []byte, r *Record) []byte {
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.Value)
	dst = appendVarint(dst, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = appendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	return dst
}

// maxRecordOverhead is the most bytes a record's own framing can add to its body.
const maxRecordOverhead = 5 + 1 + binary.MaxVarintLen64 + 5

// draft is an uncompressed batch in the making.
type draft struct {
	records                     []byte
	count                       int
	lastOffsetDelta             int32
	baseTimestamp, maxTimestamp int64
}

func (d *draft) reset() { *d = draft{records: d.records[:0]} }

// open appends a record's framing for a body of n bytes.
func (d *draft) open(offsetDelta int32, timestamp int64, n int) {
	if d.count == 0 {
		d.baseTimestamp, d.maxTimestamp = timestamp, math.MinInt64
	}
	d.maxTimestamp = max(d.maxTimestamp, timestamp)
	d.lastOffsetDelta = offsetDelta
	d.count++
	delta := timestamp - d.baseTimestamp // may wrap; adding it to the base wraps back
	length := 1 + varintLen(delta) + varintLen(int64(offsetDelta)) + n
	p := appendVarint(d.records, int64(length))
	p = append(p, 0)
	p = appendVarint(p, delta)
	d.records = appendVarint(p, int64(offsetDelta))
}

func (d *draft) add(offsetDelta int32, r *Record) {
	d.open(offsetDelta, r.Timestamp, bodyLen(r))
	d.records = appendBody(d.records, r)
}

func (d *draft) addRaw(offsetDelta int32, timestamp int64, body []byte) {
	d.open(offsetDelta, timestamp, len(body))
	d.records = append(d.records, body...)
}
