package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
)

// DeleteSnapshotRequest names a snapshot to be deleted.
type DeleteSnapshotRequest struct {
	Requested
	Storage config.Storage `json:"storage"`
	ID      string         `json:"snapshot_id"`
}

// PlanDeletion says what a snapshot holds that is to be deleted.
func (*Offsets) PlanDeletion(ctx context.Context, req DeleteSnapshotRequest) (Proposal, error) {
	return step(ctx, true, func(ctx context.Context) (Proposal, error) {
		bucket, err := storage.Open(ctx, req.Storage)
		if err != nil {
			return Proposal{}, err
		}
		defer bucket.Close()
		repo, err := repository.Open(ctx, bucket)
		if err != nil {
			return Proposal{}, err
		}
		s, err := offsets.FindSnapshot(ctx, repo, req.ID)
		p := Proposal{Key: repository.SnapshotKey(req.ID), Summary: "delete " + req.ID}
		if err == nil {
			p.Summary += fmt.Sprintf(" of %s, with %s", render.Number(s.Groups, "consumer group"), render.Number(s.Partitions, "committed offset"))
			p.Facts = []Fact{{"Taken", render.Time(s.CreatedAt)}, {"Cluster", s.ClusterID}, {"Description", s.Description}}
			err = s.Check(ctx, repo)
		}
		if errors.Is(err, repository.ErrCorrupt) {
			p.Warnings = []string{"it is damaged: " + err.Error()}
		} else if err != nil {
			return Proposal{}, err
		}
		text, err := json.Marshal(s)
		if err != nil {
			return Proposal{}, err
		}
		sum := sha256.Sum256(append(text, req.ID...))
		p.Digest = hex.EncodeToString(sum[:])
		return p, nil
	})
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
