package repository

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Codec says how a block is stored.
type Codec string

const (
	// CodecNone: as it is.
	CodecNone Codec = "none"
	// CodecZstd: one zstd frame (RFC 8878).
	CodecZstd Codec = "zstd"
)

// ParseCodec returns the codec of that name; empty means CodecZstd.
func ParseCodec(name string) (Codec, error) {
	switch c := Codec(name); c {
	case "":
		return CodecZstd, nil
	case CodecNone, CodecZstd:
		return c, nil
	}
	return "", fmt.Errorf("compression %q is not known: use %q or %q", name, CodecZstd, CodecNone)
}

// Level is how hard zstd tries, 1 to 4; 0 means 1. Higher levels cost CPU and memory:
// 1 fastest, 2 default, 3 better, 4 best.
type Level int

// MaxBlockLength bounds the raw bytes of a block. Readers refuse larger ones.
const MaxBlockLength = 1 << 30

// MaxIndexLength bounds the decompressed bytes of a segment's index, an index shard or a groups capture.
const MaxIndexLength = 1 << 30

// window is how far back zstd looks. It bounds the memory of each encoder to about 1 MB at level 1,
// and a block is seldom much larger.
const window = 512 << 10

// EncodedBlock is the stored form of a block. Release it when it has been appended.
type EncodedBlock struct {
	// Stored are the bytes to store, in order. With CodecNone they are the caller's own slices.
	Stored [][]byte
	// Codec that was used: CodecNone when compression did not help.
	Codec Codec
	// RawLength and Length in bytes, before and after.
	RawLength, Length int64
	// SHA256 of the stored bytes.
	SHA256 Digest

	buffer *[]byte
	single [1][]byte
}

// Release gives the block's memory back. Stored must not be used afterwards.
func (e *EncodedBlock) Release() {
	if e.buffer != nil {
		buffers.Put(e.buffer)
		e.buffer, e.Stored, e.single[0] = nil, nil, nil
	}
}

// EncodeBlock compresses and hashes the concatenation of raw, which must be whole record batches.
// It is a pure function and may run in many goroutines; raw must stay as it is until the result has
// been appended to a segment.
func EncodeBlock(codec Codec, level Level, raw ...[]byte) (*EncodedBlock, error) {
	e := &EncodedBlock{Codec: CodecNone, Stored: raw}
	for _, p := range raw {
		e.RawLength += int64(len(p))
	}
	if e.RawLength == 0 || e.RawLength > MaxBlockLength {
		return nil, fmt.Errorf("encode block: %d bytes, a block has 1 to %d", e.RawLength, MaxBlockLength)
	}
	if codec != CodecNone {
		if err := e.compress(level); err != nil {
			return nil, fmt.Errorf("encode block: %w", err)
		}
	}
	hash := sha256.New()
	e.Length = 0
	for _, p := range e.Stored {
		e.Length += int64(len(p))
		hash.Write(p)
	}
	hash.Sum(e.SHA256[:0])
	return e, nil
}

func (e *EncodedBlock) compress(level Level) error {
	encoder, put, err := encoderOf(level)
	if err != nil {
		return err
	}
	defer put()
	src := e.Stored[0]
	if len(e.Stored) > 1 {
		joined := getBuffer(int(e.RawLength))
		defer buffers.Put(joined)
		for _, p := range e.Stored {
			*joined = append(*joined, p...)
		}
		src = *joined
	}
	// What does not fit in the space of the raw bytes is not worth storing.
	out := getBuffer(int(e.RawLength))
	*out = encoder.EncodeAll(src, *out)
	if int64(len(*out)) >= e.RawLength {
		buffers.Put(out)
		return nil
	}
	e.buffer, e.Codec = out, CodecZstd
	e.single[0] = *out
	e.Stored = e.single[:]
	return nil
}

// buffers are reused between blocks.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// getBuffer returns an empty buffer with room for n bytes.
func getBuffer(n int) *[]byte {
	b := buffers.Get().(*[]byte)
	if cap(*b) < n {
		*b = make([]byte, 0, n)
	}
	*b = (*b)[:0]
	return b
}

// encoders and decoders keep their state between blocks: making one costs more than a small block.
// The lists hold no more than can run at once, and are never dropped by the garbage collector.
var (
	encoders [5]chan *zstd.Encoder
	decoders = make(chan *zstd.Decoder, runtime.GOMAXPROCS(0))
)

func init() {
	for i := range encoders {
		encoders[i] = make(chan *zstd.Encoder, runtime.GOMAXPROCS(0))
	}
}

func encoderOf(level Level) (encoder *zstd.Encoder, put func(), err error) {
	if level == 0 {
		level = 1
	}
	if level < 1 || level > 4 {
		return nil, nil, fmt.Errorf("compression level %d is not between 1 and 4", level)
	}
	list := encoders[level]
	select {
	case encoder = <-list:
	default:
		encoder, err = zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.EncoderLevel(level)),
			zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(window),
			zstd.WithLowerEncoderMem(true),
			zstd.WithEncoderCRC(false), // SHA-256 covers the stored bytes
		)
		if err != nil {
			return nil, nil, err
		}
	}
	return encoder, func() {
		select {
		case list <- encoder:
		default:
		}
	}, nil
}

func decoder() (d *zstd.Decoder, put func(), err error) {
	select {
	case d = <-decoders:
	default:
		d, err = zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(MaxBlockLength),
			zstd.WithDecodeAllCapLimit(true),
		)
		if err != nil {
			return nil, nil, err
		}
	}
	return d, func() {
		select {
		case decoders <- d:
		default:
		}
	}, nil
}

// decompress decodes one zstd frame of exactly rawLength bytes into buf's space, which it enlarges
// when it must.
func decompress(stored, buf []byte, rawLength int) ([]byte, error) {
	d, put, err := decoder()
	if err != nil {
		return nil, err
	}
	defer put()
	if cap(buf) < rawLength {
		buf = make([]byte, 0, rawLength)
	}
	raw, err := d.DecodeAll(stored, buf[:0:rawLength])
	if err != nil {
		return nil, err
	}
	if len(raw) != rawLength {
		return nil, fmt.Errorf("it decompresses to %d bytes instead of %d", len(raw), rawLength)
	}
	return raw, nil
}

// packJSON is compact JSON in one zstd frame with a content checksum and content size.
func packJSON(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	encoder, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(window),
		zstd.WithSingleSegment(len(data) < 1<<10)) // else a small frame does not say its size
	if err != nil {
		return nil, err
	}
	defer encoder.Close()
	return encoder.EncodeAll(data, nil), nil
}

// unpackJSON is the reverse of packJSON; key is for the error, a *CorruptError.
func unpackJSON(key string, data []byte, v any) error {
	var header zstd.Header
	if err := header.Decode(data); err != nil || !header.HasFCS {
		return &CorruptError{Key: key, Detail: "it is not a zstd frame that says its size"}
	}
	if header.FrameContentSize > MaxIndexLength {
		return &CorruptError{Key: key, Detail: "decompressed size", Want: "at most " + strconv.Itoa(MaxIndexLength), Got: strconv.FormatUint(header.FrameContentSize, 10)}
	}
	raw, err := decompress(data, nil, int(header.FrameContentSize))
	if err != nil {
		return &CorruptError{Key: key, Detail: "zstd: " + err.Error()}
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return &CorruptError{Key: key, Detail: "JSON: " + err.Error()}
	}
	return nil
}
