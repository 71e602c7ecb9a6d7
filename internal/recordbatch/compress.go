package recordbatch

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// compressor holds the codecs' writers, made when first needed.
type compressor struct {
	level int // of the codec in use; 0 is the codec's default
	out   appendWriter
	gzip  *gzip.Writer
	lz4   *lz4.Writer
	zstd  *zstd.Encoder
}

// compressors are as many as can run at once, however many encoders there are:
// zstd's takes some megabytes.
var compressors = make(chan *compressor, runtime.GOMAXPROCS(0))

func init() {
	for range cap(compressors) {
		compressors <- new(compressor)
	}
}

// takeCompressor waits for a compressor, which is to be put back.
func takeCompressor(level int) *compressor {
	c := <-compressors
	if c.level != level {
		*c = compressor{level: level}
	}
	return c
}

func (c *compressor) putBack() { compressors <- c }

// appendWriter collects what is written to it.
type appendWriter struct{ buf []byte }

func (w *appendWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	return len(p), nil
}

var lz4Levels = [...]lz4.CompressionLevel{
	lz4.Fast, lz4.Level1, lz4.Level2, lz4.Level3, lz4.Level4,
	lz4.Level5, lz4.Level6, lz4.Level7, lz4.Level8, lz4.Level9,
}

// checkLevel tells whether the codec knows the level; 0 is always its default.
func checkLevel(codec Codec, level int) error {
	highest := 0
	switch codec {
	case Gzip, LZ4:
		highest = 9
	case Zstd:
		highest = 22
	}
	if level < 0 || level > highest {
		return fmt.Errorf("compression level %d for %s: it goes from 0 (the default) to %d", level, codec, highest)
	}
	return nil
}

// append compresses src behind dst.
func (c *compressor) append(dst []byte, codec Codec, src []byte) (_ []byte, err error) {
	c.out.buf = dst
	defer func() { c.out.buf = nil }()
	switch codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		if c.gzip == nil {
			level := gzip.DefaultCompression
			if c.level > 0 {
				level = c.level
			}
			if c.gzip, err = gzip.NewWriterLevel(nil, level); err != nil {
				return dst, err
			}
		}
		c.gzip.Reset(&c.out)
		if _, err = c.gzip.Write(src); err == nil {
			err = c.gzip.Close()
		}
		return c.out.buf, err
	case Snappy:
		return appendXerial(dst, src), nil
	case LZ4:
		if c.lz4 == nil {
			// Independent blocks of 64 KiB without a content checksum: what
			// Kafka's Java producer writes and its reader requires.
			c.lz4 = lz4.NewWriter(nil)
			err = c.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.ConcurrencyOption(1), lz4.CompressionLevelOption(lz4Levels[c.level]))
			if err != nil {
				return dst, err
			}
		}
		c.lz4.Reset(&c.out)
		if _, err = c.lz4.Write(src); err == nil {
			err = c.lz4.Close()
		}
		return c.out.buf, err
	case Zstd:
		if c.zstd == nil {
			level := zstd.SpeedDefault
			if c.level > 0 {
				level = zstd.EncoderLevelFromZstd(c.level)
			}
			c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true), zstd.WithLowerEncoderMem(true))
			if err != nil {
				return dst, err
			}
		}
		return c.zstd.EncodeAll(src, dst), nil
	default:
		return dst, fmt.Errorf("unknown codec %d", codec)
	}
}

func appendXerial(dst, src []byte) []byte {
	dst = append(dst, xerialHeader...)
	for len(src) > 0 {
		n := min(xerialBlockSize, len(src))
		room := snappy.MaxEncodedLen(n)
		dst = slices.Grow(dst, 4+room)
		at := len(dst)
		block := snappy.Encode(dst[at+4:at+4+room], src[:n])
		binary.BigEndian.PutUint32(dst[at:at+4], uint32(len(block)))
		dst = dst[:at+4+len(block)]
		src = src[n:]
	}
	return dst
}
