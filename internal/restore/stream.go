package restore

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// Names of the headers that carry a record's place in the source, as decimal
// text.
const (
	HeaderOffset    = "x-kafka-backup-offset"
	HeaderTimestamp = "x-kafka-backup-timestamp"
	HeaderPartition = "x-kafka-backup-partition"
)

// memory bounds the bytes of blocks that are read and not yet acknowledged.
type memory struct {
	budget *semaphore.Weighted
	limit  int64
}

func newMemory(limit int64) *memory { return &memory{semaphore.NewWeighted(limit), limit} }

// buffers are reused from block to block.
var buffers = sync.Pool{New: func() any { return new(repository.Buffer) }}

// shape is how batches are made ready for the target.
type shape struct {
	headers  bool // add the original-offset headers
	maxBatch int  // the target topic's max.message.bytes
	join     int  // bytes up to which small batches are joined
}

// stream is a transfer.Stream: what goes into a target partition that is the
// copy of a source partition. A goroutine reads ahead, as far as memory allows.
type stream struct {
	src    *source
	shape  shape
	memory *memory

	ctx   context.Context // the stream's; its end closes the stream
	stop  context.CancelFunc
	loads chan item
}

func copyStream(src *source, sh shape, mem *memory) *stream {
	return &stream{src: src, shape: sh, memory: mem}
}

// open sets the context whose end closes the stream.
func (s *stream) open(ctx context.Context) (transfer.Stream, error) {
	s.ctx = ctx
	return s, nil
}

// seekMemory is what seeking takes: a block, stored and decompressed, in most
// cases.
const seekMemory = 2 << 20

type item struct {
	load transfer.Load
	err  error
}

// ahead is how many batches of a partition are made ready before they can be
// sent; memory bounds them too.
const ahead = 16

// Seek implements transfer.Stream.
func (s *stream) Seek(ctx context.Context, rank int64) error {
	s.halt()
	// Where a time window cuts, seeking reads blocks, and all partitions of a
	// part begin at once.
	size := min(seekMemory, s.memory.limit)
	if err := s.memory.budget.Acquire(ctx, size); err != nil {
		return err
	}
	at, skip, err := s.src.seek(ctx, rank)
	s.memory.budget.Release(size)
	if err != nil {
		return err
	}
	r := &reader{stream: s, rank: rank, skip: skip}
	rctx, cancel := context.WithCancel(s.ctx)
	s.stop, s.loads = cancel, make(chan item, ahead)
	r.out = s.loads
	go func() {
		defer close(r.out)
		if err := r.copy(rctx, at); err != nil {
			select {
			case r.out <- item{err: err}:
			case <-rctx.Done():
			}
		}
	}()
	return nil
}

// halt ends the reading ahead, and gives back what it holds.
func (s *stream) halt() {
	if s.stop == nil {
		return
	}
	s.stop()
	for i := range s.loads {
		if i.load.Release != nil {
			i.load.Release(true)
		}
	}
}

// Next implements transfer.Stream.
func (s *stream) Next(ctx context.Context) (transfer.Load, error) {
	select {
	case i, ok := <-s.loads:
		if !ok {
			if err := s.ctx.Err(); err != nil {
				return transfer.Load{}, err
			}
			return transfer.Load{}, io.EOF
		}
		return i.load, i.err
	case <-ctx.Done():
		return transfer.Load{}, ctx.Err()
	}
}

// reader makes loads out of blocks.
type reader struct {
	*stream
	out  chan item
	rank int64 // of the next record that is sent
	skip int64 // restored records that are not sent again

	rewriter *recordbatch.Rewriter
	pending  int // bytes of source batches that the rewriter holds
}

// copy reads a source from a place to its end.
func (r *reader) copy(ctx context.Context, at place) error {
	for i := at.slice; i < len(r.src.slices); i++ {
		if r.src.rule.ofSlice(&r.src.slices[i]) == none {
			continue
		}
		seg, blocks, err := r.src.blocks(ctx, i)
		if err != nil {
			return err
		}
		first := 0
		if i == at.slice {
			first = at.block
		}
		for j := first; j < len(blocks); j++ {
			if r.src.rule.ofBlock(&blocks[j]) == none {
				continue
			}
			if err := r.block(ctx, seg, &blocks[j]); err != nil {
				return err
			}
		}
	}
	return r.flush(ctx, nil)
}

// held is a block in memory: it is let go when the reader and every load that
// came of it are done with it.
type held struct {
	users  atomic.Int32
	dirty  atomic.Bool // somebody may still read it
	buf    *repository.Buffer
	size   int64
	memory *memory
}

func (h *held) release(clean bool) {
	if !clean {
		h.dirty.Store(true)
	}
	if h.users.Add(-1) > 0 {
		return
	}
	if !h.dirty.Load() {
		buffers.Put(h.buf)
	}
	h.memory.budget.Release(h.size)
}

// readHeld reads a block into memory, of which it takes as much as there is
// when the block is larger. It has one user.
func readHeld(ctx context.Context, src *source, seg *repository.Segment, b *repository.Block, mem *memory) (*held, []byte, error) {
	h := &held{buf: buffers.Get().(*repository.Buffer), memory: mem, size: min(b.RawLength+b.Length, mem.limit)}
	if b.Codec == repository.CodecNone {
		h.size = min(b.RawLength, mem.limit)
	}
	if err := mem.budget.Acquire(ctx, h.size); err != nil {
		return nil, nil, err
	}
	h.users.Store(1)
	raw, err := src.reader.Read(ctx, seg, *b, h.buf)
	if err != nil {
		h.release(true)
		return nil, nil, err
	}
	return h, raw, nil
}

func (r *reader) block(ctx context.Context, seg *repository.Segment, b *repository.Block) error {
	h, raw, err := readHeld(ctx, r.src, seg, b, r.memory)
	if err != nil {
		return err
	}
	defer h.release(true)
	whole := r.src.rule.ofBlock(b) == all
	return batches(seg, raw, func(batch recordbatch.Batch) error {
		share := all
		if !whole {
			share = r.src.rule.ofBatch(batch)
		}
		n := int64(batch.NumRecords())
		switch {
		case share == none:
			return nil
		case share == all && r.skip >= n:
			r.skip -= n
			return nil
		case share == all && r.skip == 0 && r.raw(batch):
			if err := r.flush(ctx, h); err != nil {
				return err
			}
			return r.emit(ctx, h, batch)
		}
		if err := batch.Verify(); err != nil {
			return fmt.Errorf("segment %s: topic %q partition %d: %w", seg.Ref.Key, r.src.tp.Topic, r.src.tp.Partition, err)
		}
		return r.rewrite(ctx, h, batch, share)
	})
}

// Batches smaller than these are joined: a broker takes one batch for a
// partition in a request, so that each tiny one would cost a round trip. To
// join compressed batches costs more than to join others.
const (
	smallRaw        = 32 << 10
	smallCompressed = 4 << 10
)

// raw tells whether a batch can be sent as it is.
func (r *reader) raw(b recordbatch.Batch) bool {
	small := smallRaw
	if b.Codec() != recordbatch.None {
		small = smallCompressed
	}
	return b.Dense() && !b.IsLogAppendTime() && !r.shape.headers && len(b) <= r.shape.maxBatch && len(b) >= small
}

// rewrite takes a batch's records into the rewriter.
func (r *reader) rewrite(ctx context.Context, h *held, b recordbatch.Batch, share share) (err error) {
	if r.rewriter == nil {
		r.rewriter, err = recordbatch.NewRewriter(recordbatch.RewriterConfig{MaxBatchBytes: r.shape.maxBatch})
		if err != nil {
			return err
		}
	}
	var made []byte
	if share == all && !r.shape.headers {
		made, err = r.rewriter.Concat(nil, b, int(r.skip))
		r.skip = 0
	} else {
		made, err = r.rewriter.Rewrite(nil, b, r.change())
	}
	if err != nil {
		return fmt.Errorf("topic %q partition %d: %w", r.src.tp.Topic, r.src.tp.Partition, err)
	}
	r.pending += len(b)
	if err := r.emitMade(ctx, h, made); err != nil {
		return err
	}
	if r.pending >= r.shape.join {
		return r.flush(ctx, h)
	}
	return nil
}

// change is the rewriter's function for records: those that are not restored,
// or were sent before, are dropped, and headers are added.
func (r *reader) change() func(*recordbatch.Record) (bool, error) {
	origin := newOrigin(r.src)
	return func(rec *recordbatch.Record) (bool, error) {
		if !r.src.rule.takes(rec) {
			return false, nil
		}
		if r.skip > 0 {
			r.skip--
			return false, nil
		}
		if r.shape.headers {
			origin.add(rec)
		}
		return true, nil
	}
}

// origin adds the original-offset headers to the records of a source.
type origin struct {
	names     [3][]byte
	partition int64
	text      [64]byte
}

func newOrigin(src *source) *origin {
	return &origin{names: [3][]byte{[]byte(HeaderOffset), []byte(HeaderTimestamp), []byte(HeaderPartition)}, partition: int64(src.tp.Partition)}
}

// add adds the headers; they are good until it is called again.
func (o *origin) add(rec *recordbatch.Record) {
	b := o.text[:0]
	for i, v := range [3]int64{rec.Offset, rec.Timestamp, o.partition} {
		from := len(b)
		b = strconv.AppendInt(b, v, 10)
		rec.Headers = append(rec.Headers, recordbatch.Header{Key: o.names[i], Value: b[from:len(b):len(b)]})
	}
}

// flush sends what the rewriter holds.
func (r *reader) flush(ctx context.Context, h *held) error {
	if r.rewriter == nil || r.rewriter.Pending() == 0 {
		return nil
	}
	made, err := r.rewriter.Flush(nil)
	if err != nil {
		return fmt.Errorf("topic %q partition %d: %w", r.src.tp.Topic, r.src.tp.Partition, err)
	}
	r.pending = 0
	return r.emitMade(ctx, h, made)
}

// emitMade emits the batches that the rewriter made.
func (r *reader) emitMade(ctx context.Context, h *held, made []byte) error {
	for len(made) > 0 {
		b, rest, err := recordbatch.Next(made)
		if err != nil {
			return err
		}
		if err := r.emit(ctx, h, b); err != nil {
			return err
		}
		made = rest
	}
	return nil
}

// emit hands a batch on. It counts for the memory of the block it came of;
// nil is none.
func (r *reader) emit(ctx context.Context, h *held, b recordbatch.Batch) error {
	load := transfer.Load{Batch: b, Rank: r.rank}
	if h != nil {
		h.users.Add(1)
		load.Release = h.release
	}
	select {
	case r.out <- item{load: load}:
		r.rank += int64(b.NumRecords())
		return nil
	case <-ctx.Done():
		if h != nil {
			h.release(true)
		}
		return ctx.Err()
	}
}
