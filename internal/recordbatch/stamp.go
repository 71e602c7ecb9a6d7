package recordbatch

import (
	"encoding/binary"
	"hash/crc32"
)

// Stamp is what a produce request writes over a batch's header.
type Stamp struct {
	ProducerID    int64 // as InitProducerId gave it
	ProducerEpoch int16
	BaseSequence  int32 // sequence of the batch's first record, see Sequence
}

// Sequence is the sequence number of the record with the given rank: rank mod
// 2^31, the way a broker counts on (KIP-98). rank is 0 or more.
func Sequence(rank int64) int32 { return int32(rank & 0x7fffffff) }

// Stamp makes b ready for a produce request, in place: base offset 0, leader
// epoch -1, the producer id, epoch and base sequence given, and the
// transactional and delete-horizon bits off. It writes the header only and
// leaves the records alone.
//
// The CRC is not computed anew but moved along with the changed header bytes
// (CRC is linear), in time that does not depend on the batch's size. So a
// batch whose records were damaged before or after stays recognisable as
// damaged, and the broker refuses it.
//
// b must be memory of the caller's own: never stamp a batch inside a buffer
// that is also read or hashed elsewhere.
func (b Batch) Stamp(s Stamp) {
	before := crc32.Checksum(b[posAttributes:HeaderLen], castagnoli)
	binary.BigEndian.PutUint64(b, 0)
	binary.BigEndian.PutUint32(b[posLeaderEpoch:], 0xffffffff)
	b[posAttributes+1] &^= attrTransactional | attrDeleteHorizon
	binary.BigEndian.PutUint64(b[posProducerID:], uint64(s.ProducerID))
	binary.BigEndian.PutUint16(b[posProducerEpoch:], uint16(s.ProducerEpoch))
	binary.BigEndian.PutUint32(b[posBaseSequence:], uint32(s.BaseSequence))
	after := crc32.Checksum(b[posAttributes:HeaderLen], castagnoli)
	crc := b.CRC() ^ crcShift(before^after, len(b)-HeaderLen)
	binary.BigEndian.PutUint32(b[posCRC:], crc)
}

// crcShift is what a difference d in the CRC of some bytes becomes when n more
// bytes follow: d * x^(8n) modulo the Castagnoli polynomial, bits reflected.
// (crc(A'B) = crc(AB) xor shift(crc(A) xor crc(A'), len B).)
func crcShift(d uint32, n int) uint32 {
	for i := 0; n > 0; i, n = i+1, n>>8 {
		if digit := n & 0xff; digit != 0 {
			d = crcMul(crcPowers[i][digit], d)
		}
	}
	return d
}

const crcPoly = 0x82f63b78 // Castagnoli, reflected

// crcMul multiplies two polynomials modulo the Castagnoli polynomial. Bit 31
// is x^0.
func crcMul(a, b uint32) uint32 {
	var p uint32
	for ; a != 0; a <<= 1 {
		p ^= b & uint32(int32(a)>>31)
		b = b>>1 ^ crcPoly&-(b&1)
	}
	return p
}

// crcPowers[i][d] is x^(8 * d * 256^i): one factor for each base-256 digit of
// a length below 2^32.
var crcPowers = func() (t [4][256]uint32) {
	step := uint32(1) << (31 - 8) // x^8
	for i := range t {
		t[i][0] = 1 << 31 // x^0
		for d := 1; d < 256; d++ {
			t[i][d] = crcMul(t[i][d-1], step)
		}
		step = crcMul(t[i][255], step)
	}
	return t
}()
