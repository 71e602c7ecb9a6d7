package recordbatch

import "fmt"

// Codec is a batch's compression, as in the lowest three attribute bits.
type Codec uint8

// The codecs of the protocol (KIP-110 added zstd).
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// String is the codec's name as in Kafka's compression.type.
func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// ParseCodec finds a codec by the name Kafka's compression.type gives it. For
// "producer", "uncompressed" and anything else it tells false.
func ParseCodec(name string) (Codec, bool) {
	for c, n := range codecNames {
		if n == name {
			return Codec(c), true
		}
	}
	return None, false
}
