package backup

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/telemetry"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// writer makes blocks of what is fetched and writes them into segments.
// Blocks are checked, compressed and hashed in as many goroutines as there
// are cores, and appended in the order in which they came.
type writer struct {
	c   *Copier
	r   *run
	ctx context.Context // of the segments; it outlives the operation's a little

	budget *semaphore.Weighted // bytes fetched and not yet written
	limit  int64
	order  chan *block // in order of arrival
	work   chan *block
	wg     sync.WaitGroup

	segment  *repository.SegmentWriter
	opened   time.Time
	closing  *closing // the segment before, nil for none
	abandon  bool     // do not close what is open: it is worth nothing
	bytes    int64
	reported time.Time
	err      error // read it after run has returned
	failed   chan struct{}
}

// block is a block in the making; one without batches only moves its
// partition on.
type block struct {
	p       *partition
	batches []recordbatch.Batch
	size    int64
	merged  bool // from earlier backups; all of these go into one segment

	meta    repository.Block
	encoded *repository.EncodedBlock
	err     error
	drop    bool          // it was given up
	ready   chan struct{} // closed when encoded, or given up

	// Of the chunk, carried by its last block.
	last    bool
	next    int64
	epoch   int32
	leftOut repository.LeftOut
	gap     *transfer.Gap
}

// inFlight is how many bytes may wait to be compressed and written, in
// multiples of one fetch answer.
const inFlight = 4

// lastWords is how long a segment may take to be closed once the operation
// was told to stop.
const lastWords = 15 * time.Second

func newWriter(ctx context.Context, c *Copier, r *run) *writer {
	limit := inFlight * int64(c.Options.FetchMaxBytes)
	w := &writer{
		c: c, r: r, limit: limit, budget: semaphore.NewWeighted(limit),
		order: make(chan *block, 256), work: make(chan *block, 256), failed: make(chan struct{}),
		bytes: r.bytes(),
	}
	// What is in hand is written also when the operation is told to stop.
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, cancel) })
	return w
}

// take is the fetch's sink: it cuts a chunk into blocks.
func (w *writer) take(ctx context.Context, c transfer.Chunk) error { return w.cut(ctx, c, false) }

// takeMerged is take for a chunk that comes from earlier backups.
func (w *writer) takeMerged(ctx context.Context, c transfer.Chunk) error { return w.cut(ctx, c, true) }

func (w *writer) cut(ctx context.Context, c transfer.Chunk, merged bool) error {
	p := w.r.partitions[c.Index]
	rest := c.Batches
	for {
		b := &block{p: p, merged: merged, ready: make(chan struct{})}
		n := 0
		for n < len(rest) && (n == 0 || b.size+int64(len(rest[n])) <= int64(w.c.Options.BlockMaxBytes)) {
			b.size += int64(len(rest[n]))
			n++
		}
		b.batches, rest = rest[:n], rest[n:]
		if len(rest) == 0 {
			b.last, b.next, b.epoch, b.gap = true, c.Next, c.LeaderEpoch, c.Gap
			b.leftOut = repository.LeftOut{AbortedBatches: c.AbortedBatches, AbortedRecords: c.AbortedRecords, ControlBatches: c.ControlBatches, Bytes: c.LeftOutBytes}
		}
		if err := w.budget.Acquire(ctx, w.share(b)); err != nil {
			return context.Cause(ctx)
		}
		if err := w.queue(ctx, b); err != nil || b.last {
			return err
		}
	}
}

// share is what a block takes of the budget, until it is appended or dropped:
// else who waits for the budget would wait for ever after a failure.
func (w *writer) share(b *block) int64 { return min(b.size, w.limit) }

// queue gives a block its place in the order and to the encoders. After an
// error the partition's fetch ends, so no later block of it comes.
func (w *writer) queue(ctx context.Context, b *block) error {
	for i, to := range []chan *block{w.order, w.work} {
		var err error
		select {
		case to <- b:
			continue
		case <-w.failed:
			err = w.err
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if b.drop = true; i == 0 {
			w.budget.Release(w.share(b))
		}
		close(b.ready)
		return err
	}
	return nil
}

// finish tells run that nothing more comes. With abandon what is open is
// dropped instead of closed.
func (w *writer) finish(abandon bool) {
	w.abandon = abandon
	close(w.order)
	close(w.work)
}

// run appends blocks until finish, and closes the last segment.
func (w *writer) run() error {
	for range runtime.GOMAXPROCS(0) {
		w.wg.Go(w.encode)
	}
	for more := true; more; {
		var closed chan struct{} // of the segment that is being closed, nil for none
		if w.closing != nil {
			closed = w.closing.done
		}
		select {
		case b, ok := <-w.order:
			if more = ok; !ok {
				break
			}
			<-b.ready
			if w.err == nil && !b.drop {
				w.fail(w.append(b))
			}
			w.budget.Release(w.share(b))
		case <-closed:
			w.fail(w.settle())
		}
	}
	w.wg.Wait()
	w.fail(w.settle())
	if w.segment != nil {
		if w.err != nil || w.abandon {
			w.segment.Abort()
		} else if w.err = w.close(); w.err == nil {
			w.err = w.settle()
		}
	}
	return w.err
}

// fail notes the first error, after which nothing is taken any more.
func (w *writer) fail(err error) {
	if err != nil && w.err == nil {
		w.err = err
		close(w.failed)
	}
}

func (w *writer) encode() {
	for b := range w.work {
		b.err = b.encode(w.c)
		close(b.ready)
	}
}

// encode checks the batches and makes the block.
func (b *block) encode(c *Copier) error {
	if len(b.batches) == 0 {
		return nil
	}
	raw := make([][]byte, len(b.batches))
	var uncompressed int64
	for i, batch := range b.batches {
		if err := batch.Verify(); err != nil {
			return fmt.Errorf("%s/%d: %w", b.p.Topic, b.p.Partition, err)
		}
		b.meta.AddBatch(batch)
		if batch.Codec() == recordbatch.None {
			uncompressed += int64(len(batch))
		}
		raw[i] = batch
	}
	codec := repository.CodecNone
	if 2*uncompressed > b.size {
		codec = repository.Codec(c.Options.Compression)
	}
	level := repository.Level(zstd.EncoderLevelFromZstd(c.Options.CompressionLevel))
	var err error
	b.encoded, err = repository.EncodeBlock(codec, level, raw...)
	if err == nil {
		b.meta.SetEncoded(b.encoded)
	}
	return err
}

// append writes a block and moves its partition on.
func (w *writer) append(b *block) error {
	if b.err != nil {
		return b.err
	}
	p := b.p
	if len(b.batches) > 0 {
		if w.segment == nil {
			sequence := w.r.sequence
			if w.closing != nil {
				sequence++
			}
			var err error
			w.segment, err = w.c.Repository.NewSegment(w.ctx, w.r.backupID, w.r.part, sequence)
			if err != nil {
				return err
			}
			w.opened = time.Now()
		}
		if err := w.segment.Append(p.TopicPartition, b.meta, b.encoded.Stored...); err != nil {
			return err
		}
		b.encoded.Release()
		p.slice.AddBlocks(b.meta)
		w.bytes += b.size
		telemetry.Fetched(b.meta.Records, b.size)
		p.next = max(p.next, b.meta.LastOffset+1) // merged blocks lie before it
		p.epoch = b.batches[len(b.batches)-1].LeaderEpoch()
		b.batches = nil
		p.advanced = true
	}
	if b.last {
		p.next, p.epoch = b.next, b.epoch
		p.leftOut.Add(b.leftOut)
		if b.gap != nil {
			p.gaps = append(p.gaps, repository.Gap{From: b.gap.From, To: b.gap.To, Reason: string(b.gap.Reason)})
		}
		p.advanced = true
	}
	w.report()
	if b.merged {
		return nil
	}
	if w.segment != nil && (w.segment.Size() >= int64(w.c.Options.SegmentMaxBytes) || time.Since(w.opened) >= w.c.Options.SegmentMaxAge.Std()) {
		return w.close()
	}
	return nil
}

// closing is a segment that is being closed while the next one is filled.
type closing struct {
	segment *repository.SegmentWriter
	opened  time.Time
	gains   []settled
	done    chan struct{} // closed when ref and err are set
	ref     repository.SegmentRef
	err     error
}

// settled is what a segment brings to one partition.
type settled struct {
	p *partition
	gain
}

// close begins to close the open segment. All partitions that moved since the
// last one are in its table, also those without blocks. The one before it has
// been closed then: segments appear in their order, so that what an attempt
// leaves behind, wherever it ends, has no hole.
func (w *writer) close() error {
	if err := w.settle(); err != nil {
		return err
	}
	c := &closing{segment: w.segment, opened: w.opened, done: make(chan struct{})}
	w.segment, w.closing = nil, c
	var table []repository.SegmentPartition
	for _, p := range w.r.partitions {
		if p.advanced {
			table = append(table, repository.SegmentPartition{
				TopicPartition: p.TopicPartition, NextOffset: p.next, LeaderEpoch: p.epoch, LeftOut: p.leftOut, Gaps: p.gaps,
			})
			c.gains = append(c.gains, settled{p, p.gain})
			p.gain = gain{}
		}
	}
	go func() {
		defer close(c.done)
		c.ref, c.err = c.segment.Close(table)
	}()
	return nil
}

// settle waits for the segment that is being closed, if there is one, and
// takes it into the run.
func (w *writer) settle() error {
	c := w.closing
	if c == nil {
		return nil
	}
	<-c.done
	w.closing = nil
	if c.err != nil {
		return c.err
	}
	telemetry.SegmentStored(c.opened, c.ref.Size)
	at := len(w.r.segments)
	w.r.segments = append(w.r.segments, c.ref)
	w.r.sequence++
	for _, g := range c.gains {
		g.p.settle(at, g.gain)
	}
	return nil
}

func (w *writer) report() {
	if w.c.Report == nil || time.Since(w.reported) < reportEvery {
		return
	}
	w.reported = time.Now()
	did := Progress{Done: w.r.amount()}
	did.Done.Bytes = w.bytes
	for _, p := range w.r.partitions {
		if !p.done() {
			did.Lagging = append(did.Lagging, Lag{p.Topic, p.Partition, p.entry.End - p.next})
		}
	}
	slices.SortFunc(did.Lagging, func(a, b Lag) int { return int(min(max(b.Offsets-a.Offsets, -1), 1)) })
	did.Lagging = did.Lagging[:min(len(did.Lagging), 3)]
	w.c.Report(did)
}
