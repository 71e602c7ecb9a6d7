package recordbatch

import "fmt"

// RewriterConfig says how a [Rewriter] makes batches.
type RewriterConfig struct {
	// Codec of the output; nil keeps each source batch's own.
	Codec *Codec
	// Level is the compression level for Codec; it must be 0 without one.
	Level int

	MaxBatchBytes int // as in EncoderConfig
	MaxRecords    int // as in EncoderConfig
	MaxRawBytes   int // as in EncoderConfig

	// MaxSourceBytes bounds the decompressed size of a source batch, as
	// Decoder.MaxBytes does.
	MaxSourceBytes int
}

// Rewriter makes batches into other batches: it joins small ones, cuts,
// filters and changes records, and closes offset gaps. It collects records
// over many source batches; the output is dense CreateTime batches as large as
// the limits allow, with each record's effective timestamp. The records come
// out in the order they went in, so the output is a pure function of the
// input; where one batch ends and the next begins is not fixed.
//
// Not for concurrent use. Several rewriters may work on shared source batches.
type Rewriter struct {
	config   RewriterConfig
	decoder  Decoder
	encoders [Zstd + 1]*Encoder
	pending  *Encoder // the one that has records, or nil
}

// NewRewriter makes a rewriter; the error is about the configuration.
func NewRewriter(config RewriterConfig) (*Rewriter, error) {
	w := &Rewriter{config: config, decoder: Decoder{MaxBytes: config.MaxSourceBytes}}
	codec := None
	if config.Codec != nil {
		codec = *config.Codec
	} else if config.Level != 0 {
		return nil, fmt.Errorf("compression level %d without a codec", config.Level)
	}
	if _, err := w.encoder(codec); err != nil {
		return nil, err
	}
	return w, nil
}

// Pending is the number of records taken in but not written yet.
func (w *Rewriter) Pending() int {
	if w.pending == nil {
		return 0
	}
	return w.pending.Len()
}

// Flush appends what is pending to dst. Errors as in [Encoder.Flush].
func (w *Rewriter) Flush(dst []byte) ([]byte, error) {
	if w.pending == nil {
		return dst, nil
	}
	e := w.pending
	w.pending = nil
	return e.Flush(dst)
}

// Concat takes in b's records except the first skip, unchanged, and appends
// the batches that became full to dst. It copies records without taking them
// apart. Call Flush after the last one. skip beyond the batch takes in none.
func (w *Rewriter) Concat(dst []byte, b Batch, skip int) ([]byte, error) {
	dst, err := w.prepare(dst, b)
	if err != nil {
		return dst, err
	}
	records, err := w.decoder.open(b)
	if err != nil {
		return dst, err
	}
	e := w.pending
	var r rawRecord
	for {
		ok, err := records.next(&r)
		if !ok {
			return dst, err
		}
		if skip--; skip >= 0 || e.appendRaw(&r) {
			continue
		}
		if dst, err = e.Flush(dst); err != nil {
			return dst, err
		}
		e.appendRaw(&r)
	}
}

// Rewrite takes in those of b's records for which fn tells true, as fn leaves
// them, and appends the batches that became full to dst. Call Flush after the
// last batch.
//
// fn may set the record's fields, replace its slices and append to Headers,
// but must not write into the bytes they point to: those may be b's own. What
// it puts in is copied before fn is called again. Offset is the source offset
// and is used for errors only. fn's error ends the walk and is returned as it
// is; records taken in before stay pending. [Stop] ends the walk without an
// error.
func (w *Rewriter) Rewrite(dst []byte, b Batch, fn func(*Record) (keep bool, err error)) ([]byte, error) {
	dst, err := w.prepare(dst, b)
	if err != nil {
		return dst, err
	}
	e := w.pending
	err = w.decoder.Records(b, func(r *Record) error {
		keep, err := fn(r)
		if err != nil || !keep || e.Append(r) {
			return err
		}
		if dst, err = e.Flush(dst); err == nil {
			e.Append(r)
		}
		return err
	})
	return dst, err
}

// prepare makes the encoder for b's codec the pending one and flushes another.
func (w *Rewriter) prepare(dst []byte, b Batch) ([]byte, error) {
	codec := b.Codec()
	if w.config.Codec != nil {
		codec = *w.config.Codec
	}
	e, err := w.encoder(codec)
	if err != nil {
		return dst, &CorruptError{Offset: b.BaseOffset(), Reason: "header", Err: err}
	}
	if w.pending != e {
		if dst, err = w.Flush(dst); err != nil {
			return dst, err
		}
		w.pending = e
	}
	return dst, nil
}

func (w *Rewriter) encoder(codec Codec) (_ *Encoder, err error) {
	if int(codec) >= len(w.encoders) {
		return nil, fmt.Errorf("unknown codec %d", codec)
	}
	if w.encoders[codec] == nil {
		w.encoders[codec], err = NewEncoder(EncoderConfig{
			Codec: codec, Level: w.config.Level,
			MaxBatchBytes: w.config.MaxBatchBytes, MaxRecords: w.config.MaxRecords, MaxRawBytes: w.config.MaxRawBytes,
		})
	}
	return w.encoders[codec], err
}
