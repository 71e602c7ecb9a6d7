package repository

import (
	"context"
	"fmt"
	"time"
)

// formatManifest is the "format" of a manifest.
const formatManifest = "kafka-backup/manifest"

// Manifest makes a backup complete, and names all it consists of (docs/FORMAT.md, "Manifest").
type Manifest struct {
	// Format is "kafka-backup/manifest"; WriteManifest sets it.
	Format string `json:"format"`
	// Version of the layout; WriteManifest sets it.
	Version int `json:"version"`
	// BackupID names the backup (CheckID).
	BackupID string `json:"backup_id"`
	// RepositoryID is the id in repository.json; WriteManifest sets it.
	RepositoryID string `json:"repository_id"`
	// ClusterID is the source cluster's id (Metadata API), empty when it has none.
	ClusterID string `json:"cluster_id"`
	// CreatedAt is when the run was planned, FinishedAt when it was complete, UTC.
	CreatedAt  time.Time `json:"created_at"`
	FinishedAt time.Time `json:"finished_at"`
	// Selection is which topics were to be in it; nil: not known.
	Selection *Selection `json:"selection,omitempty"`
	// Previous are the backups whose segments this one went on from, the newest first.
	Previous []string `json:"previous,omitempty"`
	// WorkflowID is the Temporal workflow that made the backup, empty when none did.
	WorkflowID string `json:"workflow_id,omitempty"`
	// ToolVersion is the version of kafka-backup that made it.
	ToolVersion string `json:"tool_version"`
	// Totals of the whole backup.
	Totals Totals `json:"totals"`
	// Index names the index shards, in the order of their parts.
	Index []ObjectRef `json:"index"`
	// Groups names the capture of the consumer groups, nil when none was made.
	Groups *ObjectRef `json:"groups,omitempty"`
	// Warnings are what the user should know about this backup, in plain words.
	Warnings []string `json:"warnings,omitempty"`
}

// Selection says which topics a backup is about. What it takes in and is not in the backup was not in
// the cluster.
type Selection struct {
	// Include and Exclude are names, and patterns with * and ?. No include is every topic that is not
	// internal to Kafka.
	Include []string `json:"include,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
	// Internal: internal topics too, and not only those that Include names.
	Internal bool `json:"internal,omitempty"`
}

// Totals are sums over a backup; Tally makes them.
type Totals struct {
	Topics     int   `json:"topics"`
	Partitions int   `json:"partitions"`
	Segments   int   `json:"segments"`
	Records    int64 `json:"records"`
	// Bytes of the record batches in Kafka's own format.
	Bytes int64 `json:"bytes"`
	// StoredBytes are the sizes of the segments, whole, however much of them the backup uses.
	StoredBytes int64 `json:"stored_bytes"`
	// What this run added: segments that it wrote, and in them records that no earlier backup had.
	NewSegments    int   `json:"new_segments"`
	NewRecords     int64 `json:"new_records"`
	NewBytes       int64 `json:"new_bytes"`
	NewStoredBytes int64 `json:"new_stored_bytes"`
	// MinBaseTimestamp and MaxTimestamp of all batches, in ms since 1970; 0 when there are no records.
	MinBaseTimestamp int64 `json:"min_base_timestamp"`
	MaxTimestamp     int64 `json:"max_timestamp"`
	// Gaps counts the gaps of all partitions.
	Gaps int `json:"gaps"`
	// Groups counts the consumer groups captured at the end, or at the start when there is no other.
	Groups int `json:"groups"`
}

// WriteManifest completes a backup. It sets Format, Version and RepositoryID. ErrExists when the
// backup is complete already: read that manifest then.
func (r *Repository) WriteManifest(ctx context.Context, m *Manifest) (ObjectRef, error) {
	if err := CheckID(m.BackupID); err != nil {
		return ObjectRef{}, fmt.Errorf("write manifest: %w", err)
	}
	m.Format, m.Version, m.RepositoryID = formatManifest, FormatVersion, r.ID()
	ref, err := r.CreateDocument(ctx, ManifestKey(m.BackupID), m)
	if err != nil {
		return ObjectRef{}, fmt.Errorf("write manifest of backup %q: %w", m.BackupID, err)
	}
	return ref, nil
}

// ReadManifest reads and checks the manifest of a backup. ErrNotFound when there is no such backup
// or it is not complete; *CorruptError; ErrVersion.
func (r *Repository) ReadManifest(ctx context.Context, backupID string) (*Manifest, error) {
	if err := CheckID(backupID); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	m := new(Manifest)
	key := ManifestKey(backupID)
	if _, err := r.ReadDocument(ctx, key, m); err != nil {
		return nil, fmt.Errorf("read manifest of backup %q: %w", backupID, err)
	}
	if err := checkFormat(key, m.Format, formatManifest, m.Version); err != nil {
		return nil, fmt.Errorf("read manifest of backup %q: %w", backupID, err)
	}
	if m.BackupID != backupID {
		return nil, &CorruptError{Key: key, Detail: "backup id", Want: backupID, Got: m.BackupID}
	}
	return m, nil
}
