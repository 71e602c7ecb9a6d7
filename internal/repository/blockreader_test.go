package repository

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"
)

// countedReads is a bucket that counts ranged reads; nothing else works on it.
type countedReads struct {
	driver.Bucket
	under *blob.Bucket
	n     atomic.Int64
	fail  atomic.Bool // the next one
}

type countedReader struct{ *blob.Reader }

func (countedReader) Attributes() *driver.ReaderAttributes { return &driver.ReaderAttributes{} }
func (countedReader) As(any) bool                          { return false }

func (c *countedReads) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	c.n.Add(1)
	if c.fail.Swap(false) {
		return nil, errors.New("away")
	}
	r, err := c.under.NewRangeReader(ctx, key, offset, length, nil)
	return countedReader{r}, err
}

func (c *countedReads) ErrorCode(error) gcerrors.ErrorCode { return gcerrors.Internal }

// manyBlocks is a segment with rounds of blocks of many partitions, and what each block holds.
func manyBlocks(t *testing.T, partitions, rounds, size int) (s *Segment, blocks [][]Block, counted *countedReads, holds func(Block) []byte) {
	t.Helper()
	bucket := memblob.OpenBucket(nil)
	r := newRepository(t, bucket)
	w, err := r.NewSegment(t.Context(), "b", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	sizes := rand.New(random)
	var table []SegmentPartition
	content := map[int64][]byte{}
	var position int64 = headerLength
	for round := range rounds {
		for p := range partitions {
			raw := make([]byte, size/2+sizes.IntN(size))
			random.Read(raw[len(raw)/2:])
			codec := []Codec{CodecNone, CodecZstd}[p%2]
			e, err := EncodeBlock(codec, 0, raw)
			if err != nil {
				t.Fatal(err)
			}
			b := Block{FirstOffset: int64(round), LastOffset: int64(round), Records: 1}
			b.SetEncoded(e)
			if err := w.Append(TopicPartition{"t", "id", int32(p)}, b, e.Stored...); err != nil {
				t.Fatal(err)
			}
			content[position] = raw
			position += e.Length
			e.Release()
		}
	}
	for p := range partitions {
		table = append(table, SegmentPartition{TopicPartition: TopicPartition{"t", "id", int32(p)}, NextOffset: int64(rounds)})
	}
	ref, err := w.Close(table)
	if err != nil {
		t.Fatal(err)
	}
	counted = &countedReads{under: r.bucket}
	s, err = (&Repository{bucket: r.bucket}).OpenSegment(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	s.repository = &Repository{bucket: blob.NewBucket(counted)}
	for p := range partitions {
		blocks = append(blocks, s.Blocks(TopicPartition{"t", "id", int32(p)}))
	}
	return s, blocks, counted, func(b Block) []byte { return content[b.Position] }
}

func flat(blocks [][]Block) (all []Block) {
	for _, b := range blocks {
		all = append(all, b...)
	}
	return all
}

func (r *BlockReader) mustRead(t *testing.T, s *Segment, b Block, buf *Buffer, holds func(Block) []byte) {
	raw, err := r.Read(t.Context(), s, b, buf)
	if err != nil || !bytes.Equal(raw, holds(b)) {
		t.Errorf("block at %d: %v, or other bytes", b.Position, err)
	}
	clear(raw) // it is the reader's own
}

// Many partitions that are read beside each other cost as many requests as runs, and every reader has
// its own bytes.
func TestManyReadersShareRequests(t *testing.T) {
	s, blocks, counted, holds := manyBlocks(t, 500, 6, 2000)
	r := NewBlockReader(func(*Segment) []Block { return flat(blocks) })
	for round := range 6 {
		var wg sync.WaitGroup
		for p := range blocks {
			wg.Go(func() { r.mustRead(t, s, blocks[p][round], new(Buffer), holds) })
		}
		wg.Wait()
	}
	runs := int64(len(r.runs[s.Ref]))
	if n := counted.n.Load(); n != runs || runs > 8 {
		t.Errorf("%d requests for 3000 blocks in %d runs", n, runs)
	}
	if len(r.kept) > 0 {
		t.Errorf("%d runs are kept though all was read", len(r.kept))
	}
	// Who comes back reads by himself.
	r.mustRead(t, s, blocks[7][3], new(Buffer), holds)
	if n := counted.n.Load(); n != runs+1 {
		t.Errorf("%d requests", n)
	}
}

// In whatever order blocks are read, by however many, what is kept is bounded, and no bytes are
// taken for others.
func TestBlocksInAnyOrder(t *testing.T) {
	s, blocks, counted, holds := manyBlocks(t, 100, 40, 8000)
	all := flat(blocks)
	r := NewBlockReader(func(*Segment) []Block { return flat(blocks) })
	order := rand.New(rand.NewPCG(1, 2)).Perm(len(all))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			var buf Buffer
			for i := g; i < len(order); i += 8 {
				r.mustRead(t, s, all[order[i]], &buf, holds)
				if len(r.loading) > maxRuns {
					t.Errorf("%d runs are read at once", len(r.loading))
				}
			}
		})
	}
	wg.Wait()
	if len(r.kept) > maxRuns || len(r.free) > maxRuns {
		t.Errorf("%d runs are kept, %d for reuse", len(r.kept), len(r.free))
	}
	if n := counted.n.Load(); n > int64(len(all)) {
		t.Errorf("%d requests for %d blocks", n, len(all))
	}
}

// Only what is wanted is read, where it is far apart.
func TestRunsLeaveOutWhatNobodyWants(t *testing.T) {
	s, blocks, counted, holds := manyBlocks(t, 3, 6, 300_000)
	var wanted []Block
	for _, round := range []int{0, 1, 5} { // blocks 3 to 12 are of others
		wanted = append(wanted, blocks[1][round])
	}
	r := NewBlockReader(func(*Segment) []Block { return append([]Block(nil), wanted...) })
	var buf Buffer
	for _, b := range wanted {
		r.mustRead(t, s, b, &buf, holds)
	}
	if n := counted.n.Load(); n < 2 || n > 3 {
		t.Errorf("%d requests", n)
	}
	// Nobody said that this one is wanted: it is read by itself.
	r.mustRead(t, s, blocks[0][0], &buf, holds)
}

// When a run cannot be read, each reads its block, and learns why.
func TestARunThatCannotBeRead(t *testing.T) {
	s, blocks, counted, holds := manyBlocks(t, 10, 1, 2000)
	r := NewBlockReader(func(*Segment) []Block { return flat(blocks) })
	counted.fail.Store(true)
	var buf Buffer
	for p := range blocks {
		r.mustRead(t, s, blocks[p][0], &buf, holds)
	}
	if n := counted.n.Load(); n != 11 {
		t.Errorf("%d requests, want the one that failed and ten", n)
	}
	var none *BlockReader
	none.mustRead(t, s, blocks[3][0], &buf, holds)
	key := s.Ref.Key
	data, err := counted.under.ReadAll(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	data[blocks[4][0].Position] ^= 1
	if err := counted.under.WriteAll(t.Context(), key, data, nil); err != nil {
		t.Fatal(err)
	}
	_, err = NewBlockReader(func(*Segment) []Block { return flat(blocks) }).Read(t.Context(), s, blocks[4][0], &buf)
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.Key != key {
		t.Errorf("got %v, want a CorruptError of %s", err, key)
	}
}
