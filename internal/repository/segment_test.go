package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gocloud.dev/blob/memblob"
	"pgregory.net/rapid"
)

var tp0 = TopicPartition{"orders", "AAAAAAAAQACAAAAAAAAAAQ", 0}

// put encodes and appends bytes as a block.
func put(t interface{ Fatal(...any) }, w *SegmentWriter, tp TopicPartition, b Block, codec Codec, raw ...[]byte) {
	e, err := EncodeBlock(codec, 0, raw...)
	if err != nil {
		t.Fatal(err)
	}
	b.SetEncoded(e)
	if err := w.Append(tp, b, e.Stored...); err != nil {
		t.Fatal(err)
	}
	e.Release()
}

// Whatever blocks are written in whatever order, they are read back one by one, in runs, and in any
// selection.
func TestSegmentProperty(t *testing.T) {
	for name, open := range buckets {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t, open(t))
			var sequence atomic.Int32
			rapid.Check(t, func(rt *rapid.T) {
				segmentProperty(rt, r, int(sequence.Add(1)))
			})
		})
	}
}

func segmentProperty(t *rapid.T, r *Repository, sequence int) {
	ctx := context.Background()
	w, err := r.NewSegment(ctx, "b", 1, sequence)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	type written struct {
		tp  TopicPartition
		raw []byte
	}
	var all []written
	next := map[TopicPartition]int64{}
	for range rapid.IntRange(0, 30).Draw(t, "blocks") {
		tp := TopicPartition{Topic: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic"), TopicID: rapid.SampledFrom([]string{"", "x"}).Draw(t, "id"), Partition: rapid.Int32Range(0, 2).Draw(t, "partition")}
		var raw [][]byte
		for range rapid.IntRange(1, 3).Draw(t, "pieces") {
			piece := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "bytes")
			raw = append(raw, bytes.Repeat(piece, rapid.SampledFrom([]int{1, 10, 2000}).Draw(t, "times")))
		}
		first := next[tp] + rapid.Int64Range(0, 5).Draw(t, "skip")
		last := first + rapid.Int64Range(0, 100).Draw(t, "offsets")
		b := Block{FirstOffset: first, LastOffset: last, Records: rapid.Int64Range(0, last-first+1).Draw(t, "records"), MinBaseTimestamp: rapid.Int64().Draw(t, "time"), MaxTimestamp: -1}
		put(t, w, tp, b, rapid.SampledFrom([]Codec{CodecNone, CodecZstd}).Draw(t, "codec"), raw...)
		all = append(all, written{tp, slices.Concat(raw...)})
		next[tp] = last + 1
	}
	table := []SegmentPartition{{TopicPartition: TopicPartition{Topic: "empty"}, NextOffset: 77, LeaderEpoch: -1, LeftOut: LeftOut{ControlBatches: 3}, Gaps: []Gap{{1, 2, GapLogStartMoved}}}}
	for tp, offset := range next {
		table = append(table, SegmentPartition{TopicPartition: tp, NextOffset: offset, LeaderEpoch: 5})
	}
	ref, err := w.Close(table)
	if err != nil {
		t.Fatal(err)
	}

	s, err := r.OpenSegment(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	found, err := r.FindSegment(ctx, "b", 1, sequence)
	if err != nil || found.Ref != ref {
		t.Fatalf("found %+v, %v, want %+v", found, err, ref)
	}
	if e := s.Partition(TopicPartition{Topic: "empty"}); e == nil || e.NextOffset != 77 || e.LeftOut.ControlBatches != 3 || len(e.Gaps) != 1 || len(e.Blocks) != 0 {
		t.Fatalf("the empty partition is %+v", e)
	}
	placed := s.Index.InOrder()
	if len(placed) != len(all) {
		t.Fatalf("%d blocks, want %d", len(placed), len(all))
	}
	var buf Buffer
	var selected []Block
	var want [][]byte
	for i, p := range placed {
		if p.TopicPartition != all[i].tp {
			t.Fatalf("block %d is of %v, want %v", i, p.TopicPartition, all[i].tp)
		}
		raw, err := s.ReadBlock(ctx, p.Block, &buf)
		if err != nil || !bytes.Equal(raw, all[i].raw) {
			t.Fatalf("block %d: %v", i, err)
		}
		if rapid.Bool().Draw(t, "select") {
			selected, want = append(selected, p.Block), append(want, all[i].raw)
		}
	}
	n := 0
	err = s.ReadBlocks(ctx, selected, &buf, func(b *Block, raw []byte) error {
		if !bytes.Equal(raw, want[n]) || *b != selected[n] {
			t.Fatalf("block %d of the selection differs", n)
		}
		n++
		return nil
	})
	if err != nil || n != len(selected) {
		t.Fatalf("%d of %d selected blocks were read, %v", n, len(selected), err)
	}
	for tp := range next {
		blocks := s.Blocks(tp)
		var whole Slice
		whole.AddBlocks(blocks...)
		if got := s.SliceBlocks(tp, &whole); !slices.Equal(got, blocks) {
			t.Fatalf("the slice of all blocks has %d, want %d", len(got), len(blocks))
		}
		cut := Slice{FirstOffset: blocks[len(blocks)/2].FirstOffset, LastOffset: blocks[len(blocks)-1].LastOffset}
		if got := s.SliceBlocks(tp, &cut); !slices.Equal(got, blocks[len(blocks)/2:]) {
			t.Fatalf("half a slice has %d blocks", len(got))
		}
	}
}

// Blocks far from each other take several requests, a large index more than the tail.
func TestSegmentWithLargeIndex(t *testing.T) {
	overBuckets(t, func(t *testing.T, r *Repository) {
		w, err := r.NewSegment(t.Context(), "b", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		var table []SegmentPartition
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 2000 {
			tp := TopicPartition{"t", "id", int32(i)}
			raw := make([]byte, 1000)
			for j := range raw {
				raw[j] = byte(random.Uint32())
			}
			put(t, w, tp, Block{FirstOffset: 5, LastOffset: 6, Records: 2}, CodecNone, raw)
			table = append(table, SegmentPartition{TopicPartition: tp, NextOffset: 7})
		}
		ref, err := w.Close(table)
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.OpenSegment(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if index := ref.Size - 2000*1000 - headerLength - trailerLength; index <= tailGuess {
			t.Fatalf("the index has only %d bytes", index)
		}
		var some []Block
		for _, i := range []int32{0, 1, 5, 1000, 1999, 3} {
			some = append(some, s.Blocks(TopicPartition{"t", "id", i})...)
		}
		n := 0
		if err := s.ReadBlocks(t.Context(), some, &Buffer{}, func(b *Block, raw []byte) error {
			n++
			return nil
		}); err != nil || n != 6 {
			t.Errorf("read %d, %v", n, err)
		}
		stop := errors.New("stop")
		if err := s.ReadBlocks(t.Context(), some, &Buffer{}, func(*Block, []byte) error { return stop }); err != stop {
			t.Errorf("fn's error: %v", err)
		}
	})
}

// Of attempts that race for a segment one wins, and the others find a whole segment.
func TestSegmentRace(t *testing.T) {
	overBuckets(t, func(t *testing.T, r *Repository) {
		for sequence := range 5 {
			var winners atomic.Int32
			var all sync.WaitGroup
			for attempt := range 8 {
				all.Go(func() {
					w, err := r.NewSegment(t.Context(), "b", 0, sequence)
					if err != nil {
						t.Error(err)
						return
					}
					raw := bytes.Repeat([]byte{byte(attempt)}, 100_000)
					e, _ := EncodeBlock(CodecNone, 0, raw)
					b := Block{FirstOffset: int64(attempt), LastOffset: int64(attempt), Records: 1}
					b.SetEncoded(e)
					err = w.Append(tp0, b, e.Stored...)
					if err == nil {
						_, err = w.Close([]SegmentPartition{{TopicPartition: tp0, NextOffset: int64(attempt) + 1}})
					}
					w.Abort()
					if err == nil {
						winners.Add(1)
						return
					}
					if !errors.Is(err, ErrExists) {
						t.Errorf("attempt %d: %v, want ErrExists", attempt, err)
						return
					}
					s, err := r.FindSegment(t.Context(), "b", 0, sequence)
					if err != nil {
						t.Errorf("attempt %d does not find the winner's segment: %v", attempt, err)
						return
					}
					data, err := s.ReadBlock(t.Context(), s.Blocks(tp0)[0], &Buffer{})
					if err != nil || int64(data[0]) != s.Partition(tp0).NextOffset-1 {
						t.Errorf("attempt %d read the winner's block: %v", attempt, err)
					}
				})
			}
			all.Wait()
			if n := winners.Load(); n != 1 {
				t.Errorf("segment %d has %d winners", sequence, n)
			}
		}
	})
}

func TestAbortedSegmentsLeaveNothing(t *testing.T) {
	overBuckets(t, func(t *testing.T, r *Repository) {
		big := Block{FirstOffset: 0, LastOffset: 9, Records: 10}
		raw := bytes.Repeat([]byte("x"), 1<<20)
		for name, end := range map[string]func(w *SegmentWriter, cancel context.CancelFunc) error{
			"abort": func(w *SegmentWriter, _ context.CancelFunc) error {
				w.Abort()
				w.Abort()
				return w.Append(tp0, big, raw)
			},
			"cancel": func(w *SegmentWriter, cancel context.CancelFunc) error {
				cancel()
				_, err := w.Close([]SegmentPartition{{TopicPartition: tp0, NextOffset: 10}})
				return err
			},
			"no table": func(w *SegmentWriter, _ context.CancelFunc) error { _, err := w.Close(nil); return err },
			"bad table": func(w *SegmentWriter, _ context.CancelFunc) error {
				_, err := w.Close([]SegmentPartition{{TopicPartition: tp0, NextOffset: 9}})
				return err
			},
			"bad block": func(w *SegmentWriter, _ context.CancelFunc) error {
				b := big
				b.Codec, b.Length, b.RawLength = CodecNone, 5, 5
				err := w.Append(tp0, b, []byte("12345"))
				if err == nil {
					return nil
				}
				if _, err := w.Close([]SegmentPartition{{TopicPartition: tp0, NextOffset: 10}}); err == nil {
					t.Error("a segment with a failed append was closed")
				}
				return err
			},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w, err := r.NewSegment(ctx, "b", 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			put(t, w, tp0, big, CodecNone, raw)
			if err := end(w, cancel); err == nil {
				t.Errorf("%s: no error", name)
			}
			w.Abort()
			if _, err := r.FindSegment(t.Context(), "b", 0, 0); !IsNotFound(err) {
				t.Errorf("%s: the segment is there (%v)", name, err)
			}
		}
	})
}

func TestAppendRefuses(t *testing.T) {
	r := newRepository(t, memblob.OpenBucket(nil))
	good := Block{FirstOffset: 10, LastOffset: 19, Records: 10, Length: 3, RawLength: 3, Codec: CodecNone}
	for name, change := range map[string]func(*Block){
		"offsets":     func(b *Block) { b.LastOffset = 9 },
		"negative":    func(b *Block) { b.FirstOffset = -1 },
		"records":     func(b *Block) { b.Records = 11 },
		"length":      func(b *Block) { b.Length, b.RawLength = 4, 4 },
		"empty":       func(b *Block) { b.Length, b.RawLength = 0, 0 },
		"raw length":  func(b *Block) { b.RawLength = 5 },
		"huge":        func(b *Block) { b.RawLength, b.Codec = MaxBlockLength+1, CodecZstd },
		"codec":       func(b *Block) { b.Codec = "lz4" },
		"before last": func(b *Block) { b.FirstOffset, b.LastOffset, b.Records = 5, 9, 5 },
	} {
		w, err := r.NewSegment(t.Context(), "b", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(tp0, Block{FirstOffset: 0, LastOffset: 9, Records: 1, Length: 3, RawLength: 3, Codec: CodecNone}, []byte("abc")); err != nil {
			t.Fatal(err)
		}
		b := good
		change(&b)
		if err := w.Append(tp0, b, []byte("abc")); err == nil {
			t.Errorf("%s: %+v was taken", name, b)
		}
		w.Abort()
	}
	for _, bad := range []struct {
		id        string
		part, seq int
	}{{"", 0, 0}, {"a/b", 0, 0}, {"x", -1, 0}, {"x", MaxParts, 0}, {"x", 0, MaxSegments}} {
		if _, err := r.NewSegment(t.Context(), bad.id, bad.part, bad.seq); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestEncodeBlock(t *testing.T) {
	random := make([]byte, 5000)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	text := []byte(strings.Repeat("the same again ", 1000))
	for _, c := range []struct {
		name  string
		codec Codec
		level Level
		raw   [][]byte
		want  Codec
	}{
		{"none", CodecNone, 0, [][]byte{text, text}, CodecNone},
		{"zstd", CodecZstd, 0, [][]byte{text}, CodecZstd},
		{"several", CodecZstd, 2, [][]byte{text, random, text}, CodecZstd},
		{"best", CodecZstd, 4, [][]byte{text}, CodecZstd},
		{"incompressible", CodecZstd, 1, [][]byte{random}, CodecNone},
	} {
		e, err := EncodeBlock(c.codec, c.level, c.raw...)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Concat(c.raw...)
		stored := slices.Concat(e.Stored...)
		if e.Codec != c.want || e.RawLength != int64(len(want)) || e.Length != int64(len(stored)) || e.SHA256 != refOf("", stored).SHA256 {
			t.Errorf("%s: %+v", c.name, e)
		}
		if e.Codec == CodecZstd {
			if stored, err = decompress(stored, nil, len(want)); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(stored, want) {
			t.Errorf("%s: the bytes differ", c.name)
		}
		e.Release()
		e.Release()
	}
	for _, bad := range []struct {
		codec Codec
		level Level
		raw   [][]byte
	}{{CodecNone, 0, nil}, {CodecZstd, 0, [][]byte{{}}}, {CodecZstd, 5, [][]byte{text}}, {CodecZstd, -1, [][]byte{text}}} {
		if _, err := EncodeBlock(bad.codec, bad.level, bad.raw...); err == nil {
			t.Errorf("%v was encoded", bad)
		}
	}
}

// A frame that unpacks into more than it should is refused before it takes memory.
func TestDecompressIsBounded(t *testing.T) {
	bomb, err := packJSON(strings.Repeat("0", 10<<20))
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := decompress(bomb, nil, 1000); err == nil {
		t.Errorf("%d bytes came out", len(raw))
	}
	if _, err := decompress(bomb, nil, 20<<20); err == nil {
		t.Error("fewer bytes than promised are no error")
	}
}

func TestSegmentCache(t *testing.T) {
	r := newRepository(t, memblob.OpenBucket(nil))
	m := backup(t, r, "b", nil, ordersAndPayments(0, 40)...)
	ref := shardOf(t, r, m).Segments[0]
	a, err := r.OpenSegment(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := r.OpenSegment(t.Context(), ref); err != nil || a != b {
		t.Errorf("it was opened again: %v", err)
	}
	// It is bounded: many segments push the first one out.
	var c segmentCache
	var opened atomic.Int32
	get := func(i int) {
		s, err := c.get(t.Context(), SegmentRef{Key: fmt.Sprint(i)}, func(context.Context) (*Segment, error) {
			opened.Add(1)
			return &Segment{Index: SegmentIndex{Partitions: []SegmentPartition{{Blocks: make([]Block, cachedBlocks/10)}}}}, nil
		})
		if err != nil || s == nil {
			t.Error(err)
		}
		if c.blocks > cachedBlocks {
			t.Errorf("%d blocks are kept", c.blocks)
		}
	}
	for i := range 20 {
		get(i)
	}
	get(19)
	if n := opened.Load(); n != 20 {
		t.Errorf("%d were opened, want 20", n)
	}
	get(0)
	if n := opened.Load(); n != 21 {
		t.Errorf("%d were opened, want 21: the first should be gone", n)
	}
	if len(c.entries) != c.order.Len() || len(c.entries) > 10 {
		t.Errorf("%d entries, %d in order", len(c.entries), c.order.Len())
	}
	// A failure is not kept, and nobody gets another's failure.
	if _, err := c.get(t.Context(), SegmentRef{Key: "bad"}, func(context.Context) (*Segment, error) { return nil, io.ErrUnexpectedEOF }); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
	if _, err := c.get(t.Context(), SegmentRef{Key: "bad"}, func(context.Context) (*Segment, error) { return &Segment{}, nil }); err != nil {
		t.Error(err)
	}
	// Who asks for one that is being opened waits for it.
	var all sync.WaitGroup
	var once atomic.Int32
	for range 8 {
		all.Go(func() {
			c.get(t.Context(), SegmentRef{Key: "same"}, func(context.Context) (*Segment, error) {
				once.Add(1)
				return &Segment{}, nil
			})
		})
	}
	all.Wait()
	if n := once.Load(); n != 1 {
		t.Errorf("it was opened %d times", n)
	}
}
