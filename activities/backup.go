package activities

import (
	"context"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// BackupRequest is what to back up, where to, and how.
type BackupRequest struct {
	BackupID string         `json:"backup_id"`
	Source   config.Cluster `json:"source"`
	Storage  config.Storage `json:"storage"`
	Options  config.Backup  `json:"options"`
}

// BackupPlan is a planned backup. The plan itself is in the repository.
type BackupPlan struct {
	Key       string `json:"key"`    // of the plan document
	Digest    string `json:"digest"` // its SHA-256
	ClusterID string `json:"cluster_id"`
	Previous  string `json:"previous,omitempty"` // the backup that this one adds to
	Topics    int    `json:"topics"`
	Parts     int    `json:"parts"`
	// Total is what there is to copy; its records are counted as offsets,
	// which compaction and transactions may leave partly unused.
	Total Amount `json:"total"`
}

// BackupReport is what a finished backup holds.
type BackupReport struct {
	BackupID   string    `json:"backup_id"`
	Manifest   string    `json:"manifest"` // its key
	ClusterID  string    `json:"cluster_id"`
	Previous   string    `json:"previous,omitempty"`
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
}

// Backup are the activities of the Backup workflow.
type Backup struct{}

// PlanBackup decides what is copied, and writes the plan. Called again it
// adopts the plan that is there.
func (*Backup) PlanBackup(ctx context.Context, req BackupRequest) (BackupPlan, error) {
	panic("not yet")
}

// CopyPart copies one part of the plan.
func (*Backup) CopyPart(ctx context.Context, req BackupRequest, plan BackupPlan, part int) (Amount, error) {
	panic("not yet")
}

// CompleteBackup captures the consumer groups and writes the manifest.
func (*Backup) CompleteBackup(ctx context.Context, req BackupRequest, plan BackupPlan) (BackupReport, error) {
	panic("not yet")
}
