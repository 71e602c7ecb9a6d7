// Package prune removes backups that a retention policy does not keep, and
// what no backup needs any more.
//
// Invariants:
//   - Nothing that a remaining manifest names is removed, wherever a prune is
//     cut off and whatever runs beside it. A backup is first marked, then its
//     manifest is dropped, then what no manifest names is swept; each prune
//     goes on with the marks that it finds.
//   - Never dropped are the newest complete backup of a cluster, and of each
//     selection of its topics, a backup that a running operation uses, one
//     that an unfinished backup adds to, one that has a hold, and one whose
//     manifest is locked by the store.
//   - A mark on a complete backup is taken off only by the prune that made it,
//     or when it is old: so a hold is not taken while another prune is about to
//     drop the backup, however many prunes run at once.
//   - The id of a backup that was given up cannot be used before nothing is
//     left of it.
//   - What cannot be told is not removed: a manifest or index that cannot be
//     read stops it, and while an operation does not say which backup it uses
//     everything stays.
package prune

import (
	"time"

	"github.com/kafka-backup/kafka-backup/internal/retention"
)

// Options say what to prune.
type Options struct {
	Policy retention.Policy
	// Match, a pattern with * and ?, selects the backups that the policy is
	// about; empty is all. The others are kept.
	Match string
	// MinAge is how long an unfinished backup that is not running must have
	// been silent to count as given up, and how old any other object must be
	// that no backup names.
	MinAge time.Duration
}

// Operation is a running operation, on whichever repository.
type Operation struct {
	WorkflowID string
	// BackupID is the backup that it makes or uses; empty when it does not say.
	BackupID string
}
