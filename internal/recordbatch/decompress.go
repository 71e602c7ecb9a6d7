package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

var errDecompressedSize = errors.New("decompressed size exceeds the limit")

// decompressor holds each codec's reader, made when first needed, and the
// buffer they all write to.
type decompressor struct {
	src     bytes.Reader
	gzip    *gzip.Reader
	lz4     *lz4.Reader
	zstd    *zstd.Decoder
	zstdMax int
	buf     []byte
}

// decompress unpacks src, at most limit bytes. The result is good until the
// next call.
func (d *decompressor) decompress(codec Codec, src []byte, limit int) (_ []byte, err error) {
	dst := d.buf[:0]
	switch codec {
	case Gzip:
		dst, err = d.readGzip(dst, src, limit)
	case Snappy:
		dst, err = decodeSnappy(dst, src, limit)
	case LZ4:
		dst, err = d.readLZ4(dst, src, limit)
	case Zstd:
		dst, err = d.readZstd(dst, src, limit)
	default:
		err = errors.New("unknown codec")
	}
	if cap(dst) > cap(d.buf) {
		d.buf = dst[:0]
	}
	return dst, err
}

func (d *decompressor) readGzip(dst, src []byte, limit int) (_ []byte, err error) {
	d.src.Reset(src)
	if d.gzip == nil {
		d.gzip, err = gzip.NewReader(&d.src)
	} else {
		err = d.gzip.Reset(&d.src)
	}
	if err != nil {
		return dst, err
	}
	return readAll(dst, d.gzip, limit)
}

func (d *decompressor) readLZ4(dst, src []byte, limit int) ([]byte, error) {
	d.src.Reset(src)
	if d.lz4 == nil {
		d.lz4 = lz4.NewReader(nil)
		if err := d.lz4.Apply(lz4.ConcurrencyOption(1)); err != nil {
			return dst, err
		}
	}
	d.lz4.Reset(&d.src)
	return readAll(dst, d.lz4, limit)
}

func (d *decompressor) readZstd(dst, src []byte, limit int) (_ []byte, err error) {
	if d.zstd == nil || d.zstdMax != limit {
		d.zstdMax = limit
		d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(uint64(limit)))
		if err != nil {
			return dst, err
		}
	}
	dst, err = d.zstd.DecodeAll(src, dst)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = errDecompressedSize
	}
	return dst, err
}

// readAll appends what r gives to dst, at most limit bytes in all.
func readAll(dst []byte, r io.Reader, limit int) ([]byte, error) {
	const chunk = 64 << 10
	for {
		if cap(dst)-len(dst) < chunk {
			dst = slices.Grow(dst, max(chunk, len(dst)))
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > limit:
			return dst, errDecompressedSize
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, err
		}
	}
}

// xerialMagic begins snappy data as snappy-java, and so Kafka's Java clients,
// frame it: magic, two int32 versions, then blocks, each an int32 length and
// raw snappy. Other clients send one raw snappy block.
const (
	xerialMagic     = "\x82SNAPPY\x00"
	xerialHeader    = xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01"
	xerialBlockSize = 32 << 10 // as snappy-java writes
)

func decodeSnappy(dst, src []byte, limit int) (_ []byte, err error) {
	if !bytes.HasPrefix(src, []byte(xerialMagic)) {
		return snappyBlock(dst, src, limit)
	}
	for len(src) > 0 {
		// The header may come again: snappy-java reads concatenated streams.
		if bytes.HasPrefix(src, []byte(xerialMagic)) {
			if len(src) < len(xerialHeader) {
				return dst, io.ErrUnexpectedEOF
			}
			src = src[len(xerialHeader):]
			continue
		}
		if len(src) < 4 {
			return dst, io.ErrUnexpectedEOF
		}
		n := int64(binary.BigEndian.Uint32(src))
		if src = src[4:]; n > int64(len(src)) {
			return dst, fmt.Errorf("snappy block of %d bytes, %d are left", n, len(src))
		}
		if dst, err = snappyBlock(dst, src[:n], limit); err != nil {
			return dst, err
		}
		src = src[n:]
	}
	return dst, nil
}

func snappyBlock(dst, src []byte, limit int) ([]byte, error) {
	n, err := snappy.DecodedLen(src)
	if err != nil {
		return dst, err
	}
	if n > limit-len(dst) {
		return dst, errDecompressedSize
	}
	dst = slices.Grow(dst, n)
	if _, err = snappy.Decode(dst[len(dst):len(dst)+n], src); err != nil {
		return dst, err
	}
	return dst[:len(dst)+n], nil
}
