package recordbatch

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"math/bits"
)

// A message of format v0 or v1: offset, size, CRC, magic, attributes, in v1 a
// timestamp, key and value with int32 lengths. The CRC (IEEE) covers all from
// the magic on.
const (
	posMessageCRC        = 12
	posMessageAttributes = 17
	posMessageBody       = 18

	legacyMinLen = posMessageBody + 4 + 4

	// legacyBatchBytes is where a run of uncompressed messages is cut.
	legacyBatchBytes = 1 << 20

	noTimestamp = -1 // Kafka's RecordBatch.NO_TIMESTAMP
)

// Upconverter turns message sets of formats v0 and v1 (the logs of brokers
// before 0.11, or topics with an old message.format.version) into v2 batches
// with the same absolute offsets, as the Java client reads them: keys, values
// and offsets are kept, timestamps are the effective ones (a LogAppendTime
// wrapper's for the messages in it, -1 for v0), and all output is CreateTime.
// A compressed set becomes one batch with the same codec; uncompressed
// messages are joined. Offset gaps that compaction left stay. The zero value
// is ready. Not for concurrent use.
type Upconverter struct {
	// MaxBytes bounds the decompressed size of one message set, as
	// Decoder.MaxBytes does. 0 means DefaultMaxBytes.
	MaxBytes int

	decoder    Decoder
	compressor compressor
	draft      draft
	base, last int64 // offsets of the draft's first and last record
	inner      []message
	fixed      []byte
}

// message is one v0 or v1 message.
type message struct {
	magic     byte
	codec     Codec
	logAppend bool
	record    Record
}

// Convert takes the messages at the front of p and appends batches to dst. It
// stops at the first v2 batch and at the end of p, and gives what it did not
// take in rest: whoever walks p goes on there with [Next], which tells
// [ErrShort] for a message cut short. Each message's CRC is checked; the error
// is a [*CorruptError] or a [*TooLargeError], and then out has what came
// before the broken message and rest begins with it.
func (u *Upconverter) Convert(dst, p []byte) (out, rest []byte, err error) {
	u.decoder.MaxBytes = u.MaxBytes
	u.draft.reset()
	for {
		m, rest, err := nextMessage(p)
		if err == nil {
			dst, err = u.take(dst, &m)
		}
		if err != nil {
			dst, flushErr := u.flush(dst, None)
			if flushErr != nil || err == ErrShort || err == errBatch {
				err = flushErr
			}
			return dst, p, err
		}
		p = rest
	}
}

// errBatch says that the next entry is not a v0 or v1 message.
var errBatch = errors.New("not a v0 or v1 message")

func nextMessage(p []byte) (m message, rest []byte, err error) {
	if len(p) <= posMagic {
		return m, p, ErrShort
	}
	offset := int64(binary.BigEndian.Uint64(p))
	length := int(int32(binary.BigEndian.Uint32(p[posLength:])))
	size := length + logOverhead
	body := posMessageBody
	m.magic = p[posMagic]
	switch m.magic {
	case 0:
	case 1:
		body += 8
	default:
		return m, p, errBatch
	}
	if size < body+8 {
		return m, p, corrupt(offset, "message of format v%d with a length field of %d", m.magic, length)
	}
	if size > len(p) {
		return m, p, ErrShort
	}
	whole := p[:size:size]
	if got, want := crc32.ChecksumIEEE(whole[posMagic:]), binary.BigEndian.Uint32(whole[posMessageCRC:]); got != want {
		return m, p, corrupt(offset, "message CRC is %08x, the message says %08x", got, want)
	}
	attributes := whole[posMessageAttributes]
	m.codec = Codec(attributes & attrCodec)
	m.record = Record{Offset: offset, Timestamp: noTimestamp}
	if m.magic == 1 {
		m.logAppend = attributes&attrLogAppendTime != 0
		m.record.Timestamp = int64(binary.BigEndian.Uint64(whole[posMessageBody:]))
	}
	var ok bool
	if m.record.Key, body, ok = longBytesAt(whole, body); ok {
		m.record.Value, body, ok = longBytesAt(whole, body)
	}
	if !ok || body != size {
		return m, p, corrupt(offset, "key and value do not fit the message's %d bytes", size)
	}
	return m, p[size:], nil
}

// longBytesAt reads a nullable byte string with its int32 length.
func longBytesAt(p []byte, i int) ([]byte, int, bool) {
	if len(p)-i < 4 {
		return nil, i, false
	}
	n := int(int32(binary.BigEndian.Uint32(p[i:])))
	i += 4
	if n < 0 {
		return nil, i, true
	}
	if n > len(p)-i {
		return nil, i, false
	}
	return p[i : i+n : i+n], i + n, true
}

// take adds a message to the draft, or unpacks a compressed set.
func (u *Upconverter) take(dst []byte, m *message) (_ []byte, err error) {
	if m.codec == None {
		return u.add(dst, &m.record, None)
	}
	if err := u.unpack(m); err != nil {
		return dst, err
	}
	if dst, err = u.flush(dst, None); err != nil {
		return dst, err
	}
	for i := range u.inner {
		if dst, err = u.add(dst, &u.inner[i].record, m.codec); err != nil {
			return dst, err
		}
	}
	return u.flush(dst, m.codec)
}

func (u *Upconverter) add(dst []byte, r *Record, codec Codec) (_ []byte, err error) {
	if r.Offset < 0 {
		return dst, corrupt(r.Offset, "message with a negative offset")
	}
	if u.draft.count > 0 {
		ordered := r.Offset > u.last && r.Offset-u.base <= math.MaxInt32
		if !ordered || codec == None && len(u.draft.records) >= legacyBatchBytes {
			if dst, err = u.flush(dst, codec); err != nil {
				return dst, err
			}
		}
	}
	if u.draft.count == 0 {
		u.base = r.Offset
	}
	u.last = r.Offset
	u.draft.add(int32(r.Offset-u.base), r)
	return dst, nil
}

func (u *Upconverter) flush(dst []byte, codec Codec) ([]byte, error) {
	if u.draft.count == 0 {
		return dst, nil
	}
	dst, err := u.draft.appendBatch(dst, u.base, codec, &u.compressor)
	u.draft.reset()
	return dst, err
}

// unpack reads the messages in a compressed one into u.inner, with absolute
// offsets and effective timestamps.
func (u *Upconverter) unpack(wrapper *message) error {
	offset := wrapper.record.Offset
	value := wrapper.record.Value
	if wrapper.magic == 0 && wrapper.codec == LZ4 {
		value = u.fixLZ4(value)
	}
	p, err := u.decoder.decompressor.decompress(wrapper.codec, value, u.decoder.maxBytes())
	if err != nil {
		return u.decoder.explain(err, offset, wrapper.codec)
	}
	u.inner = u.inner[:0]
	for len(p) > 0 {
		var m message
		if m, p, err = nextMessage(p); err != nil {
			// The cause goes in as text: its ErrShort or errBatch must not be
			// taken for the end of the outer bytes.
			return corrupt(offset, "compressed message set: %v", err)
		}
		if m.codec != None {
			return corrupt(offset, "compressed message inside a compressed message set")
		}
		u.inner = append(u.inner, m)
	}
	if len(u.inner) == 0 {
		return corrupt(offset, "compressed message set without messages")
	}
	// In v1 the wrapper has the last message's absolute offset and the others
	// are relative (KIP-31); offset 0 comes from some librdkafka versions and
	// means that they are absolute. In v0 they always are.
	var base int64
	if wrapper.magic == 1 && offset != 0 {
		last := u.inner[len(u.inner)-1].record.Offset
		if base = offset - last; base < 0 {
			return corrupt(offset, "compressed message set whose last relative offset is %d", last)
		}
	}
	for i := range u.inner {
		r := &u.inner[i].record
		r.Offset += base
		if wrapper.logAppend {
			r.Timestamp = wrapper.record.Timestamp
		}
	}
	return nil
}

// fixLZ4 gives a copy of an LZ4 frame with the right header checksum. Kafka
// computed it over the wrong bytes in message format v0 (KAFKA-3160).
func (u *Upconverter) fixLZ4(frame []byte) []byte {
	const magicLen = 4
	if len(frame) < magicLen+3 {
		return frame
	}
	at := magicLen + 2
	if frame[magicLen]&0x08 != 0 { // content size
		at += 8
	}
	if frame[magicLen]&0x01 != 0 { // dictionary id
		at += 4
	}
	if at >= len(frame) {
		return frame
	}
	u.fixed = append(u.fixed[:0], frame...)
	u.fixed[at] = byte(shortXXH32(frame[magicLen:at]) >> 8)
	return u.fixed
}

// shortXXH32 is xxHash32 with seed 0 of fewer than 16 bytes.
func shortXXH32(p []byte) uint32 {
	const prime1, prime2, prime3, prime4, prime5 = 0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f, 0x165667b1
	h := prime5 + uint32(len(p))
	for ; len(p) >= 4; p = p[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(p)*prime3, 17) * prime4
	}
	for _, c := range p {
		h = bits.RotateLeft32(h+uint32(c)*prime5, 11) * prime1
	}
	h ^= h >> 15
	h *= prime2
	h ^= h >> 13
	h *= prime3
	return h ^ h>>16
}
