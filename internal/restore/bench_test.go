package restore

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"gocloud.dev/blob/memblob"
	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// BenchmarkMerge places 64 MB of 1 KB records, of 4 partitions, into 12.
func BenchmarkMerge(b *testing.B) {
	for _, codec := range []recordbatch.Codec{recordbatch.None, recordbatch.Zstd} {
		b.Run(codec.String(), func(b *testing.B) {
			repo, err := repository.Create(b.Context(), memblob.OpenBucket(nil))
			if err != nil {
				b.Fatal(err)
			}
			mg, segments := keyedTopic(b, repo, codec)
			f := &Filler{Repository: repo}
			b.SetBytes(64 << 20)
			b.ReportAllocs()
			for b.Loop() {
				mem := newMemory(24 << 20)
				p := newPass(b.Context(), mg, f.mergeSources(&Plan{}, segments, mg), shape{maxBatch: recordbatch.DefaultMaxBatchBytes, join: 1 << 20}, mem, 64<<20)
				var g errgroup.Group
				for _, s := range p.streams {
					g.Go(func() error {
						if err := s.Seek(b.Context(), 0); err != nil {
							return err
						}
						for {
							load, err := s.Next(b.Context())
							if err == io.EOF {
								return nil
							}
							if err != nil {
								return err
							}
							load.Release(true)
						}
					})
				}
				if err := g.Wait(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func keyedTopic(b *testing.B, repo *repository.Repository, codec recordbatch.Codec) (*Merge, []repository.SegmentRef) {
	const partitions, blocks, batchRecords = 4, 16, 500
	random := rand.New(rand.NewPCG(1, 2))
	w, err := repo.NewSegment(b.Context(), "b", 0, 0)
	if err != nil {
		b.Fatal(err)
	}
	enc, err := recordbatch.NewEncoder(recordbatch.EncoderConfig{Codec: codec})
	if err != nil {
		b.Fatal(err)
	}
	mg := &Merge{Source: "a", SourceID: "x", Target: "b", Partitions: 12}
	mg.From = make([]repository.Partition, partitions)
	table := make([]repository.SegmentPartition, partitions)
	var sums [partitions]repository.Slice
	for n := range blocks {
		for p := range partitions {
			tp := repository.TopicPartition{Topic: "a", TopicID: "x", Partition: int32(p)}
			var block repository.Block
			var raws [][]byte
			for half := range 2 {
				for i := range batchRecords {
					value := fmt.Appendf(nil, `{"id":%d,"customer":"%016x","note":"`, i, random.Uint64())
					for len(value) < 1000 {
						value = fmt.Appendf(value, "%08x paid in euros, thank you. ", random.Uint32())
					}
					enc.Append(&recordbatch.Record{Timestamp: int64(n), Key: fmt.Appendf(nil, "key-%d", random.IntN(1000)), Value: value})
				}
				raw, err := enc.Flush(nil)
				if err != nil {
					b.Fatal(err)
				}
				binary.BigEndian.PutUint64(raw, uint64((2*n+half)*batchRecords)) // base offset
				block.AddBatch(raw)
				raws = append(raws, raw)
			}
			stored, err := repository.EncodeBlock(repository.CodecZstd, 1, raws...)
			if err != nil {
				b.Fatal(err)
			}
			block.SetEncoded(stored)
			if err := w.Append(tp, block, stored.Stored...); err != nil {
				b.Fatal(err)
			}
			sums[p].AddBlocks(block)
			table[p] = repository.SegmentPartition{TopicPartition: tp, NextOffset: block.LastOffset + 1}
		}
	}
	ref, err := w.Close(table)
	if err != nil {
		b.Fatal(err)
	}
	for p := range partitions {
		mg.From[p] = repository.Partition{Partition: int32(p), FirstOffset: -1, LastOffset: -1}
		mg.From[p].AddSlice(sums[p])
	}
	return mg, []repository.SegmentRef{ref}
}
