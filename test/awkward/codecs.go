package awkward

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"math/rand/v2"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
)

// codecs are all codecs of the v2 record batch, by the name that Kafka gives them.
var codecs = []struct {
	Name  string
	Codec kgo.CompressionCodec
}{
	{"none", kgo.NoCompression()},
	{"gzip", kgo.GzipCompression()},
	{"snappy", kgo.SnappyCompression()},
	{"lz4", kgo.Lz4Compression()},
	{"zstd", kgo.ZstdCompression()},
}

// Codecs makes a topic of two partitions for each codec, each partition with
// batches from one record to hundreds.
func (m *Maker) Codecs(ctx context.Context) ([]*Topic, error) {
	var topics []*Topic
	for _, c := range codecs {
		t, err := m.create(ctx, m.Prefix+"codec-"+c.Name, 2)
		if err != nil {
			return nil, err
		}
		if err := m.batches(ctx, t, c.Name, 2, kgo.ProducerBatchCompression(c.Codec)); err != nil {
			return nil, err
		}
		topics = append(topics, t)
	}
	return topics, nil
}

// batches adds batches of several sizes to the first partitions of t.
func (m *Maker) batches(ctx context.Context, t *Topic, label string, partitions int32, opts ...kgo.Opt) error {
	cl, err := m.producer(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for _, size := range []int{1, 300, 7, 100} {
		for p := range partitions {
			if err := t.add(ctx, cl, plain(p, label, size)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// MixedCodecs makes a partition whose batches change the codec from one to the
// next, each codec twice and from a producer id of its own.
func (m *Maker) MixedCodecs(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"codecs-mixed", 1)
	if err != nil {
		return nil, err
	}
	for range 2 {
		for _, c := range codecs {
			if err := m.batches(ctx, t, c.Name, 1, kgo.ProducerBatchCompression(c.Codec)); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// OddFrames makes a partition of batches that are compressed the way other
// clients do it: snappy in the Java client's framing, gzip of several members,
// zstd of several frames.
func (m *Maker) OddFrames(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"odd-frames", 1)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		label string
		with  compressor
	}{
		{"java-snappy", javaSnappy}, {"gzip-members", gzipMembers}, {"zstd-frames", zstdFrames},
	} {
		if err := m.batches(ctx, t, c.label, 1, kgo.WithCompressor(c.with)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// compressor is a kgo.Compressor made of a function.
type compressor func(src []byte) ([]byte, kgo.CompressionCodecType)

// Compress implements kgo.Compressor.
func (c compressor) Compress(_ *bytes.Buffer, src []byte, _ ...kgo.CompressFlag) ([]byte, kgo.CompressionCodecType) {
	return c(src)
}

// javaSnappy frames blocks of 32 KiB as snappy-java's SnappyOutputStream does:
// magic, version 1, compatible version 1, then each block with its length.
func javaSnappy(src []byte) ([]byte, kgo.CompressionCodecType) {
	out := []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1}
	for len(src) > 0 {
		n := min(len(src), 32<<10)
		block := snappy.Encode(nil, src[:n])
		out = binary.BigEndian.AppendUint32(out, uint32(len(block)))
		out = append(out, block...)
		src = src[n:]
	}
	return out, kgo.CodecSnappy
}

func gzipMembers(src []byte) ([]byte, kgo.CompressionCodecType) {
	var out bytes.Buffer
	for _, part := range [][]byte{src[:len(src)/2], src[len(src)/2:]} {
		w := gzip.NewWriter(&out)
		_, _ = w.Write(part) // a bytes.Buffer does not fail
		_ = w.Close()
	}
	return out.Bytes(), kgo.CodecGzip
}

func zstdFrames(src []byte) ([]byte, kgo.CompressionCodecType) {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		return src, kgo.CodecNone
	}
	defer w.Close()
	return w.EncodeAll(src[len(src)/2:], w.EncodeAll(src[:len(src)/2], nil)), kgo.CodecZstd
}

// Default of a topic's max.message.bytes, which bounds the whole record batch.
const defaultMaxMessageBytes = 1048588

// batchOverhead is what a v2 batch of one record with a null key, no headers and
// a value of about 1 MB has beside the value: 61 of the batch's header, 3 of the
// record's length, 8 of its fields.
const batchOverhead = 61 + 3 + 8

// Large makes a partition with batches of exactly max.message.bytes, at its
// default, between small ones.
func (m *Maker) Large(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"large", 1)
	if err != nil {
		return nil, err
	}
	return t, m.around(ctx, t, noise(defaultMaxMessageBytes-batchOverhead))
}

// LargerThanDefault makes a partition with records of 5 MiB in a topic whose
// max.message.bytes is 6 MiB: a target needs the configuration too.
func (m *Maker) LargerThanDefault(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"larger-than-default", 1, "max.message.bytes", "6291456")
	if err != nil {
		return nil, err
	}
	return t, m.around(ctx, t, noise(5<<20))
}

// Inflated makes a partition with records of 4 MiB that are small on the wire
// only: compressed they pass a max.message.bytes of 1 MiB.
func (m *Maker) Inflated(ctx context.Context) (*Topic, error) {
	t, err := m.create(ctx, m.Prefix+"inflated", 1)
	if err != nil {
		return nil, err
	}
	return t, m.around(ctx, t, make([]byte, 4<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
}

// around adds small batches and between them, three times, one with value alone.
func (m *Maker) around(ctx context.Context, t *Topic, value []byte, opts ...kgo.Opt) error {
	cl, err := m.producer(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for range 3 {
		if err := t.add(ctx, cl, plain(0, "small", 5)...); err != nil {
			return err
		}
		if err := t.add(ctx, cl, &kgo.Record{Value: value, Timestamp: epoch}); err != nil {
			return err
		}
	}
	return t.add(ctx, cl, plain(0, "last", 5)...)
}

// noise gives n bytes that do not compress and are the same in every run.
func noise(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}
