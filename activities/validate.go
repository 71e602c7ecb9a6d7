package activities

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
)

// ValidateRequest is which backup to check, and how thoroughly.
type ValidateRequest struct {
	Requested
	Storage config.Storage `json:"storage"`
	// BackupID is the backup; empty is the newest one that is complete
	// ([Validate.NewestBackup]).
	BackupID string `json:"backup_id,omitempty"`
	// Deep reads every block and record; otherwise documents and indexes are
	// checked.
	Deep bool `json:"deep,omitempty"`
	// Concurrency is how many segments are read beside each other; 0 means 4.
	Concurrency int `json:"concurrency,omitempty"`
}

// ValidateReport is what was found. Of many problems only the first are named.
type ValidateReport struct {
	repository.Report
}

// maxReportedProblems is how many problems a report names: it goes into the
// workflow's history.
const maxReportedProblems = 20

// Problem says in one line what is wrong; empty when nothing is.
func (r *ValidateReport) Problem() string {
	if r.OK() {
		return ""
	}
	text := fmt.Sprintf("backup %s is damaged: %d problems", r.BackupID, r.ProblemCount)
	if len(r.Problems) > 0 {
		p := r.Problems[0]
		text += fmt.Sprintf("; the first: %s %s: %s", p.Kind, p.Key, p.Detail)
	}
	return text
}

// Validate are the activities of the Validate workflow.
type Validate struct{}

// NewestBackup is the id of the newest complete backup of a repository.
func (*Validate) NewestBackup(ctx context.Context, where config.Storage) (string, error) {
	return step(ctx, true, func(ctx context.Context) (string, error) {
		bucket, err := storage.Open(ctx, where)
		if err != nil {
			return "", err
		}
		defer bucket.Close()
		repo, err := repository.Open(ctx, bucket)
		if err != nil {
			return "", err
		}
		latest, err := repo.LatestBackup(ctx)
		if err == nil && latest == nil {
			err = fmt.Errorf("%s has no complete backup to check: %w", storage.Describe(where), repository.ErrNotFound)
		}
		if err != nil {
			return "", err
		}
		return latest.BackupID, nil
	})
}

// ValidateBackup checks a backup, from where an earlier check was stopped. That
// it is damaged is a report and no error. When it is told to stop, the details
// of the cancellation are an [Amount] and the place that it reached.
func (*Validate) ValidateBackup(ctx context.Context, req ValidateRequest, from repository.Checked) (ValidateReport, error) {
	ctx, cancel := draining(ctx)
	defer cancel()
	if c := earlier(ctx).Checked; c != nil && c.Shards > from.Shards {
		from = *c
	}
	report, stop := beating(ctx)
	defer stop()
	found, err := validate(ctx, req, &from, report)
	if err = classify(ctx, err, false); errors.Is(err, context.Canceled) {
		err = temporal.NewCanceledError(checkedAmount(&from.Report), from)
	}
	return found, err
}

func checkedAmount(r *repository.Report) Amount {
	return Amount{Records: r.Records, Bytes: r.Bytes, Partitions: r.Partitions}
}

// validate checks a backup from a place, and moves that on.
func validate(ctx context.Context, req ValidateRequest, from *repository.Checked, report func(Watermark)) (ValidateReport, error) {
	bucket, err := storage.Open(ctx, req.Storage)
	if err != nil {
		return ValidateReport{}, err
	}
	defer bucket.Close()
	repo, err := repository.Open(ctx, bucket)
	if err != nil {
		return ValidateReport{}, err
	}
	activity.GetLogger(ctx).Info("Checking a backup", "backup_id", req.BackupID, "deep", req.Deep)
	began := *from
	reached := &began // where heartbeats point to does not change
	found, err := repo.Validate(ctx, req.BackupID, repository.ValidateOptions{Deep: req.Deep, Concurrency: req.Concurrency, From: *from,
		Progress: func(r *repository.Report) { report(Watermark{Done: checkedAmount(r), Checked: reached}) },
		Reached: func(c repository.Checked) {
			c.Report.Problems = c.Report.Problems[:min(len(c.Report.Problems), maxReportedProblems)]
			*from, reached = c, &c
		}})
	if err != nil {
		return ValidateReport{}, err
	}
	found.Problems = found.Problems[:min(len(found.Problems), maxReportedProblems)]
	return ValidateReport{*found}, nil
}
