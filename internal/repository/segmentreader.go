package repository

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

const (
	// tailGuess is read from a segment's end at first; most indexes are smaller.
	tailGuess = 64 << 10
	// bridge is how many unwanted bytes between two blocks are rather read than asked around.
	bridge = 256 << 10
)

// Segment is an opened segment: its index, checked. It holds no connection and needs no closing, is
// shared by all who open the same segment, and must not be changed. It is safe for concurrent use.
type Segment struct {
	// Ref names the segment.
	Ref SegmentRef
	// Index says what is in it.
	Index SegmentIndex

	repository *Repository
	positions  map[TopicPartition]int
}

// OpenSegment reads and checks the index of the segment that ref names: one ranged read in most
// cases, none when it was opened lately. *CorruptError, ErrNotFound.
func (r *Repository) OpenSegment(ctx context.Context, ref SegmentRef) (*Segment, error) {
	return r.segments.get(ctx, ref, func(ctx context.Context) (*Segment, error) {
		return r.openSegment(ctx, ref.Key, &ref)
	})
}

// FindSegment opens a segment that nothing refers to yet, by its key: the one another attempt wrote.
// ErrNotFound when there is none.
func (r *Repository) FindSegment(ctx context.Context, backupID string, part, sequence int) (*Segment, error) {
	return r.openSegment(ctx, SegmentKey(backupID, part, sequence), nil)
}

func (r *Repository) openSegment(ctx context.Context, key string, ref *SegmentRef) (*Segment, error) {
	s := &Segment{repository: r}
	if ref != nil {
		s.Ref = *ref
	} else {
		a, err := r.bucket.Attributes(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("open segment: %w", storageerr.Wrap(err, "look up", key))
		}
		s.Ref = SegmentRef{Key: key, Size: a.Size}
	}
	if err := s.readIndex(ctx, ref != nil); err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	return s, nil
}

func (s *Segment) readIndex(ctx context.Context, known bool) error {
	key, size := s.Ref.Key, s.Ref.Size
	if size < headerLength+trailerLength {
		return &CorruptError{Key: key, Detail: "size in bytes", Want: "at least " + strconv.Itoa(headerLength+trailerLength), Got: strconv.FormatInt(size, 10)}
	}
	tailAt := max(0, size-tailGuess)
	reader, err := s.repository.openRange(ctx, key, tailAt, size-tailAt)
	if err != nil {
		return err
	}
	actual := reader.Size()
	tail := make([]byte, size-tailAt)
	err = fill(reader, key, tailAt, tail)
	reader.Close()
	if err != nil {
		return err
	}
	if actual != size {
		return &CorruptError{Key: key, Detail: "size in bytes", Want: strconv.FormatInt(size, 10), Got: strconv.FormatInt(actual, 10)}
	}
	trailer := tail[len(tail)-trailerLength:]
	position, length, sum, err := decodeTrailer(key, size, trailer)
	if err != nil {
		return err
	}
	if known && sum != s.Ref.SHA256 {
		return &CorruptError{Key: key, Detail: "SHA-256 in the trailer", Want: s.Ref.SHA256.String(), Got: sum.String()}
	}
	s.Ref.SHA256 = sum

	header := segmentHeader
	if tailAt == 0 {
		header = tail[:headerLength]
		if err := checkHeader(key, header); err != nil {
			return err
		}
	}
	var index []byte
	if position >= tailAt {
		index = tail[position-tailAt:][:length]
	} else {
		if length > MaxIndexLength {
			return &CorruptError{Key: key, Detail: "length of the index", Want: "at most " + strconv.Itoa(MaxIndexLength), Got: strconv.FormatInt(length, 10)}
		}
		index = make([]byte, length)
		have := copy(index[tailAt-position:], tail)
		if err := s.repository.readRange(ctx, key, position, index[:length-int64(have)]); err != nil {
			return err
		}
	}
	if got := segmentSum(header, index, trailer[:trailerNumbers]); got != sum {
		return &CorruptError{Key: key, Detail: "SHA-256 of header, index and trailer", Want: sum.String(), Got: got.String()}
	}
	if err := unpackJSON(key, index, &s.Index); err != nil {
		return err
	}
	if err := s.Index.check(key, position); err != nil {
		return err
	}
	s.positions = make(map[TopicPartition]int, len(s.Index.Partitions))
	for i := range s.Index.Partitions {
		s.positions[s.Index.Partitions[i].TopicPartition] = i
	}
	return nil
}

// Partition returns what the segment says of a topic partition, nil when it knows nothing of it.
func (s *Segment) Partition(tp TopicPartition) *SegmentPartition {
	if i, ok := s.positions[tp]; ok {
		return &s.Index.Partitions[i]
	}
	return nil
}

// Blocks returns the blocks of a topic partition in ascending order of offsets.
func (s *Segment) Blocks(tp TopicPartition) []Block {
	if p := s.Partition(tp); p != nil {
		return p.Blocks
	}
	return nil
}

// SliceBlocks returns the blocks that an index's slice of that topic partition consists of.
func (s *Segment) SliceBlocks(tp TopicPartition, slice *Slice) []Block {
	blocks := s.Blocks(tp)
	from, _ := slices.BinarySearchFunc(blocks, slice.FirstOffset, func(b Block, o int64) int { return cmp.Compare(b.FirstOffset, o) })
	to := from
	for to < len(blocks) && blocks[to].LastOffset <= slice.LastOffset {
		to++
	}
	return blocks[from:to]
}

// PlacedBlock is a block and whose it is.
type PlacedBlock struct {
	TopicPartition
	Block Block
}

// InOrder returns all blocks in the order in which they are stored.
func (x *SegmentIndex) InOrder() []PlacedBlock {
	var all []PlacedBlock
	for i := range x.Partitions {
		p := &x.Partitions[i]
		for j := range p.Blocks {
			all = append(all, PlacedBlock{p.TopicPartition, p.Blocks[j]})
		}
	}
	slices.SortFunc(all, func(a, b PlacedBlock) int { return cmp.Compare(a.Block.Position, b.Block.Position) })
	return all
}

// Buffer is memory for reading blocks, reused from one to the next. The zero Buffer is ready; one
// goroutine at a time may use it.
type Buffer struct {
	stored, raw []byte
}

// ReadBlock reads, checks and decompresses one block. The result is whole record batches; it lives
// in buf and is valid until buf is used again. *CorruptError.
func (s *Segment) ReadBlock(ctx context.Context, b Block, buf *Buffer) ([]byte, error) {
	reader, err := s.repository.openRange(ctx, s.Ref.Key, b.Position, b.Length)
	if err != nil {
		return nil, fmt.Errorf("read block: %w", err)
	}
	defer reader.Close()
	return s.readBlock(reader, &b, buf)
}

// ReadBlocks reads blocks one after the other and calls fn with each and its record batches, which
// are valid until fn returns. Blocks that lie close to each other in the segment, in ascending
// position, are read in one request. It ends with the first error, fn's included.
func (s *Segment) ReadBlocks(ctx context.Context, blocks []Block, buf *Buffer, fn func(b *Block, raw []byte) error) error {
	for len(blocks) > 0 {
		run := 1
		for run < len(blocks) {
			skip := blocks[run].Position - blocks[run-1].Position - blocks[run-1].Length
			if skip < 0 || skip > bridge {
				break
			}
			run++
		}
		if err := s.readRun(ctx, blocks[:run], buf, fn); err != nil {
			return err
		}
		blocks = blocks[run:]
	}
	return nil
}

func (s *Segment) readRun(ctx context.Context, run []Block, buf *Buffer, fn func(b *Block, raw []byte) error) error {
	at := run[0].Position
	last := &run[len(run)-1]
	reader, err := s.repository.openRange(ctx, s.Ref.Key, at, last.Position+last.Length-at)
	if err != nil {
		return fmt.Errorf("read blocks: %w", err)
	}
	defer reader.Close()
	for i := range run {
		b := &run[i]
		if b.Position > at {
			if n, err := io.CopyN(io.Discard, reader, b.Position-at); err == io.EOF {
				return truncated(s.Ref.Key, b.Position, at+n)
			} else if err != nil {
				return fmt.Errorf("read blocks: %w", storageerr.Wrap(err, "read", s.Ref.Key))
			}
		}
		raw, err := s.readBlock(reader, b, buf)
		if err != nil {
			return err
		}
		if err := fn(b, raw); err != nil {
			return err
		}
		at = b.Position + b.Length
	}
	return nil
}

// readBlock reads the block that the reader is at.
func (s *Segment) readBlock(reader io.Reader, b *Block, buf *Buffer) ([]byte, error) {
	if int64(cap(buf.stored)) < b.Length {
		buf.stored = make([]byte, b.Length)
	}
	stored := buf.stored[:b.Length]
	if err := fill(reader, s.Ref.Key, b.Position, stored); err != nil {
		return nil, fmt.Errorf("read block: %w", err)
	}
	return s.unpack(stored, b, buf)
}

// unpack checks and decompresses a block as it is stored. Without compression the result is stored
// itself.
func (s *Segment) unpack(stored []byte, b *Block, buf *Buffer) ([]byte, error) {
	if got := Digest(sha256.Sum256(stored)); got != b.SHA256 {
		return nil, &CorruptError{Key: s.Ref.Key, Detail: fmt.Sprintf("SHA-256 of the block at %d, offsets %d to %d", b.Position, b.FirstOffset, b.LastOffset), Want: b.SHA256.String(), Got: got.String()}
	}
	if b.Codec == CodecNone {
		return stored, nil
	}
	raw, err := decompress(stored, buf.raw, int(b.RawLength))
	if err != nil {
		return nil, &CorruptError{Key: s.Ref.Key, Detail: fmt.Sprintf("the hash of the block at %d fits but zstd says: %v", b.Position, err)}
	}
	buf.raw = raw
	return raw, nil
}
