package activities

import (
	"context"
	"sync/atomic"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
)

// DeleteSnapshotRequest names a snapshot to be deleted.
type DeleteSnapshotRequest struct {
	Requested
	Storage config.Storage `json:"storage"`
	ID      string         `json:"snapshot_id"`
}

// DeleteSnapshot deletes a snapshot.
func (*Offsets) DeleteSnapshot(ctx context.Context, req DeleteSnapshotRequest) (SnapshotReport, error) {
	return step(ctx, true, func(ctx context.Context) (SnapshotReport, error) {
		bucket, err := storage.Open(ctx, req.Storage)
		if err != nil {
			return SnapshotReport{}, err
		}
		defer bucket.Close()
		repo, err := repository.Open(ctx, bucket)
		if err != nil {
			return SnapshotReport{}, err
		}
		return SnapshotReport{ID: req.ID, Deleted: true}, offsets.DeleteSnapshot(ctx, repo, req.ID)
	})
}

// counter counts from several goroutines.
type counter struct{ n atomic.Int64 }

func (c *counter) add(n int) int64 { return c.n.Add(int64(n)) }
