package recordbatch

import "errors"

// DefaultMaxBytes is the largest decompressed size of a batch that a
// [Decoder] accepts when it is not told otherwise: 256 MiB.
const DefaultMaxBytes = 256 << 20

// Stop, returned by a callback of [Decoder.Records], ends the walk without an
// error.
var Stop = errors.New("stop") //nolint:errname // a signal like io.EOF

// Decoder reads the records of batches. The zero value is ready; it keeps its
// buffers between batches, so keep the Decoder. Not for concurrent use.
type Decoder struct {
	// MaxBytes bounds the decompressed size of one batch in bytes, against a
	// small batch that unpacks into more than there is memory. 0 means
	// DefaultMaxBytes.
	MaxBytes int

	decompressor decompressor
	headers      []Header
	record       Record
	raw          rawRecord
}

// Records calls fn for each record of b in order. The record, and the bytes
// its slices point to, are good only until fn returns. fn may set the record's
// fields and append to Headers, but must not write into the bytes: those of an
// uncompressed batch are b's own. fn's error ends the walk and is returned as
// it is; [Stop] ends it without one.
//
// The header's CRC is not checked (see [Batch.Verify]), but the structure is,
// as strictly as by the Java client: count, record lengths and the end must
// fit. The error for that is a [*CorruptError]; for a batch beyond MaxBytes a
// [*TooLargeError].
func (d *Decoder) Records(b Batch, fn func(*Record) error) error {
	records, err := d.open(b)
	if err != nil {
		return err
	}
	r := &d.record
	defer func() { *r = Record{} }()
	for {
		ok, err := records.next(&d.raw)
		if !ok {
			return err
		}
		r.Offset, r.Timestamp = d.raw.offset, d.raw.timestamp
		if d.headers, ok = parseBody(d.raw.body, r, d.headers); !ok {
			return corrupt(b.BaseOffset(), "record at offset %d cannot be read", r.Offset)
		}
		if err := fn(r); err != nil {
			if err == Stop {
				return nil
			}
			return err
		}
	}
}

// open decompresses b and begins a walk over its records.
func (d *Decoder) open(b Batch) (rawRecords, error) {
	p, err := d.payload(b)
	if err != nil {
		return rawRecords{}, err
	}
	count := int(b.NumRecords())
	if count < 0 || count > len(p) {
		return rawRecords{}, corrupt(b.BaseOffset(), "%d records in %d bytes", count, len(p))
	}
	return rawRecords{
		p: p, count: count,
		baseOffset:    b.BaseOffset(),
		baseTimestamp: b.BaseTimestamp(), maxTimestamp: b.MaxTimestamp(), logAppendTime: b.IsLogAppendTime(),
	}, nil
}

// payload gives b's records uncompressed: b's own bytes or the decoder's
// buffer, good until the next call.
func (d *Decoder) payload(b Batch) ([]byte, error) {
	if b.Codec() == None {
		return b.Payload(), nil
	}
	if b.NumRecords() == 0 && len(b.Payload()) == 0 {
		return nil, nil // emptied by compaction
	}
	p, err := d.decompressor.decompress(b.Codec(), b.Payload(), d.maxBytes())
	return p, d.explain(err, b.BaseOffset(), b.Codec())
}

func (d *Decoder) maxBytes() int {
	if d.MaxBytes > 0 {
		return d.MaxBytes
	}
	return DefaultMaxBytes
}

// explain turns a codec's error into one with the offset.
func (d *Decoder) explain(err error, offset int64, codec Codec) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errDecompressedSize):
		return &TooLargeError{Offset: offset, What: "decompressed record batch", Limit: d.maxBytes(), Hint: "raise the limit for decompressed batches"}
	default:
		return &CorruptError{Offset: offset, Reason: "cannot decompress " + codec.String(), Err: err}
	}
}
