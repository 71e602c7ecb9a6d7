package restore

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// pass reads the sources of a merge once and hands each record to the stream
// of its target partition. It begins when all of them have been located, since
// only then it is known at which rank each goes on; what lies before is
// counted and not sent. It goes as fast as the slowest of them, as far as
// memory does not suffice to let the others run ahead.
type pass struct {
	ctx     context.Context // of the part
	merge   *Merge
	sources []*source
	shape   shape
	leases  *memory // of all passes of a part
	lease   int64   // bytes that this one takes, while it is under way
	streams []*mergeStream

	blocks  *memory // blocks that were read and not yet distributed
	queued  *memory // records that were distributed and are not yet acknowledged
	pending int64   // bytes in encoders that are still being filled
	most    int64   // of pending
	join    int64   // bytes from which on an encoder is handed on

	mu       sync.Mutex // of what follows, and of the streams where they say so
	missing  int        // streams that have not been located
	open     int        // streams that have not come to their end
	ended    bool       // everything was distributed, or err says why not
	err      error
	encoders [recordbatch.Zstd + 1][]*recordbatch.Encoder // for use again
}

// smallestJoin is the least that is collected for a batch, however many target
// partitions share the memory.
const smallestJoin = 16 << 10

// newPass makes a pass over so many bytes. leases is the memory of all passes
// of the part: one over a small topic takes little of it, so that many can be
// under way at once.
func newPass(ctx context.Context, m *Merge, sources []*source, sh shape, leases *memory, bytes int64) *pass {
	p := &pass{ctx: ctx, merge: m, sources: sources, shape: sh, leases: leases, lease: min(4*bytes+256<<10, leases.limit)}
	n := int64(m.Partitions)
	p.blocks, p.queued, p.most = newMemory(max(p.lease/4, 1)), newMemory(max(p.lease/2, 1)), p.lease/4
	p.join = min(int64(sh.join), max(p.most/n, smallestJoin))
	p.missing, p.open = int(n), int(n)
	for to := range m.Partitions {
		p.streams = append(p.streams, &mergeStream{pass: p, to: to, more: make(chan struct{}, 1)})
	}
	return p
}

// run does the pass.
func (p *pass) run() {
	err := p.leases.budget.Acquire(p.ctx, p.lease)
	if err == nil {
		g, ctx := errgroup.WithContext(p.ctx)
		blocks := make(chan readBlock, 4)
		g.Go(func() error { return p.read(ctx, blocks) })
		g.Go(func() error { return p.distribute(ctx, blocks) })
		err = g.Wait()
	}
	p.mu.Lock()
	p.ended, p.err = true, err
	p.mu.Unlock()
	for _, s := range p.streams {
		s.wake()
	}
}

// readBlock is a block in memory.
type readBlock struct {
	src   *source
	seg   *repository.Segment
	raw   []byte
	held  *held
	whole bool // all of its records are restored
}

// read reads the blocks in the order of the merge, and closes the channel when
// it has read them all.
func (p *pass) read(ctx context.Context, blocks chan<- readBlock) error {
	walk, err := newBlockWalk(ctx, p.sources)
	if err != nil {
		return err
	}
	for {
		src, seg, b, err := walk.next(ctx)
		if err != nil {
			return err
		}
		if src == nil {
			close(blocks)
			return nil
		}
		h, raw, err := readHeld(ctx, src, seg, b, p.blocks)
		if err != nil {
			return err
		}
		select {
		case blocks <- readBlock{src, seg, raw, h, src.rule.ofBlock(b) == all}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// distribute hands each record to its target partition.
func (p *pass) distribute(ctx context.Context, blocks <-chan readBlock) error {
	var dec recordbatch.Decoder
	for {
		select {
		case b, more := <-blocks:
			if !more {
				return p.finish(ctx)
			}
			if err := p.block(ctx, b, &dec); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *pass) block(ctx context.Context, b readBlock, dec *recordbatch.Decoder) error {
	defer b.held.release(true)
	origin, tp := newOrigin(b.src), b.src.tp
	return batches(b.seg, b.raw, func(batch recordbatch.Batch) error {
		if !b.whole && b.src.rule.ofBatch(batch) == none {
			return nil
		}
		err := batch.Verify()
		if err == nil {
			codec := batch.Codec()
			err = dec.Records(batch, func(r *recordbatch.Record) error {
				if !b.whole && !b.src.rule.takes(r) {
					return nil
				}
				s := p.streams[home(r, tp.Partition, p.merge.Partitions)]
				if p.shape.headers {
					origin.add(r)
				}
				return p.take(ctx, s, codec, r)
			})
		}
		if err != nil {
			err = fmt.Errorf("segment %s: topic %q partition %d: %w", b.seg.Ref.Key, tp.Topic, tp.Partition, err)
		}
		return err
	})
}

// finish hands on what is left.
func (p *pass) finish(ctx context.Context) error {
	for _, s := range p.streams {
		if err := p.handOn(ctx, s); err != nil {
			return err
		}
		if s.rank < s.start {
			if err := p.met(s, nil); err != nil {
				return err
			}
			return &BeyondError{Topic: p.merge.Source, Partition: s.to, Rank: s.start, Beyond: s.start - s.rank}
		}
	}
	return nil
}

// take gives the next record to a target partition.
func (p *pass) take(ctx context.Context, s *mergeStream, codec recordbatch.Codec, r *recordbatch.Record) error {
	rank := s.rank
	s.rank++
	if rank < s.start {
		if rank == s.start-1 {
			return p.met(s, copyRecord(r))
		}
		return nil
	}
	if s.encoder != nil && s.codec != codec {
		if err := p.handOn(ctx, s); err != nil {
			return err
		}
	}
	for {
		if s.encoder == nil {
			if rank < s.next.Load()-1 {
				return nil // another attempt is ahead; its last record may be asked for
			}
			var err error
			if s.encoder, err = p.newEncoder(codec); err != nil {
				return err
			}
			s.codec, s.first = codec, rank
		}
		before := s.encoder.Size()
		if s.encoder.Append(r) {
			p.pending += int64(s.encoder.Size() - before)
			break
		}
		if err := p.handOn(ctx, s); err != nil {
			return err
		}
	}
	if int64(s.encoder.Size()) >= p.join {
		return p.handOn(ctx, s)
	}
	if p.pending > p.most {
		return p.handOnFullest(ctx)
	}
	return nil
}

// handOnFullest hands on at least half of what is pending, so that it is
// seldom called.
func (p *pass) handOnFullest(ctx context.Context) error {
	enough := p.pending / int64(2*len(p.streams))
	for _, s := range p.streams {
		if s.encoder != nil && int64(s.encoder.Size()) >= enough {
			if err := p.handOn(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// met is told the record before a stream's start, nil when there is none.
func (p *pass) met(s *mergeStream, r *recordbatch.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.last = r
	if s.check != nil {
		return s.check(r)
	}
	return nil
}

// handOn puts what was collected for a stream into its queue.
func (p *pass) handOn(ctx context.Context, s *mergeStream) error {
	if s.encoder == nil {
		return nil
	}
	size := int64(s.encoder.Size())
	p.pending -= size
	c := collected{s.encoder, s.codec, s.first, min(size, p.queued.limit)}
	s.encoder = nil
	if err := p.queued.budget.Acquire(ctx, c.size); err != nil {
		return err
	}
	p.mu.Lock()
	s.queue = append(s.queue, c)
	p.mu.Unlock()
	s.wake()
	return nil
}

func (p *pass) newEncoder(codec recordbatch.Codec) (*recordbatch.Encoder, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(codec) < len(p.encoders) {
		if free := p.encoders[codec]; len(free) > 0 {
			p.encoders[codec] = free[:len(free)-1]
			return free[len(free)-1], nil
		}
	}
	return recordbatch.NewEncoder(recordbatch.EncoderConfig{Codec: codec, MaxBatchBytes: p.shape.maxBatch})
}

// reuse takes back the encoder of what became batches.
func (p *pass) reuse(c collected) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.encoders[c.codec] = append(p.encoders[c.codec], c.encoder)
}

// done is told by each stream that has come to its end; nothing is kept for it
// any more.
func (p *pass) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open--; p.open == 0 {
		p.encoders = [recordbatch.Zstd + 1][]*recordbatch.Encoder{}
		p.leases.budget.Release(p.lease)
	}
}
