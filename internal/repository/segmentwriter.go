package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// errAborted ends an upload that is not wanted any more.
var errAborted = errors.New("segment aborted")

// SegmentWriter streams one segment into the repository. Nothing of it is visible before Close
// returns nil. It holds the block table and what the storage driver buffers (256 KB on files, up to
// 45 MB on S3), never the segment: so a process keeps few of them open. One goroutine at a time may
// use it, which must end it with Close or Abort.
type SegmentWriter struct {
	repository *Repository
	index      SegmentIndex
	key        string
	positions  map[TopicPartition]int // in index.Partitions
	pipe       *io.PipeWriter
	size       int64
	err        error

	cancel context.CancelFunc
	done   chan struct{} // closed when the upload has ended
	failed error         // the upload's error; read it after done
	once   sync.Once
}

// NewSegment begins the segment SegmentKey(backupID, part, sequence). Cancelling ctx aborts it.
func (r *Repository) NewSegment(ctx context.Context, backupID string, part, sequence int) (*SegmentWriter, error) {
	if err := CheckID(backupID); err != nil {
		return nil, fmt.Errorf("new segment: %w", err)
	}
	if part < 0 || part >= MaxParts || sequence < 0 || sequence >= MaxSegments {
		return nil, fmt.Errorf("new segment: part %d, sequence %d: parts are 0 to %d, sequences 0 to %d", part, sequence, MaxParts-1, MaxSegments-1)
	}
	ctx, cancel := context.WithCancel(ctx)
	reader, pipe := io.Pipe()
	w := &SegmentWriter{
		repository: r,
		index:      SegmentIndex{BackupID: backupID, Part: part, Sequence: sequence},
		key:        SegmentKey(backupID, part, sequence),
		positions:  make(map[TopicPartition]int),
		pipe:       pipe,
		cancel:     cancel,
		done:       make(chan struct{}),
	}
	go func() {
		defer close(w.done)
		defer cancel()
		err := r.bucket.Upload(ctx, w.key, reader, writeOptions(typeBinary))
		if err == nil {
			// A driver that ends early without an error would have cut the segment.
			if n, _ := reader.Read(make([]byte, 1)); n > 0 {
				err = io.ErrShortWrite
			}
		}
		w.failed = r.refused(ctx, w.key, storageerr.Wrap(err, "write", w.key))
		if err == nil {
			err = io.ErrClosedPipe
		}
		reader.CloseWithError(err) // so that the writing side does not wait for ever
	}()
	context.AfterFunc(ctx, func() { reader.CloseWithError(context.Cause(ctx)) })
	w.write(segmentHeader)
	return w, nil
}

// Key of the segment.
func (w *SegmentWriter) Key() string { return w.key }

// Size is how many bytes have been appended so far, the header included.
func (w *SegmentWriter) Size() int64 { return w.size }

// Append appends a block: its stored bytes (EncodedBlock.Stored), of the length and hash that b
// says (Block.SetEncoded). Position is set here. Blocks of one topic partition come in ascending
// order of offsets. The stored bytes are not used after the return. ErrExists, as from Close, may
// come as soon as the store says so; after any error only Abort is of use.
func (w *SegmentWriter) Append(tp TopicPartition, b Block, stored ...[]byte) error {
	if w.err != nil {
		return w.err
	}
	if err := w.checkNext(tp, &b, stored); err != nil {
		w.err = fmt.Errorf("append to segment %q: topic %q partition %d: %w", w.key, tp.Topic, tp.Partition, err)
		return w.err
	}
	i, known := w.positions[tp]
	if !known {
		i = len(w.index.Partitions)
		w.positions[tp] = i
		w.index.Partitions = append(w.index.Partitions, SegmentPartition{TopicPartition: tp})
	}
	b.Position = w.size
	for _, p := range stored {
		if err := w.write(p); err != nil {
			return err
		}
	}
	w.index.Partitions[i].Blocks = append(w.index.Partitions[i].Blocks, b)
	return nil
}

func (w *SegmentWriter) checkNext(tp TopicPartition, b *Block, stored [][]byte) error {
	if err := b.check(); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	var n int64
	for _, p := range stored {
		n += int64(len(p))
	}
	if n != b.Length {
		return fmt.Errorf("block of length %d has %d bytes", b.Length, n)
	}
	if i, known := w.positions[tp]; known {
		before := w.index.Partitions[i].Blocks
		if last := before[len(before)-1].LastOffset; b.FirstOffset <= last {
			return fmt.Errorf("block begins at offset %d, the one before ended at %d", b.FirstOffset, last)
		}
	}
	return nil
}

func (w *SegmentWriter) write(p []byte) error {
	n, err := w.pipe.Write(p)
	w.size += int64(n)
	if err != nil {
		w.err = w.uploadError(err)
	}
	return w.err
}

// uploadError prefers the reason why the upload ended to the pipe's.
func (w *SegmentWriter) uploadError(err error) error {
	w.cancel()
	<-w.done
	if w.failed != nil {
		err = w.failed
	}
	return fmt.Errorf("write segment %q: %w", w.key, err)
}

// Close writes index and trailer and makes the segment visible. partitions says for each topic
// partition of the part that this segment brought forward how far it is now; it must name all that
// have blocks (their Blocks are ignored, the writer knows them).
//
// ErrExists when another attempt wrote this segment first (or this one, if the answer to a first try
// was lost): open it and go on from there.
func (w *SegmentWriter) Close(partitions []SegmentPartition) (SegmentRef, error) {
	ref, err := w.close(partitions)
	if err != nil {
		w.Abort()
		return SegmentRef{}, err
	}
	return ref, nil
}

func (w *SegmentWriter) close(partitions []SegmentPartition) (SegmentRef, error) {
	if w.err != nil {
		return SegmentRef{}, w.err
	}
	table := make([]SegmentPartition, len(partitions))
	withBlocks := 0
	for i, p := range partitions {
		p.Blocks = nil
		if at, known := w.positions[p.TopicPartition]; known {
			p.Blocks = w.index.Partitions[at].Blocks
			withBlocks++
		}
		table[i] = p
	}
	if withBlocks != len(w.positions) {
		return SegmentRef{}, fmt.Errorf("write segment %q: %d topic partitions have blocks, the table names %d of them", w.key, len(w.positions), withBlocks)
	}
	position := w.size
	w.index.Partitions = table
	if err := w.index.check(w.key, position); err != nil {
		return SegmentRef{}, fmt.Errorf("write segment: refusing to write what could not be read: %w", err)
	}
	index, err := packJSON(&w.index)
	if err != nil {
		return SegmentRef{}, fmt.Errorf("write segment %q: %w", w.key, err)
	}
	trailer, sum := encodeTrailer(position, index)
	if err := w.write(index); err != nil {
		return SegmentRef{}, err
	}
	if err := w.write(trailer); err != nil {
		return SegmentRef{}, err
	}
	w.pipe.Close()
	<-w.done
	if w.failed != nil {
		return SegmentRef{}, fmt.Errorf("write segment %q: %w", w.key, w.failed)
	}
	w.once.Do(func() {})
	w.err = fmt.Errorf("segment %q is closed", w.key)
	return SegmentRef{Key: w.key, Size: w.size, SHA256: sum}, nil
}

// Abort drops the segment and waits until its upload has ended; nothing stays behind. After Close
// it does nothing.
func (w *SegmentWriter) Abort() {
	w.once.Do(func() {
		// Cancel first: some drivers commit what they got when reading fails, unless cancelled.
		w.cancel()
		w.pipe.CloseWithError(errAborted)
		<-w.done
		if w.err == nil {
			w.err = fmt.Errorf("write segment %q: %w", w.key, errAborted)
		}
	})
}
