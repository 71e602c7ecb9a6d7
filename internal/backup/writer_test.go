package backup

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// oneBatch is a batch of one record of n bytes at an offset.
func oneBatch(t *testing.T, offset int64, n int) recordbatch.Batch {
	t.Helper()
	enc, err := recordbatch.NewEncoder(recordbatch.EncoderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	enc.Append(&recordbatch.Record{Value: make([]byte, n)})
	raw, err := enc.Flush(nil)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint64(raw, uint64(offset))
	return raw
}

// However many answers wait for memory when a segment cannot be written, all
// of them are told.
func TestNobodyWaitsForAWriterThatFailed(t *testing.T) {
	repo, err := repository.Create(t.Context(), memblob.OpenBucket(nil))
	if err != nil {
		t.Fatal(err)
	}
	// Another attempt was first.
	other, err := repo.NewSegment(t.Context(), "b", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Close(nil); err != nil {
		t.Fatal(err)
	}
	var o config.Backup
	config.SetDefaults(&o)
	o.FetchMaxBytes, o.BlockMaxBytes, o.SegmentMaxBytes = 1000, 1000, 4000
	const lanes = 4
	r := &run{backupID: "b", plan: &PlanPart{}}
	for i := range int32(lanes) {
		r.partitions = append(r.partitions, &partition{TopicPartition: repository.TopicPartition{Topic: "a", Partition: i}, entry: repository.Partition{End: 1 << 40}})
	}
	w := newWriter(t.Context(), &Copier{Repository: repo, Options: o}, r)
	ran := make(chan error, 1)
	go func() { ran <- w.run() }()
	told := make(chan error, lanes)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for i := range lanes {
		go func() {
			for offset := int64(0); ; offset++ {
				b := oneBatch(t, offset, 900)
				if err := w.take(ctx, transfer.Chunk{Index: i, Batches: []recordbatch.Batch{b}, Bytes: len(b), Next: offset + 1}); err != nil {
					told <- err
					return
				}
			}
		}()
	}
	for range lanes {
		if err := <-told; !errors.Is(err, repository.ErrExists) {
			t.Errorf("got %v, want that the segment exists", err)
		}
	}
	w.finish(true)
	if err := <-ran; !errors.Is(err, repository.ErrExists) {
		t.Errorf("run: %v", err)
	}
}
