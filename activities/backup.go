package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/backup"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/telemetry"
)

// BackupRequest is what to back up, where to, and how.
type BackupRequest struct {
	Requested
	BackupID string         `json:"backup_id"`
	Source   config.Cluster `json:"source"`
	Storage  config.Storage `json:"storage"`
	Options  config.Backup  `json:"options"`
	// Previous is the backup to add to, for the topics it is about and if it
	// still exists; for all else it is the cluster's newest.
	Previous string `json:"previous,omitempty"`
}

// BackupPlan is a planned backup. The plan itself is in the repository.
type BackupPlan struct {
	Key       string `json:"key"`    // of the plan document
	Digest    string `json:"digest"` // of what the backup is to hold
	ClusterID string `json:"cluster_id"`
	Previous  string `json:"previous,omitempty"` // the backups that this one adds to, for people
	Topics    int    `json:"topics"`
	Parts     int    `json:"parts"`
	// Total is what there is to copy; its records are counted as offsets,
	// which compaction and transactions may leave partly unused.
	Total Amount `json:"total"`
	// Complete: an earlier run has made this backup, and there is nothing left to do.
	Complete bool `json:"complete,omitempty"`
}

// Proposal is the plan as it is put to an approver.
func (p *BackupPlan) Proposal(req BackupRequest) Proposal {
	previous := p.Previous
	if previous == "" {
		previous = "none: everything is copied"
	}
	return Proposal{
		Key: p.Key, Digest: p.Digest,
		Summary: fmt.Sprintf("copy %s with %s, %s, as backup %s", render.Number(p.Topics, "topic"),
			render.Number(p.Total.Partitions, "partition"), render.Bytes(p.Total.Bytes), req.BackupID),
		Facts: []Fact{
			{"Source cluster", p.ClusterID}, {"Adds to", previous}, {"Topics", render.Count(int64(p.Topics))},
			{"Partitions", render.Count(p.Total.Partitions)}, {"Offsets", render.Count(p.Total.Records)}, {"Bytes", render.Bytes(p.Total.Bytes)},
		},
	}
}

// BackupReport is what a finished backup holds.
type BackupReport struct {
	BackupID   string    `json:"backup_id"`
	Manifest   string    `json:"manifest"` // its key
	ClusterID  string    `json:"cluster_id"`
	Previous   string    `json:"previous,omitempty"` // for people
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Topics     int       `json:"topics"`
	Groups     int       `json:"groups"`
	Total      Amount    `json:"total"` // of the whole backup
	New        Amount    `json:"new"`   // what this run copied
	Stored     int64     `json:"stored_bytes"`
	NewStored  int64     `json:"new_stored_bytes"`
	Gaps       int       `json:"gaps"`
	Warnings   []string  `json:"warnings,omitempty"`
	// Approval is who approved it; nil where no approval was required.
	Approval *Decision `json:"approval,omitempty"`
}

// Backup are the activities of the Backup workflow.
type Backup struct{}

// PlanBackup decides what is copied, and begins the backup with that plan.
// Called again it adopts the plan that is there.
func (*Backup) PlanBackup(ctx context.Context, req BackupRequest) (BackupPlan, error) {
	return planBackup(ctx, req, func(ctx context.Context, c *kafka.Cluster, repo *repository.Repository, r backup.Request) (*backup.Plan, repository.ObjectRef, error) {
		return backup.MakePlan(ctx, c, repo, r)
	})
}

// ProposeBackup decides what would be copied. Each round looks at the cluster
// anew, unless the backup was begun already. Until [Backup.BeginBackup] nothing
// of it stands in the way of another plan for the same backup id.
func (*Backup) ProposeBackup(ctx context.Context, req BackupRequest, round int) (BackupPlan, error) {
	return planBackup(ctx, req, func(ctx context.Context, c *kafka.Cluster, repo *repository.Repository, r backup.Request) (*backup.Plan, repository.ObjectRef, error) {
		run := activity.GetInfo(ctx).WorkflowExecution
		// A continuous backup proposes for several backup ids, one after the other.
		return backup.Propose(ctx, c, repo, r, repository.OperationKey(run.ID, fmt.Sprintf("%s/%s/plan-%d.json", run.RunID, r.BackupID, round)))
	})
}

// BeginBackup begins a backup with the plan that was proposed and approved.
func (*Backup) BeginBackup(ctx context.Context, req BackupRequest, plan BackupPlan) (BackupPlan, error) {
	return planBackup(ctx, req, func(ctx context.Context, _ *kafka.Cluster, repo *repository.Repository, _ backup.Request) (*backup.Plan, repository.ObjectRef, error) {
		return backup.Begin(ctx, repo, plan.Key)
	})
}

// planBackup makes a plan in one of these ways.
func planBackup(ctx context.Context, req BackupRequest, way func(context.Context, *kafka.Cluster, *repository.Repository, backup.Request) (*backup.Plan, repository.ObjectRef, error)) (BackupPlan, error) {
	return step(ctx, true, func(ctx context.Context) (BackupPlan, error) {
		cluster, repo, done, err := open(ctx, req.Source, req.Storage, repository.OpenOrCreate)
		if err != nil {
			return BackupPlan{}, err
		}
		defer done()
		plan, ref, err := way(ctx, cluster, repo, backup.Request{
			BackupID: req.BackupID, WorkflowID: activity.GetInfo(ctx).WorkflowExecution.ID, Topics: req.Source.Topics, Options: req.Options,
			Previous: req.Previous,
		})
		if err != nil {
			return BackupPlan{}, err
		}
		complete, err := repo.Exists(ctx, repository.ManifestKey(req.BackupID))
		if err != nil {
			return BackupPlan{}, err
		}
		return BackupPlan{
			Key: ref.Key, Digest: plan.Content, ClusterID: plan.ClusterID, Previous: render.List(plan.Previous, 3), Topics: plan.Topics,
			Parts: len(plan.Parts), Total: Amount{Records: plan.Offsets, Bytes: plan.Bytes, Partitions: plan.Partitions}, Complete: complete,
		}, nil
	})
}

// CopyPart copies one part of the plan.
func (*Backup) CopyPart(ctx context.Context, req BackupRequest, plan BackupPlan, part int) (Amount, error) {
	return transferring(ctx, func(ctx context.Context, report func(Watermark)) (Amount, error) {
		copied, err := copyPart(ctx, req, plan, part, time.Time{}, report)
		return Amount(copied.Amount), err
	})
}

// CompleteBackup captures the consumer groups and writes the manifest.
func (*Backup) CompleteBackup(ctx context.Context, req BackupRequest, plan BackupPlan) (BackupReport, error) {
	return step(ctx, false, func(ctx context.Context) (BackupReport, error) {
		cluster, repo, done, err := open(ctx, req.Source, req.Storage, repository.Open)
		if err != nil {
			return BackupReport{}, err
		}
		defer done()
		p, err := backup.ReadPlan(ctx, repo, req.BackupID)
		if err != nil {
			return BackupReport{}, err
		}
		m, err := backup.Complete(ctx, cluster, repo, p, req.Options.ConsumerGroups, req.Options.IncludeConsumerGroups)
		if err != nil {
			return BackupReport{}, err
		}
		t := m.Totals
		warnings := m.Warnings
		if plan.Complete {
			warnings = append([]string{fmt.Sprintf("backup %s was complete already, since %s: nothing was read, and nothing newer is in it. For another backup give another id, as in nightly-{{date}}",
				m.BackupID, render.Time(m.FinishedAt))}, warnings...)
		}
		return BackupReport{
			BackupID: m.BackupID, Manifest: repository.ManifestKey(m.BackupID), ClusterID: m.ClusterID, Previous: render.List(m.Previous, 3),
			StartedAt: m.CreatedAt, FinishedAt: m.FinishedAt, Topics: t.Topics, Groups: t.Groups,
			Total:  Amount{Records: t.Records, Bytes: t.Bytes, Partitions: int64(t.Partitions)},
			New:    Amount{Records: t.NewRecords, Bytes: t.NewBytes, Partitions: int64(t.Partitions)},
			Stored: t.StoredBytes, NewStored: t.NewStoredBytes, Gaps: t.Gaps, Warnings: warnings[:min(len(warnings), 50)],
		}, nil
	})
}

// step runs a short activity: it keeps the heartbeat going and gives errors
// their class. beginning: nothing has been changed yet.
func step[T any](ctx context.Context, beginning bool, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := draining(ctx)
	defer cancel()
	_, stop := beating(ctx)
	defer stop()
	v, err := do(ctx)
	return v, classify(ctx, err, beginning)
}

// transferring runs an activity that moves data.
func transferring(ctx context.Context, do func(context.Context, func(Watermark)) (Amount, error)) (Amount, error) {
	ctx, cancel := draining(ctx)
	defer cancel()
	report, stop := beating(ctx)
	defer stop()
	did, err := do(ctx, report)
	// What was done before it stopped goes with the error.
	var app *temporal.ApplicationError
	if err = classify(ctx, err, false); errors.Is(err, context.Canceled) {
		err = temporal.NewCanceledError(did)
	} else if errors.As(err, &app) {
		err = temporal.NewApplicationErrorWithOptions(app.Message(), app.Type(), temporal.ApplicationErrorOptions{
			NonRetryable: app.NonRetryable(), Category: app.Category(), Details: []any{did},
		})
	}
	if err == nil {
		telemetry.Log(ctx).Info("Part done", "records", did.Records, "bytes", did.Bytes, "partitions", did.Partitions)
	}
	return did, err
}

// open connects to a cluster and opens a repository.
func open(ctx context.Context, c config.Cluster, s config.Storage, how func(context.Context, *blob.Bucket) (*repository.Repository, error)) (*kafka.Cluster, *repository.Repository, func(), error) {
	bucket, err := storage.Open(ctx, s)
	if err != nil {
		return nil, nil, nil, err
	}
	// The cluster first: a repository that does not exist yet is not made for a
	// wrong address.
	cluster, err := kafka.Connect(ctx, c)
	if err != nil {
		bucket.Close()
		return nil, nil, nil, err
	}
	repo, err := how(ctx, bucket)
	if err != nil {
		cluster.Close()
		bucket.Close()
		return nil, nil, nil, fmt.Errorf("%s: %w", storage.Describe(s), err)
	}
	return cluster, repo, func() { cluster.Close(); bucket.Close() }, nil
}
