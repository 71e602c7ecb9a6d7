package activities

import (
	"context"
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

// Report begins the report of a restore that follows the plan.
func (p *RestorePlan) Report(req RestoreRequest) RestoreReport {
	return RestoreReport{BackupID: req.BackupID, ClusterID: p.ClusterID, Topics: p.Topics, Plan: p.Key, Warnings: p.Warnings}
}

// RestoreTargets are the target topics, ready to be filled.
type RestoreTargets struct {
	Created int `json:"created"` // topics that this restore created
}

// RestoredRecords is the outcome of the restore phase.
type RestoredRecords struct {
	Created  int      `json:"created"`
	Total    Amount   `json:"total"`
	Mapping  string   `json:"mapping"` // key of the offset mapping
	Warnings []string `json:"warnings,omitempty"`
}

// ReleasedTargets says what putting the topic configurations back brings.
type ReleasedTargets struct {
	Warnings []string `json:"warnings,omitempty"`
}

// OffsetSnapshot names a snapshot of the groups' offsets in the repository.
type OffsetSnapshot struct {
	Key string `json:"key"`
}

// ResetOffsets is the outcome of the reset phase.
type ResetOffsets struct {
	Groups   int           `json:"groups"`  // whose offsets were all set and read back
	Offsets  int           `json:"offsets"` // committed offsets set
	Failed   []GroupFailed `json:"failed,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
}

// PlanRestore decides what is restored where, checks all that can be checked,
// and writes the plan. It changes nothing on the target.
func (*Restore) PlanRestore(ctx context.Context, req RestoreRequest) (RestorePlan, error) {
	panic("not yet")
}

// PrepareTargets creates the target topics, holds retention and compaction
// off, takes the restore's producer id and fixes where each partition begins.
func (*Restore) PrepareTargets(ctx context.Context, req RestoreRequest, plan RestorePlan) (RestoreTargets, error) {
	panic("not yet")
}

// RestorePart produces one part of the plan.
func (*Restore) RestorePart(ctx context.Context, req RestoreRequest, plan RestorePlan, part int) (Amount, error) {
	panic("not yet")
}

// MapOffsets checks that the targets hold what the plan says and writes the
// offset mapping.
func (*Restore) MapOffsets(ctx context.Context, req RestoreRequest, plan RestorePlan) (RestoredRecords, error) {
	panic("not yet")
}

// ReleaseTargets puts the captured topic configurations back.
func (*Restore) ReleaseTargets(ctx context.Context, req RestoreRequest, plan RestorePlan, failed bool) (ReleasedTargets, error) {
	panic("not yet")
}

// SnapshotOffsets saves the groups' committed offsets on the target.
func (*Restore) SnapshotOffsets(ctx context.Context, req RestoreRequest, plan RestorePlan) (OffsetSnapshot, error) {
	panic("not yet")
}

// ResetOffsets sets the groups' committed offsets through the mapping and
// reads them back.
func (*Restore) ResetOffsets(ctx context.Context, req RestoreRequest, plan RestorePlan, data RestoredRecords, snapshot OffsetSnapshot) (ResetOffsets, error) {
	panic("not yet")
}

// RestoreOffsets puts a snapshot of the groups' offsets back.
func (*Restore) RestoreOffsets(ctx context.Context, req RestoreRequest, plan RestorePlan, snapshot OffsetSnapshot) error {
	panic("not yet")
}
