package repository

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

const (
	// runBytes is the most that is read at once for several readers, unwanted bytes between their
	// blocks included.
	runBytes = 1 << 20
	// smallBlock is up to which length blocks are read together. A larger one is worth a request of
	// its own, and would wait in memory for its reader to come.
	smallBlock = 64 << 10
	// maxRuns is how many runs are kept for those who have not yet come, and how many are read beside
	// each other.
	maxRuns = 8
)

// BlockReader reads blocks for many readers, each of which goes through the blocks of a topic
// partition of its own. The blocks that lie near each other in a segment are a run: whoever comes
// first reads all of it with one request, and the others find theirs in memory. So many small
// partitions cost as many requests as their bytes are worth, and not one for each block.
//
// It keeps some 8 MiB, and as much again while it is being read. A run is read once; who comes when it
// has been given up, or comes back, reads the block by itself. Readers need not come at all.
//
// It is safe for concurrent use. A nil *BlockReader reads each block by itself.
type BlockReader struct {
	wanted  func(*Segment) []Block
	loading chan struct{} // as many as are being read

	mu   sync.Mutex // of all below
	runs map[SegmentRef][]*run
	kept []*run   // the oldest first
	free [][]byte // memory of runs that are over
}

// run is a piece of a segment with several blocks. Without ready nobody has asked for it yet.
type run struct {
	position, length int64
	blocks           int           // that nobody has asked for yet
	users            int           // who read in it, or wait for it
	ready            chan struct{} // closed when it is read, or could not be
	data             []byte
	over             bool // nobody finds it any more
}

// NewBlockReader makes a reader of the blocks that wanted returns, in any order; it is asked once for
// each segment.
func NewBlockReader(wanted func(*Segment) []Block) *BlockReader {
	return &BlockReader{wanted: wanted, loading: make(chan struct{}, maxRuns), runs: map[SegmentRef][]*run{}}
}

// Read is as [Segment.ReadBlock].
func (r *BlockReader) Read(ctx context.Context, s *Segment, b Block, buf *Buffer) ([]byte, error) {
	if r != nil && b.Length <= smallBlock {
		if run := r.take(ctx, s, &b); run != nil {
			defer r.done(run)
			stored := run.data[b.Position-run.position:][:b.Length]
			if b.Codec == CodecNone {
				stored = append(buf.stored[:0], stored...) // the caller's, to change as it likes
				buf.stored = stored
			}
			return s.unpack(stored, &b, buf)
		}
	}
	return s.ReadBlock(ctx, b, buf)
}

// take finds the run of a block, or reads it; nil when the block is to be read by itself.
func (r *BlockReader) take(ctx context.Context, s *Segment, b *Block) *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	runs, ok := r.runs[s.Ref]
	if !ok {
		runs = cutRuns(r.wanted(s))
		r.runs[s.Ref] = runs
	}
	i, exact := slices.BinarySearchFunc(runs, b.Position, func(n *run, at int64) int { return cmp.Compare(n.position, at) })
	if !exact {
		i--
	}
	if i < 0 || b.Position+b.Length > runs[i].position+runs[i].length {
		return nil
	}
	n := runs[i]
	if n.over {
		return nil
	}
	n.users++
	n.blocks--
	if n.ready == nil {
		n.ready = make(chan struct{})
		r.mu.Unlock()
		data := r.load(ctx, s, n)
		r.mu.Lock()
		if n.data = data; data == nil {
			n.over = true
		} else {
			r.keep(n)
		}
		close(n.ready)
	} else {
		r.mu.Unlock()
		select {
		case <-n.ready:
		case <-ctx.Done():
		}
		r.mu.Lock()
	}
	if n.data == nil {
		n.users--
		return nil
	}
	if n.blocks <= 0 {
		r.drop(n)
	}
	return n
}

// load reads a run; nil when that fails, so that everybody learns by himself why.
func (r *BlockReader) load(ctx context.Context, s *Segment, n *run) []byte {
	select {
	case r.loading <- struct{}{}:
		defer func() { <-r.loading }()
	case <-ctx.Done():
		return nil
	}
	var data []byte
	r.mu.Lock()
	if last := len(r.free) - 1; last >= 0 {
		data, r.free = r.free[last], r.free[:last]
	}
	r.mu.Unlock()
	if int64(cap(data)) < n.length {
		data = make([]byte, n.length, max(n.length, runBytes/4))
	}
	data = data[:n.length]
	if err := s.repository.readRange(ctx, s.Ref.Key, n.position, data); err != nil {
		return nil
	}
	return data
}

// keep keeps a run, and gives another up where there are too many, one that nobody waits for if
// there is one; mu is held.
func (r *BlockReader) keep(n *run) {
	if len(r.kept) == maxRuns {
		i := slices.IndexFunc(r.kept, func(o *run) bool { return o.users == 0 })
		r.drop(r.kept[max(i, 0)])
	}
	r.kept = append(r.kept, n)
}

// drop gives a run up; mu is held. Who reads in it, or waits for it, goes on.
func (r *BlockReader) drop(n *run) {
	if i := slices.Index(r.kept, n); i >= 0 {
		r.kept = slices.Delete(r.kept, i, i+1)
	}
	n.over = true
	r.recycle(n)
}

func (r *BlockReader) done(n *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.users--
	r.recycle(n)
}

// recycle takes the memory of a run that is over and has no users; mu is held.
func (r *BlockReader) recycle(n *run) {
	if !n.over || n.users > 0 || n.data == nil {
		return
	}
	if len(r.free) < maxRuns {
		r.free = append(r.free, n.data)
	}
	n.data = nil
}

// cutRuns cuts the blocks of a segment into runs. A block by itself is none.
func cutRuns(blocks []Block) (runs []*run) {
	slices.SortFunc(blocks, func(a, b Block) int { return cmp.Compare(a.Position, b.Position) })
	var n *run
	for i := range blocks {
		b := &blocks[i]
		if b.Length > smallBlock {
			continue
		}
		if end := b.Position + b.Length; n != nil && b.Position-n.position-n.length <= bridge && end-n.position <= runBytes {
			n.length = end - n.position
			n.blocks++
			continue
		}
		n = &run{position: b.Position, length: b.Length, blocks: 1}
		runs = append(runs, n)
	}
	return slices.DeleteFunc(runs, func(n *run) bool { return n.blocks == 1 })
}
