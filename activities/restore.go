package activities

import (
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// RestoreRequest is what to restore, where to, and how.
type RestoreRequest struct {
	BackupID string         `json:"backup_id"`
	Target   config.Cluster `json:"target"`
	Storage  config.Storage `json:"storage"`
	Options  config.Restore `json:"options"`
}

// RestorePlan is a planned restore. The plan itself is in the repository.
type RestorePlan struct {
	Key       string `json:"key"`
	Digest    string `json:"digest"`
	ClusterID string `json:"cluster_id"` // of the target
	Topics    int    `json:"topics"`
	Create    int    `json:"create"` // topics to be created
	Groups    int    `json:"groups"` // consumer groups whose offsets are to be set
	Parts     int    `json:"parts"`
	Total     Amount `json:"total"`
	// Warnings are what a person should know before it is carried out.
	Warnings []string `json:"warnings,omitempty"`
}

// RestoreReport is what a restore did.
type RestoreReport struct {
	BackupID   string    `json:"backup_id"`
	ClusterID  string    `json:"cluster_id"`
	DryRun     bool      `json:"dry_run,omitempty"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Topics     int       `json:"topics"`
	Created    int       `json:"topics_created"`
	Total      Amount    `json:"total"`
	// Plan, Mapping and Report are keys of objects in the repository.
	Plan    string `json:"plan"`
	Mapping string `json:"mapping,omitempty"`
	// Groups whose offsets were set and read back; Failed those that could
	// not be, with the reason (a few; all are in the report object).
	Groups       int           `json:"groups"`
	GroupOffsets int           `json:"group_offsets"` // committed offsets set
	Failed       []GroupFailed `json:"groups_failed,omitempty"`
	Warnings     []string      `json:"warnings,omitempty"`
}

// Partly tells whether something that was asked for is missing.
func (r *RestoreReport) Partly() bool { return len(r.Failed) > 0 }

// GroupFailed is a consumer group whose offsets could not be set.
type GroupFailed struct {
	Group     string `json:"group"`
	Topic     string `json:"topic,omitempty"`
	Partition int32  `json:"partition"`
	Error     string `json:"error"`
}

// Restore are the activities of the Restore workflow.
type Restore struct{}
