package recordbatch

import "encoding/binary"

// KeyPartition is the partition, of n, that Apache Kafka's default partitioner
// gives a record with this key: murmur2 of the key, the sign bit cleared,
// modulo n. n is at least 1. For a null key (nil) there is no answer: it gives
// -1 and the caller decides. An empty key that is not nil is a key.
func KeyPartition(key []byte, n int32) int32 {
	if key == nil {
		return -1
	}
	return int32(murmur2(key)&0x7fffffff) % n
}

// murmur2 is org.apache.kafka.common.utils.Utils.murmur2.
func murmur2(key []byte) uint32 {
	const m = 0x5bd1e995
	h := 0x9747b28c ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := binary.LittleEndian.Uint32(key) * m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(key[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
